"""Where requests for a key are answered: asking, asking again, taking back.

Each answer leaves nothing unserved that could be, so a newcomer may have at once whatever fits it,
and need not look at who waits. How waiters are served is in `serving`.
"""

from __future__ import annotations

from typing import Final, Literal

from session_pool.model import Counts
from session_pool.space import Grant, Put, Refusal, Ticket, Want
from session_pool.stores.sqlite.lines import refused
from session_pool.stores.sqlite.rows import Row, Waiter, newcomer
from session_pool.stores.sqlite.serving import Need, Serving
from session_pool.stores.sqlite.statements import SQL

Why = Literal["full", "closed", "note", "version", "withdrawn", "empty"]

TOMBSTONE_S: Final = 60.0
"""How long a withdrawn request stays refused: longer than any take can be on its way."""


class Asking(Serving):
    """The entries and lines of one key, and those who ask for them."""

    def take(
        self,
        want: Want,
        request: str,
        patience_s: float,
        note_version: int,
        place: int | None,
        instead: Put | None,
    ) -> Grant | Ticket | Refusal:
        """See `Store.take`."""
        self.settle()
        key, lines = self.key, self.lines
        # Whether there may be something now that somebody in line should have before this one.
        freed = instead is not None or want.max_leased > key.cap
        key.cap, key.max_waiting = want.max_leased, want.max_waiting
        if instead is not None:
            self.change(instead)
        waiter = lines.waiter(request)
        lines.asking = request
        if waiter is None:
            answer = self._arrive(want, request, patience_s, note_version, place, freed=freed)
        else:
            answer = self._ask_again(waiter, patience_s, note_version, freed=freed)
        lines.asking = ""
        if key.present and (freed or type(answer) is Refusal):  # somebody may have left
            self.serve()
            return answer._replace(counts=key.counts())
        return answer

    def _arrive(
        self,
        want: Want,
        request: str,
        patience_s: float,
        note_version: int,
        place: int | None,
        *,
        freed: bool,
    ) -> Grant | Ticket | Refusal:
        """A request that is not in line: served at once, refused, or given a place."""
        entries, lines, key, moment = self.entries, self.lines, self.key, self.moment
        if self._is_withdrawn(request):
            return self._refuse("withdrawn")
        held = entries.by_lease(request)
        if held is not None:  # asked again, after the answer was lost
            alive = held.alive(request, moment.now)
            return self.granted(held) if alive else self._refuse("withdrawn")
        if not key.open:
            return self._refuse("closed")
        conversation = want.conversation
        own = entries.own(conversation)
        if conversation is not None:
            verdict = refused(own, want.agent_version, want.own_only, calm=moment.calm)
            if verdict is not None:
                return self._refuse(verdict)
        known = place is not None
        if place is None:
            key.place = place = moment.after(key.place)
        waiter = newcomer(key.id, want, request, place, moment.bell, key.note_version)
        behind = conversation is not None and lines.behind(conversation)
        if not freed and not behind and key.leased < key.cap:
            row = self._fitting(want, own)
            if row is not None:
                self.lease(row, want.holder, conversation, want.ttl_s, waiter)
                return self.granted(row)
        lines.stand(waiter, patience_s)
        if freed:
            self.serve()
            row = entries.by_lease(request)
            if row is not None:
                lines.leave(lines.waiter(request) or waiter)
                return self.granted(row)
        return self._stay(waiter, patience_s, note_version, full=not known)

    def _stay(
        self, waiter: Waiter, patience_s: float, note_version: int, *, full: bool
    ) -> Ticket | Refusal:
        """Whether a newcomer that got nothing at once may wait."""
        key = self.key
        why: Why | None = None
        if note_version != key.note_version:
            why = "note"
        elif patience_s <= 0:
            why = "empty"
        elif full and key.standing > key.max_waiting:
            why = "full"
        need = self.need(waiter.conversation)
        if why is None:
            return Ticket(waiter.place, need, key.counts(), key.note_version)
        self.leave(self.lines.waiter(waiter.request) or waiter)
        return self._refuse(why, need)

    def _ask_again(
        self, waiter: Waiter, patience_s: float, note_version: int, *, freed: bool
    ) -> Grant | Ticket | Refusal:
        """A request that was in line says that it is there, or fetches what became of it."""
        key, entries, moment = self.key, self.entries, self.moment
        if waiter.entry is not None:
            row = entries.by_id(waiter.entry)
            held = row if row is not None and row.lease == waiter.request else None
            if held is not None and held.lapses > moment.now:
                self.lines.leave(waiter)
                return self.granted(held)
            # Its session was taken away, or lapsed before anybody saw it: back to its old place.
            self.lines.stand_again(waiter)
            if held is not None:
                self.undo(held)
            freed = True
        if freed:
            self.serve()
            waiter = self.lines.waiter(waiter.request) or waiter
            row = entries.by_id(waiter.entry) if waiter.entry is not None else None
            if row is not None:
                self.lines.leave(waiter)
                return self.granted(row)
        need = self.need(waiter.conversation)
        why: Why | None = waiter.verdict or self.lines.refusal(waiter)
        if why is None and patience_s <= 0:
            why = "empty"
        if why is not None:
            self.leave(waiter)
            return self._refuse(why, need)
        self.lines.be_patient(waiter, patience_s, moment.bell, key.note_version)
        if note_version != key.note_version:
            return self._refuse("note", need)
        return Ticket(waiter.place, need, key.counts(), key.note_version)

    def withdraw(self, request: str) -> Counts:
        """See `Store.withdraw`."""
        self.settle()
        moment, key = self.moment, self.key
        moment.run(SQL["unearth"], (key.id, moment.now))
        key.buried_until = until = moment.now + TOMBSTONE_S
        moment.run(SQL["bury"], (key.id, request, until))
        waiter, row = self.lines.waiter(request), self.entries.by_lease(request)
        if waiter is not None:
            self.leave(waiter)
        elif row is not None:  # a hit whose answer nobody saw
            self.undo(row)
        self.serve()
        return key.counts()

    def _fitting(self, want: Want, own: Row | None) -> Row | None:
        """What a want could have now: its own session, or the free one that ends first (B3)."""
        moment = self.moment
        if own is not None:
            there = own.state == "parked" and own.since >= moment.handed_since
            return own if there else None
        if want.conversation is not None and moment.calm:
            return None
        return self.entries.free(want.agent_version, want.wish_s)

    def _is_withdrawn(self, request: str) -> bool:
        key, moment = self.key, self.moment
        if key.buried_until <= moment.now:
            return False
        record = moment.one(SQL["tombstone"], key.id, request)
        return record is not None and record[0] > moment.now

    def _refuse(self, why: Why, need: Need = "new") -> Refusal:
        return Refusal(why, self.key.counts(), self.noted(), need)
