"""The entries of one key: looking them up and changing them, their counts kept alongside.

Every change of an entry passes through here, so that no count can disagree with it; the indexes are
SQLite's. Knows nothing of who waits.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import merge
from itertools import islice
from operator import attrgetter

from session_pool.model import Entry, State
from session_pool.space import Held, Put
from session_pool.stores.sqlite.moment import Key, Moment, Record
from session_pool.stores.sqlite.rows import MEMORIES, Row, blank
from session_pool.stores.sqlite.statements import SQL

BY_ID, BY_LEASE, OWN, MEMORY = SQL["entry"], SQL["by_lease"], SQL["own"], SQL["memory"]
FREE_LATEST, FREE_VERSION = SQL["free_latest"], SQL["free_version"]
LEASE, LEASE_BOUND, GIVE_BACK = SQL["lease"], SQL["lease_bound"], SQL["give_back"]
WRITE_DOWN = SQL["write_down"]


class Entries:
    """What one key holds.

    Args:
        moment: the transaction.
        key: whose.
    """

    def __init__(self, moment: Moment, key: Key) -> None:
        self._moment = moment
        self._key = key

    # ------------------------------------------------------------------ looking

    def by_id(self, entry_id: str) -> Row | None:
        """An entry of any key."""
        moment = self._moment
        return _row(moment.one(BY_ID, moment.space.id, entry_id))

    def by_lease(self, request: str) -> Row | None:
        """What that request holds."""
        return _row(self._moment.one(BY_LEASE, self._key.id, request)) if request else None

    def own(self, conversation: str | None) -> Row | None:
        """The session a conversation has, in whatever state it is."""
        if conversation is None:
            return None
        return _row(self._moment.one(OWN, self._key.id, conversation))

    def memory(self, conversation: str | None) -> Entry | None:
        """The memory of the session that a conversation had last."""
        if conversation is None:
            return None
        record = self._moment.one(MEMORY, self._key.id, conversation)
        return Row(record).entry() if record is not None else None

    def free(self, version: str | None, wish_s: float) -> Row | None:
        """The free session that ends first, of those of a version that live as long (B3)."""
        moment, key = self._moment, self._key
        if not (key.states.get("idle") or key.states.get("ageing")):
            return None
        least, since = moment.now + wish_s, moment.handed_since
        if version is None:
            return _row(moment.one(FREE_LATEST, key.id, least, since))
        return _row(moment.one(FREE_VERSION, key.id, version, least, since))

    def find(
        self, states: Sequence[State], conversation: str | None, rid: str | None, limit: int
    ) -> list[Entry]:
        """Entries by state, those longest in it first; or what a conversation has and had."""
        run, key = self._moment.run, self._key
        if conversation is None and rid is None:
            there = [state for state, many in key.states.items() if many]
            asked = [
                map(Row, run(SQL["in_state"], (key.id, state, limit)))
                for state in there
                if not states or state in states
            ]
            return [row.entry() for row in islice(merge(*asked, key=_since), limit)]
        if conversation is None:
            rows = [Row(record) for record in run(SQL["of_rid"], (key.id, rid))]
        else:
            own = self.own(conversation)
            rows = [own] if own is not None else []
            rows += map(Row, run(SQL["memories"], (key.id, conversation)))
        return [
            row.entry()
            for row in rows
            if (not states or row.state in states) and (rid is None or row.rid == rid)
        ][:limit]

    # ------------------------------------------------------------------ changing

    def lease(
        self,
        row: Row,
        holder: str,
        conversation: str | None,
        ttl_s: float,
        request: str,
        place: int,
    ) -> None:
        """Hand out what is free or parked."""
        moment = self._moment
        now, bound = moment.now, row.conversation
        self._count(row.state, "leased")
        row.hand_state, row.hand_deadline, row.hand_place = row.state, row.deadline, place
        row.hand_before = None
        row.state = "leased"
        row.version += 1
        row.fence = moment.after(row.fence)
        row.holder = holder
        row.lease = row.op = request
        row.lapses = row.deadline = now + ttl_s
        row.since = now
        values = (
            row.version, row.fence, holder, request, row.lapses, now, row.deadline, request,
            row.hand_state, row.hand_deadline, place,
        )  # fmt: skip
        if conversation == bound:
            moment.run(LEASE, (*values, row.n))
        else:
            row.conversation = conversation
            moment.run(LEASE_BOUND, (*values, conversation, row.n))

    def insert(self, put: Put, state: State) -> Row:
        """File an entry that is not there yet."""
        moment = self._moment
        row = blank(moment.space.id, self._key.id, put.id, moment.now)
        row.change(put, state, moment.now)
        self._insert(row)
        return row

    def change(self, row: Row, put: Put, state: State) -> None:
        """Do what a put says."""
        was, moment = row.state, self._moment
        renamed = (put.rid, put.agent_version, put.pinned) != (None, None, None)
        row.change(put, state, moment.now)
        self._count(was, state)
        if was != "leased" or renamed or state in MEMORIES:
            self._file(row)
        elif state == "leased":
            values = (
                row.version, row.fresh_until, row.expires, row.deadline, row.facts, row.op,
                row.hand_before,
            )  # fmt: skip
            moment.run(WRITE_DOWN, (*values, row.n))
        else:
            ended = (
                state, row.version, row.since, row.fresh_until, row.expires, row.deadline,
                row.facts, row.op, row.conversation,
            )  # fmt: skip
            moment.run(GIVE_BACK, (*ended, row.n))

    def undo(self, row: Row) -> None:
        """Take back a lease that nobody saw; one that was registered has been seen."""
        if row.hand_state is not None:
            row.undo(self._moment.now)
            self._count("leased", row.state)
            self._file(row)

    def delete(self, row: Row) -> None:
        """Forget an entry."""
        self._count(row.state, None)
        self._moment.run(SQL["delete"], (row.n,))

    def prolong(self, row: Row, ttl_s: float) -> None:
        """Let a lease last that long from now."""
        row.lapses = row.deadline = self._moment.now + ttl_s
        self._moment.run(SQL["prolong"], (row.lapses, row.deadline, row.n))

    def claim(self, row: Row, held: Held, holder: str, ttl_s: float) -> None:
        """Lease what its holder says it holds, whatever this store thought of it (B27)."""
        self._count(row.state, "leased")
        fence = self._moment.after(max(row.fence, held.entry.fence))
        row.hold(held, holder, ttl_s, fence, self._moment.now)
        if row.conversation is None:
            self._bind(row, held)
        self._file(row)

    def adopt(self, held: Held, holder: str, ttl_s: float) -> Row:
        """File a lease that this store knows nothing of (B27)."""
        moment = self._moment
        row = blank(moment.space.id, self._key.id, held.entry.id, moment.now)
        row.hold(held, holder, ttl_s, moment.after(held.entry.fence), moment.now)
        self._bind(row, held)
        self._insert(row)
        return row

    def _bind(self, row: Row, held: Held) -> None:
        conversation = held.entry.conversation
        if self.own(conversation) is None:
            row.conversation = conversation

    def _insert(self, row: Row) -> None:
        self._remember(row)
        self._count(None, row.state)
        values = (row.space, row.key, row.id, *row.columns())
        row.n = self._moment.run(SQL["insert"], values).lastrowid or 0

    def _file(self, row: Row) -> None:
        self._remember(row)
        self._moment.run(SQL["file"], (*row.columns(), row.n))

    def _remember(self, row: Row) -> None:
        # The latest memory of a conversation is the one that left it last, not the one last seen.
        if row.state not in MEMORIES or row.conversation is None:
            row.remembered = None
        elif row.remembered is None:
            self._key.remembered += 1
            row.remembered = self._key.remembered

    def _count(self, was: State | None, now: State | None) -> None:
        states = self._key.states
        if was is not None:
            states[was] -= 1
        if now is not None:
            states[now] = states.get(now, 0) + 1


_since = attrgetter("since", "id")


def _row(record: Record | None) -> Row | None:
    return Row(record) if record is not None else None
