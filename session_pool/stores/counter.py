"""Where requests for a key of the memory store are answered: asking, asking again, taking back.

Each answer leaves nothing unserved that could be, so a newcomer may have at once whatever fits it,
and need not look at who waits. How waiters are served is in `serving`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from session_pool.model import FOREVER, Counts, Entry
from session_pool.space import Grant, Held, Put, Refusal, Ticket, Want
from session_pool.stores.rows import MEMORIES
from session_pool.stores.serving import Need, Serving, make_grant
from session_pool.stores.waiting import Waiter, refusal

Why = Literal["full", "closed", "note", "version", "withdrawn", "empty"]

TOMBSTONE_S: Final = 60.0
"""How long a withdrawn request stays refused: longer than any take can be on its way."""

_ticket: Final[Callable[[type[Ticket], tuple[object, ...]], Ticket]] = tuple.__new__
# Half the price of calling it.


class Counter(Serving):
    """The entries and lines of one key, and those who ask for them."""

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
            and len(entries.leases) < cap
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
                return make_grant(Grant, (row.entry(), place, before, now, self.counts, known))
        waiter = waiting.by_request.get(request)
        row = waiter.row if waiter is not None else None
        if row is not None and instead is None and cap == self._cap and row.alive(request, now):
            # It fetches what it was granted: nothing changes for anybody else.
            del waiting.by_request[request]
            return self._granted(row, now)
        # Whether there may be something now that somebody in line should have before this one.
        freed = instead is not None or cap > self._cap
        self._cap = cap
        if instead is not None:
            self._put(instead, now)
        self._asking = request  # it is answered, and need not be rung
        if waiter is None:
            answer = self._arrive(want, request, now, patience_s, note_version, place, freed)
        else:
            answer = self._ask_again(waiter, now, patience_s, note_version, freed)
        self._asking = ""
        if freed or type(answer) is Refusal:  # somebody may have left
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
        if not freed and not behind and len(entries.leases) < self._cap:
            row = entries.fitting(want, own, now)
            if row is not None:
                self._lease(row, want, request, place, now)
                return self._granted(row, now)
        waiter = Waiter(want, request, place)
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
        elif self.standing > self._max_waiting and not known:
            why = "full"
        need = self._need(conversation)
        if why is not None:
            self._leave(waiter, now)
            return self._refuse(why, now, need)
        if patience_s != FOREVER:
            waiting.be_patient(waiter, now + patience_s)
        return _ticket(Ticket, (place, need, self.counts, self.note_version))

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

    def register(self, holder: str, held: Held, ttl_s: float, now: float) -> Entry | None:
        """See `Store.register`."""
        entries, entry = self.entries, held.entry
        if self.waiting.ends <= now:
            self.settle(now)
        row = self._rows.get(entry.id)
        stranger = row is None or not row.rid  # an older state has it without its session yet
        if row is None:
            row = entries.adopt(held, holder, ttl_s, now)
        elif row.key is not self.key or row.state in MEMORIES:
            return None
        elif row.state == "leased":
            if row.lease != entry.lease or row.lapses <= now:
                return None
            row.lapses = row.deadline = now + ttl_s
        else:
            entries.claim(row, held, holder, ttl_s, now)
        if stranger:
            self.counts.tally["adopted"] = self.counts.tally.get("adopted", 0) + 1
        if row.deadline < row.queued:
            self._deadlines.queue(row, row.deadline)
        self.waiting.promote(row.conversation)
        self.serve(now)
        return row.entry()

    def _refuse(self, why: Why, now: float, need: Need = "new") -> Refusal:
        return Refusal(why, self.counts, self.noted(now), need)
