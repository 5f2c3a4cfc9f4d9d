"""One key of the memory store, where its entries and those who wait for them meet.

Asking, changing and serving; every method takes the store's clock as `now`. Serving is the heart:
while the key is open and fewer than the cap are leased, the earliest waiter that some entry fits
gets it, by direct hand-over (B6). Each public method leaves nothing unserved that could be, so a
newcomer may have at once whatever fits it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from session_pool.model import FOREVER, Counts, Entry, PoolKey
from session_pool.space import (
    NO_NOTE,
    Done,
    Grant,
    Guard,
    NotDone,
    Note,
    Noted,
    Put,
    Refusal,
    Ticket,
    Want,
)
from session_pool.stores.deadlines import Deadlines
from session_pool.stores.entries import Entries
from session_pool.stores.rows import Row, blank, changed, leased, undone
from session_pool.stores.waiting import Waiter, Waiting, refusal

Need = Literal["new", "own", "room"]
Why = Literal["full", "closed", "note", "version", "withdrawn", "empty"]

TOMBSTONE_S: Final = 60.0
"""How long a withdrawn request stays refused: longer than any take can be on its way."""

_grant: Final[Callable[[type[Grant], tuple[object, ...]], Grant]] = tuple.__new__
_done: Final[Callable[[type[Done], tuple[object, ...]], Done]] = tuple.__new__
# Named tuples from all their fields in order, at half the price of calling them.


class Counter:
    """The entries and lines of one key.

    Args:
        key: whose.
        rows: the rows of all keys by entry id.
        deadlines: of all keys.
        ring: told the request of each waiter that should ask again; must not call back.
    """

    def __init__(
        self,
        key: PoolKey,
        rows: dict[str, Row],
        deadlines: Deadlines,
        ring: Callable[[str], None],
    ) -> None:
        self.key = key
        self.note_version = 0
        self.entries = Entries(key, rows)
        self.waiting = Waiting(self.entries.own, self._tell)
        self.counts = Counts(self.entries.count, 0, 0, {})
        self._rows = rows
        self._deadlines = deadlines
        self._ring = ring
        self._asking = ""
        self._cap = 0
        self._max_waiting = 0
        self._note = NO_NOTE
        self._note_since = 0.0
        self._open = True
        self._tombstones: dict[str, float] = {}
        self._place = 0

    # ------------------------------------------------------------------ asking

    def take(
        self,
        want: Want,
        request: str,
        now: float,
        patience_s: float,
        note_version: int,
        place: int | None,
        instead: Put | None,
    ) -> Grant | Ticket | Refusal:
        """See `Store.take`."""
        waiting = self.waiting
        if waiting.ends <= now:
            self.settle(now)
        cap = want.max_leased
        # Whether there may be something now that somebody in line should have before this one.
        freed = instead is not None or cap > self._cap
        self._cap, self._max_waiting = cap, want.max_waiting
        if instead is not None:
            self._put(instead, now)
        if not waiting.by_request:
            answer = self._arrive(want, request, now, patience_s, note_version, place, False)
            if type(answer) is Grant:
                return answer
        else:
            self._asking = request  # it is answered, and need not be rung
            waiter = waiting.by_request.get(request)
            if waiter is None:
                answer = self._arrive(want, request, now, patience_s, note_version, place, freed)
            else:
                answer = self._ask_again(waiter, now, patience_s, note_version, freed)
            self._asking = ""
        self.serve(now)
        return answer

    def _arrive(
        self,
        want: Want,
        request: str,
        now: float,
        patience_s: float,
        note_version: int,
        place: int | None,
        freed: bool,
    ) -> Grant | Ticket | Refusal:
        """A request that is not in line: served at once, refused, or given a place."""
        entries, waiting = self.entries, self.waiting
        if self._tombstones and self._tombstones.get(request, now) > now:
            return self._refuse("withdrawn", now)
        row = entries.leases.get(request)
        if row is not None:  # asked again, after the answer was lost
            alive = _alive(row, request, now)
            return self._granted(row, now) if alive else self._refuse("withdrawn", now)
        if not self._open:
            return self._refuse("closed", now)
        conversation, own, behind = want.conversation, None, False
        if conversation is not None:
            own, behind = entries.own(conversation), waiting.behind(conversation)
            verdict = refusal(want, own)
            if verdict is not None:
                return self._refuse(verdict, now)
        known = place is not None
        if place is None:
            self._place = place = self._place + 1
        if not freed and not behind and entries.count["leased"] < self._cap:
            row = entries.fitting(want, own, now)
            if row is not None:
                self._lease(row, want, request, place, now)
                return self._granted(row, now)
        waiter = Waiter(want, request, place, now)
        waiting.stand(waiter)
        if freed:
            self.serve(now)
            if waiter.row is not None:
                del waiting.by_request[request]
                return self._granted(waiter.row, now)
        why: Why | None = None
        if note_version != self.note_version:
            why = "note"
        elif patience_s <= 0:
            why = "empty"
        elif waiting.standing > self._max_waiting and not known:
            why = "full"
        need = self._need(conversation)
        if why is not None:
            self._leave(waiter, now)
            return self._refuse(why, now, need)
        waiting.be_patient(waiter, now + patience_s)
        return Ticket(place, need, self.counts, self.note_version)

    def _ask_again(
        self, waiter: Waiter, now: float, patience_s: float, note_version: int, freed: bool
    ) -> Grant | Ticket | Refusal:
        """A request that was in line says that it is there, or fetches what became of it."""
        waiting, want, row = self.waiting, waiter.want, waiter.row
        if row is not None and not _alive(row, waiter.request, now):
            # Its session was taken away, or lapsed before anybody saw it: back to its old place.
            waiter.row = None
            waiting.stand(waiter)
            if row.entry.lease == waiter.request:
                self._undo(row, now)
            freed = True
        if freed:
            self.serve(now)
        if waiter.row is not None:
            del waiting.by_request[waiter.request]
            return self._granted(waiter.row, now)
        need = self._need(want.conversation)
        own = self.entries.own(want.conversation)
        why: Why | None = waiter.verdict or refusal(want, own)
        if why is None and patience_s <= 0:
            why = "empty"
        if why is not None:
            self._leave(waiter, now)
            return self._refuse(why, now, need)
        waiting.be_patient(waiter, now + patience_s)
        if note_version != self.note_version:
            return self._refuse("note", now, need)
        return Ticket(waiter.place, need, self.counts, self.note_version)

    def withdraw(self, request: str, now: float) -> Counts:
        """See `Store.withdraw`."""
        waiting, tombstones = self.waiting, self._tombstones
        if waiting.ends <= now:
            self.settle(now)
        while tombstones and tombstones[oldest := next(iter(tombstones))] <= now:
            del tombstones[oldest]
        tombstones.pop(request, None)
        tombstones[request] = now + TOMBSTONE_S
        waiter, row = waiting.by_request.get(request), self.entries.leases.get(request)
        if waiter is not None:
            self._leave(waiter, now)
        elif row is not None:  # a hit whose answer nobody saw
            self._undo(row, now)
        self.serve(now)
        return self.counts

    def settle(self, now: float) -> None:
        """Silent waiters leave, grants that nobody came for are undone, and others get them."""
        for waiter in self.waiting.silent(now):
            self._leave(waiter, now)
        self.serve(now)

    # ------------------------------------------------------------------ serving

    def serve(self, now: float) -> None:
        """Grant what can be granted, the earliest first, and count who is left."""
        entries, waiting, counts = self.entries, self.waiting, self.counts
        while True:
            if waiting.vain:
                waiting.dismiss()
            if not (waiting.lines and self._open and entries.count["leased"] < self._cap):
                break
            best: Waiter | None = None
            found: Row | None = None
            for line in waiting.lines.values():
                head = line.head()
                if head is not None and (best is None or head.comes_before(best)):
                    row = entries.fitting(head.want, entries.own(head.want.conversation), now)
                    if row is not None:
                        best, found = head, row
            if best is None or found is None:
                break
            # In this order: those behind it in its conversation must see that it has a session.
            self._lease(found, best.want, best.request, best.place, now)
            waiting.step_out(best)
            best.row = found
            self._tell(best)
        counts.waiting = waiting.standing
        room = self._cap - entries.count["leased"]
        counts.new = max(0, min(waiting.wanting, room))

    def _lease(self, row: Row, want: Want, request: str, place: int, now: float) -> None:
        after = leased(row.entry, want, request, now)
        self.entries.lease(row, after)
        row.place = place
        if after.deadline < row.queued:
            self._deadlines.queue(row, after.deadline)
        if want.conversation is not None:
            self.waiting.promote(want.conversation)

    def _granted(self, row: Row, now: float) -> Grant:
        entry = row.entry
        before = self.entries.memory(entry.conversation)
        return _grant(Grant, (entry, row.place, before, now, self.counts, self.note_version))

    def _leave(self, waiter: Waiter, now: float) -> None:
        del self.waiting.by_request[waiter.request]
        row = waiter.row
        if row is None:
            if waiter.verdict is None:
                self.waiting.step_out(waiter)
        elif row.entry.lease == waiter.request:
            self._undo(row, now)

    def _undo(self, row: Row, now: float) -> None:
        if row.former is not None:
            self._set(row, undone(row.entry, row.former, now), moved=True)

    def _set(self, row: Row, after: Entry, *, moved: bool) -> None:
        before = row.entry.conversation
        self.entries.set(row, after, moved=moved)
        if after.deadline < row.queued:
            self._deadlines.queue(row, after.deadline)
        if self.waiting.by_request:
            self.waiting.promote(before)
            self.waiting.promote(after.conversation)

    def _need(self, conversation: str | None) -> Need:
        own = self.entries.own(conversation)
        if own is not None and own.entry.state != "parked":
            return "own"
        if self.entries.count["leased"] >= self._cap:
            return "room"
        return "new" if own is None else "own"

    def _refuse(self, why: Why, now: float, need: Need = "new") -> Refusal:
        return Refusal(why, self.counts, self.noted(now), need)

    def _tell(self, waiter: Waiter) -> None:
        if waiter.request != self._asking:
            self._ring(waiter.request)

    # ------------------------------------------------------------------ changing

    def put(self, put: Put, now: float) -> Done | NotDone:
        """See `Store.put`."""
        waiting = self.waiting
        if waiting.ends <= now:
            self.settle(now)
        answer = self._put(put, now)
        if waiting.by_request:
            self.serve(now)
        return answer

    def _put(self, put: Put, now: float) -> Done | NotDone:
        (
            _, entry_id, op, state, version, fence, _, _, expires_in_s, _, _, agent_version, pinned,
            _, guards, tally,
        ) = put  # fmt: skip
        row, counts = self._rows.get(entry_id), self.counts
        if row is None:
            if version is not None or fence is not None:
                return NotDone("absent", counts)
            entry = blank(entry_id, now)
        else:
            entry = row.entry
            if row.key is not self.key:
                return NotDone("absent", counts)
            if entry.op == op:
                return Done(entry, counts)
            if fence is not None:
                if entry.fence != fence or entry.state != "leased":
                    return NotDone("changed", counts)
                if entry.lapses <= now:
                    return NotDone("lapsed", counts)
            elif entry.version != version:
                return NotDone("changed", counts)
        if state == "leased" and entry.state != "leased":  # only a take leases
            return NotDone("changed", counts)
        if guards and not all(map(self._holds, guards)):
            return NotDone("guard", counts)
        for name, amount in tally:
            counts.tally[name] = counts.tally.get(name, 0) + amount
        if state is None:
            if row is not None:
                self.entries.delete(row)
                self.waiting.promote(entry.conversation)
            return Done(None, counts)
        after = changed(entry, put, now)
        if row is None:
            row = self.entries.insert(after)
            if after.deadline < FOREVER:
                self._deadlines.queue(row, after.deadline)
        else:
            kept = expires_in_s is None and agent_version is None and pinned is None
            self._set(row, after, moved=not kept)
        return _done(Done, (after, counts))

    def note(self, version: int, note: Note, now: float, *, open_: bool) -> Noted:
        """See `Store.note`; everybody in line is told."""
        if self.waiting.ends <= now:
            self.settle(now)
        if self.note_version == version:
            self._note, self._note_since, self._open = note, now, open_
            self.note_version += 1
            for waiter in self.waiting.by_request.values():
                self._ring(waiter.request)
            self.serve(now)
        return self.noted(now)

    def noted(self, now: float) -> Noted:
        """The note as it stands."""
        return Noted(self._note, self.note_version, now - self._note_since, self._open)

    def _holds(self, guard: Guard) -> bool:
        return sum(map(self._count, guard.plus)) - sum(map(self._count, guard.minus)) <= guard.most

    def _count(self, name: str) -> int:
        if name == "new":
            return self.counts.new
        return self.counts.waiting if name == "waiting" else self.entries.count.get(name, 0)


def _alive(row: Row, request: str, now: float) -> bool:
    return row.entry.lease == request and row.entry.lapses > now
