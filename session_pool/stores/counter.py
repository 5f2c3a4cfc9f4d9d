"""One key of the memory store, where its entries and those who wait for them meet.

Asking, changing and serving; every method takes the store's clock as `now`. Serving is the heart:
while the key is open and fewer than the cap are leased, the earliest waiter that some entry fits
gets it, by direct hand-over (B6). Each public method leaves nothing unserved that could be, so a
newcomer may have at once whatever fits it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from session_pool.model import Counts, PoolKey, State
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
from session_pool.stores.rows import Row
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
        waiting, entries = self.waiting, self.entries
        if waiting.ends <= now:
            self.settle(now)
        _, holder, conversation, version, wish_s, ttl_s, cap, self._max_waiting, _ = want
        if (
            not waiting.by_request
            and instead is None
            and entries.count["leased"] < cap
            and self._open
            and request not in entries.leases
            and (not self._tombstones or request not in self._tombstones)
        ):
            # Nobody waits, and there is room. The same as below, at half the price.
            if conversation is None:
                row, fits = entries.free(version, now + wish_s), True
            else:
                row = entries.own(conversation)
                fits = row is not None and row.state == "parked" and refusal(want, row) is None
            if row is not None and fits:
                if place is None:
                    self._place = place = self._place + 1
                self._cap = cap
                entries.lease(row, holder, conversation, ttl_s, request, place, now)
                if row.deadline < row.queued:
                    self._deadlines.queue(row, row.deadline)
                before = None if conversation is None else entries.memory(conversation)
                known = self.note_version
                return _grant(Grant, (row.entry(), place, before, now, self.counts, known))
        # Whether there may be something now that somebody in line should have before this one.
        freed = instead is not None or cap > self._cap
        self._cap = cap
        if instead is not None:
            self._put(instead, now)
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
            alive = row.alive(request, now)
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
        if row is not None and not row.alive(waiter.request, now):
            # Its session was taken away, or lapsed before anybody saw it: back to its old place.
            waiter.row = None
            waiting.stand(waiter)
            if row.lease == waiter.request:
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
        _, holder, conversation, _, _, ttl_s, _, _, _ = want
        self.entries.lease(row, holder, conversation, ttl_s, request, place, now)
        if row.deadline < row.queued:
            self._deadlines.queue(row, row.deadline)
        if conversation is not None and self.waiting.by_request:
            self.waiting.promote(conversation)

    def _granted(self, row: Row, now: float) -> Grant:
        before = self.entries.memory(row.conversation)
        place = row.hand[2] if row.hand is not None else 0
        return _grant(Grant, (row.entry(), place, before, now, self.counts, self.note_version))

    def _leave(self, waiter: Waiter, now: float) -> None:
        del self.waiting.by_request[waiter.request]
        row = waiter.row
        if row is None:
            if waiter.verdict is None:
                self.waiting.step_out(waiter)
        elif row.lease == waiter.request:
            self._undo(row, now)

    def _undo(self, row: Row, now: float) -> None:
        conversation = row.conversation
        self.entries.undo(row, now)
        if row.deadline < row.queued:
            self._deadlines.queue(row, row.deadline)
        self.waiting.promote(conversation)

    def _need(self, conversation: str | None) -> Need:
        own = self.entries.own(conversation)
        if own is not None and own.state != "parked":
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

    def give_back(
        self, entry_id: str, fence: int, op: str, state: State, deadline_in_s: float, now: float
    ) -> Counts | None:
        """See `LocalStore.give_back_nowait`."""
        waiting = self.waiting
        if waiting.ends <= now:
            self.settle(now)
        row = self._rows.get(entry_id)
        if row is None or not self._give_back(row, fence, op, state, deadline_in_s, now):
            return None
        if waiting.by_request:
            self.serve(now)
        return self.counts

    def _give_back(
        self, row: Row, fence: int, op: str, state: State, deadline_in_s: float | None, now: float
    ) -> bool:
        # A lease ends as most do: the same as `_put` does at length, or False, with nothing done.
        conversation = row.conversation
        if (
            row.state != "leased"
            or row.fence != fence
            or row.lapses <= now
            or row.op == op
            or row.key is not self.key
        ):
            return False
        deadline = row.fresh_until
        if deadline_in_s is not None:
            at = now + deadline_in_s
            if at < deadline or state != "idle":
                deadline = at
        row.deadline = deadline
        self.entries.give_back(row, state, op, now)
        if deadline < row.queued:
            self._deadlines.queue(row, deadline)
        if conversation is not None and self.waiting.by_request:
            self.waiting.promote(conversation)
        return True

    def _put(self, put: Put, now: float) -> Done | NotDone:
        (
            _, entry_id, op, state, version, fence, facts, deadline_in_s, expires_in_s, fresh_in_s,
            rid, agent_version, pinned, unbind, guards, tally,
        ) = put  # fmt: skip
        row, counts = self._rows.get(entry_id), self.counts
        if (
            row is not None
            and row.fence == fence
            and (expires_in_s is None and fresh_in_s is None and rid is None)
            and (agent_version is None and pinned is None and not unbind)
            and not guards
            and not tally
            and (state == "idle" or state == "parked")
            and self._give_back(row, fence, op, state, deadline_in_s, now)
        ):
            if facts is not None:
                row.facts = facts
            return _done(Done, (row.entry(), counts))
        if row is None or row.key is not self.key:
            if row is not None or version is not None or fence is not None:
                return NotDone("absent", counts)
        elif row.op == op:
            return Done(row.entry(), counts)
        elif fence is not None:
            if row.fence != fence or row.state != "leased":
                return NotDone("changed", counts)
            if row.lapses <= now:
                return NotDone("lapsed", counts)
        elif row.version != version:
            return NotDone("changed", counts)
        if state == "leased" and (row is None or row.state != "leased"):  # only a take leases
            return NotDone("changed", counts)
        if guards and not all(map(self._holds, guards)):
            return NotDone("guard", counts)
        for name, amount in tally:
            counts.tally[name] = counts.tally.get(name, 0) + amount
        conversation = row.conversation if row is not None else None
        if state is None:
            if row is not None:
                self.entries.delete(row)
                self.waiting.promote(conversation)
            return Done(None, counts)
        if row is None:
            row = self.entries.insert(put, state, now)
        else:
            self.entries.change(row, put, state, now)
            self.waiting.promote(conversation)
        if row.deadline < row.queued:
            self._deadlines.queue(row, row.deadline)
        return _done(Done, (row.entry(), counts))

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
