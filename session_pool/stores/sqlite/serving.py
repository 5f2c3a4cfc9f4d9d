"""What one key has, who waits for it, and how the one comes to the other.

Serving is the heart: while the key is open and fewer than the cap are leased, the earliest waiter
that some entry fits gets it, by direct hand-over (B6). Every operation that names a key settles it
first and serves last, so nobody ever waits for what is there. Those who ask are served in `asking`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from session_pool.model import Counts, Entry, State
from session_pool.space import Done, Grant, Guard, Held, NotDone, Note, Noted, Put
from session_pool.stores.sqlite.entries import Entries
from session_pool.stores.sqlite.lines import OWN, Lines
from session_pool.stores.sqlite.moment import Key, Moment
from session_pool.stores.sqlite.rows import MEMORIES, Row, Waiter

Need = Literal["new", "own", "room"]

_make_grant: Final[Callable[[type[Grant], tuple[object, ...]], Grant]] = tuple.__new__
# `Grant` from all its fields in order, at half the price of calling it.


class Serving:
    """The entries and lines of one key, in one transaction.

    Args:
        moment: the transaction.
        key: whose.
    """

    def __init__(self, moment: Moment, key: Key) -> None:
        self.moment = moment
        self.key = key
        self.entries = Entries(moment, key)
        self.lines = Lines(moment, key, self.entries)

    # ------------------------------------------------------------------ serving

    def settle(self) -> None:
        """Silent waiters leave, grants that nobody came for are undone, and others get them."""
        key, moment = self.key, self.moment
        turned = key.calm != moment.calm
        if turned:
            key.calm = moment.calm
            self.lines.rearrange()
        if key.ends <= moment.now:
            for waiter in self.lines.silent():
                self.leave(waiter)
            turned = True
        if turned:
            self.serve()

    def serve(self) -> None:
        """Grant what can be granted, the earliest first."""
        key, lines = self.key, self.lines
        if not key.present:
            return
        while True:
            lines.dismiss()
            if not (key.standing and key.open and key.leased < key.cap):
                return
            for head in lines.heads():
                row = self._for(head)
                if row is not None:
                    lines.grant(head, row.id)
                    self.lease(row, head.holder, head.conversation, head.ttl_s, head)
                    break
            else:
                return

    def lease(
        self, row: Row, holder: str, conversation: str | None, ttl_s: float, waiter: Waiter
    ) -> None:
        """Hand out an entry; those behind in its conversation see that it has a session."""
        self.entries.lease(row, holder, conversation, ttl_s, waiter.request, waiter.place)
        self.lines.promote(conversation)

    def granted(self, row: Row) -> Grant:
        """The answer to whoever has it."""
        key, before = self.key, self.entries.memory(row.conversation)
        place = row.hand_place or 0
        return _make_grant(
            Grant, (row.entry(), place, before, self.moment.now, key.counts(), key.note_version)
        )

    def leave(self, waiter: Waiter) -> None:
        """A request goes, and with it what it was granted."""
        self.lines.leave(waiter)
        if waiter.entry is not None:
            row = self.entries.by_id(waiter.entry)
            if row is not None and row.lease == waiter.request:
                self.undo(row)

    def undo(self, row: Row) -> None:
        """Take back a hand-out that nobody saw."""
        conversation = row.conversation
        self.entries.undo(row)
        self.lines.promote(conversation)

    def need(self, conversation: str | None) -> Need:
        """What a request waits for."""
        own = self.entries.own(conversation)
        if own is not None and own.state != "parked":
            return "own"
        if own is None and conversation is not None and self.moment.calm:
            return "own"  # somebody may have it who has not said so yet (B27)
        if self.key.leased >= self.key.cap:
            return "room"
        return "new" if own is None else "own"

    def _for(self, head: Waiter) -> Row | None:
        if head.lane == OWN:
            return self.entries.own(head.conversation)
        return self.entries.free(head.version, head.wish_s)

    # ------------------------------------------------------------------ changing

    def put(self, put: Put) -> Done | NotDone:
        """See `Store.put`."""
        self.settle()
        answer = self.change(put)
        self.serve()
        # Serving may have changed the counts, and perhaps the entry; the answer is of the change.
        return answer._replace(counts=self.key.counts()) if self.key.present else answer

    def change(self, put: Put) -> Done | NotDone:
        """One change, if it may be."""
        key, row = self.key, self.entries.by_id(put.id)
        why = self._objection(put, row)
        if why is not None:
            return NotDone(why, key.counts())
        if row is not None and row.op == put.op:
            return Done(row.entry(), key.counts())
        for name, amount in put.tally:
            key.tally[name] = key.tally.get(name, 0) + amount
        conversation = row.conversation if row is not None else None
        if put.state is None:
            if row is not None:
                self.entries.delete(row)
                self.lines.promote(conversation)
            return Done(None, key.counts())
        if row is None:
            row = self.entries.insert(put, put.state)
        else:
            self.entries.change(row, put, put.state)
            self.lines.promote(conversation)
        return Done(row.entry(), key.counts())

    def _objection(
        self, put: Put, row: Row | None
    ) -> Literal["changed", "guard", "lapsed", "absent"] | None:
        if row is None or row.key != self.key.id:
            if row is not None or (put.version, put.fence) != (None, None):
                return "absent"
        elif row.op == put.op:
            return None
        elif put.fence is not None:
            if row.fence != put.fence or row.state != "leased":
                return "changed"
            if row.lapses <= self.moment.now:
                return "lapsed"
        elif row.version != put.version:
            return "changed"
        if put.state == "leased" and (row is None or row.state != "leased"):
            return "changed"  # only a take leases
        return None if all(map(self._holds, put.guards)) else "guard"

    def _holds(self, guard: Guard) -> bool:
        count = self.key.count
        return sum(map(count, guard.plus)) - sum(map(count, guard.minus)) <= guard.most

    def register(self, holder: str, held: Held, ttl_s: float) -> Entry | None:
        """See `Store.register`."""
        self.settle()
        entries, entry, tally = self.entries, held.entry, self.key.tally
        row = entries.by_id(entry.id)
        stranger = row is None or not row.rid  # an older state has it without its session yet
        if row is None:
            row = entries.adopt(held, holder, ttl_s)
        elif row.key != self.key.id or row.state in MEMORIES:
            return None
        elif row.state == "leased":
            if not row.alive(entry.lease, self.moment.now):
                return None
            entries.prolong(row, ttl_s)
        else:
            entries.claim(row, held, holder, ttl_s)
        if stranger:
            tally["adopted"] = tally.get("adopted", 0) + 1
        self.lines.promote(row.conversation)
        self.serve()
        return row.entry()

    # ------------------------------------------------------------------ the note, and looking

    def note(self, version: int, note: Note, *, open_: bool) -> Noted:
        """See `Store.note`; everybody in line is told."""
        self.settle()
        if self.key.note_version == version:
            self.key.write_note(self.moment, note, open_=open_)
            self.lines.ring_all()
            self.serve()
        return self.noted()

    def noted(self) -> Noted:
        """The note as it stands."""
        return self.key.noted(self.moment.now)

    def read(self) -> tuple[Counts, Noted]:
        """See `Store.read`."""
        self.settle()
        return self.key.counts(), self.noted()

    def find(
        self, states: tuple[State, ...], conversation: str | None, rid: str | None, limit: int
    ) -> list[Entry]:
        """See `Store.find`."""
        self.settle()
        return self.entries.find(states, conversation, rid, limit)
