"""The entries of one key in the memory store, and the indexes by which they are found.

Every change of an entry passes through here, so that no index can disagree with it. Knows nothing
of who waits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import merge
from itertools import islice
from operator import attrgetter
from typing import Final, get_args

from session_pool.model import FOREVER, Entry, PoolKey, State
from session_pool.space import Held, Put, Want
from session_pool.stores.rows import FREE, MEMORIES, Row
from session_pool.stores.shelf import Shelf

ALL: Final[tuple[State, ...]] = get_args(State)


class Entries:
    """What one key holds, by id, state, expiry, conversation and lease.

    Args:
        key: whose.
        rows: the rows of all keys by entry id, shared with the store.

    Attributes:
        leases: those leased, by request, in the order of their hand-out.
        idle, ageing: how many are; a number is changed for less than an item of a dictionary.
        only: the shelf of those for "latest published", while there is but one.
    """

    def __init__(self, key: PoolKey, rows: dict[str, Row]) -> None:
        self.key = key
        self.leases: dict[str, Row] = {}
        self.idle = self.ageing = 0
        self._count: dict[str, int] = {}
        self._rows = rows
        self._shelves: dict[tuple[bool, str], Shelf] = {}
        self.only: Shelf | None = None
        self._rolls: dict[State, dict[str, Row]] = {}
        self._bound: dict[str, Row] = {}
        self._memories: dict[str, tuple[Row, ...]] = {}

    # ------------------------------------------------------------------ looking

    @property
    def count(self) -> dict[str, int]:
        """Entries by state: always the same dictionary, up to date whenever it is asked for."""
        count = self._count
        count["leased"], count["idle"], count["ageing"] = len(self.leases), self.idle, self.ageing
        return count

    def own(self, conversation: str | None) -> Row | None:
        """The session a conversation has, in whatever state it is."""
        return self._bound.get(conversation) if conversation is not None else None

    def memory(self, conversation: str | None) -> Entry | None:
        """The memory of the session that a conversation had last."""
        remembered = self._memories.get(conversation) if conversation is not None else None
        return remembered[-1].entry() if remembered is not None else None

    def fitting(self, want: Want, own: Row | None, now: float) -> Row | None:
        """What a want could have now: its own session, or the free one that ends first (B3)."""
        if own is not None:
            return own if own.state == "parked" else None
        return self.free(want.agent_version, now + want.wish_s)

    def free(self, version: str | None, least_expires: float) -> Row | None:
        """The free session that ends first, of those of a version that live until then."""
        if version is None and self.only is not None:
            return self.only.first(least_expires)
        best: Row | None = None
        for shelf in self._shelves.values():
            if shelf.version == version if version is not None else not shelf.pinned:
                row = shelf.first(least_expires)
                if best is None or (row is not None and _order(row) < _order(best)):
                    best = row
        return best

    def find(
        self, states: Sequence[State], conversation: str | None, rid: str | None, limit: int
    ) -> list[Entry]:
        """Entries by state, those longest in it first; or what a conversation has and had."""
        if rid is not None:
            every = self.find(states, conversation, None, len(self._rows))
            return [entry for entry in every if entry.rid == rid][:limit]
        if conversation is not None:
            own = self._bound.get(conversation)
            rows = [*self._memories.get(conversation, ()), *([own] if own is not None else [])]
            found = [row.entry() for row in reversed(rows) if not states or row.state in states]
            return found[:limit]
        asked = [self._in_state(state) for state in dict.fromkeys(states or ALL)]
        return [row.entry() for row in islice(merge(*asked, key=_since), limit)]

    def _in_state(self, state: State) -> Iterable[Row]:
        if state == "leased":
            return self.leases.values()
        if state in FREE:
            free = (row for shelf in self._shelves.values() for row in shelf.rows())
            return sorted((row for row in free if row.state == state), key=_since)
        return self._rolls.get(state, {}).values()

    # ------------------------------------------------------------------ changing

    def insert(self, put: Put, state: State, now: float) -> Row:
        """File an entry that is not there yet."""
        row = self._rows[put.id] = Row(self.key, put.id, now)
        row.change(put, state, now)
        self._enter(row)
        return row

    def delete(self, row: Row) -> None:
        """Forget an entry."""
        self._leave(row)
        if row.shelf is not None:
            row.shelf.remove(row)
        self._unbind(row, row.conversation, row.state in MEMORIES)
        row.queued, row.lease = -FOREVER, ""  # nobody holds what is not there
        del self._rows[row.id]

    def claim(self, row: Row, held: Held, holder: str, ttl_s: float, now: float) -> None:
        """Lease what its holder says it holds, whatever this store thought of it (B27)."""
        entry, conversation = held.entry, row.conversation
        if row.shelf is not None:
            row.shelf.remove(row)
        was = row.state
        self._leave(row)
        row.hold(held, holder, ttl_s, now)
        if row.conversation is None and self.own(entry.conversation) is None:
            row.conversation = entry.conversation
        self._refile(row, was, conversation)

    def adopt(self, held: Held, holder: str, ttl_s: float, now: float) -> Row:
        """File a lease that this store knows nothing of (B27)."""
        entry = held.entry
        row = self._rows[entry.id] = Row(self.key, entry.id, now)
        row.hold(held, holder, ttl_s, now)
        if self.own(entry.conversation) is None:
            row.conversation = entry.conversation
        self._enter(row)
        self._bind(row)
        return row

    def lease(
        self,
        row: Row,
        holder: str,
        conversation: str | None,
        ttl_s: float,
        request: str,
        place: int,
        now: float,
    ) -> None:
        """Hand out what is free or parked. It keeps its slot on the shelf; see there."""
        was = row.state
        row.hand = (was, row.deadline, place, None)
        row.state = "leased"
        row.version += 1
        row.fence += 1
        row.holder = holder
        row.lease = row.op = request
        row.lapses = row.deadline = now + ttl_s
        row.since = now
        self.leases[request] = row
        self.uncount(was)
        if was == "parked":
            del self._rolls["parked"][row.id]
        elif conversation is not None:
            row.conversation = conversation
            self._bound[conversation] = row

    def give_back(self, row: Row, state: State, op: str, now: float) -> None:
        """The usual `change`: a lease ends as idle or parked, and nothing moves on the shelf."""
        del self.leases[row.lease]
        self._recount(state)
        row.take_back(state, op, now)
        if state == "parked":
            if row.shelf is not None:
                row.shelf.remove(row)
            roll = self._rolls.get("parked")
            if roll is None:
                roll = self._rolls["parked"] = {}
            roll[row.id] = row
            return
        if row.shelf is None:
            self.shelve(row)
        conversation = row.conversation
        if conversation is not None:
            row.conversation = None
            del self._bound[conversation]

    def change(self, row: Row, put: Put, state: State, now: float) -> None:
        """Do what a put says."""
        was, conversation = row.state, row.conversation
        if row.shelf is not None and not (
            (state == "leased" or state in FREE)
            and put.expires_in_s is None
            and put.agent_version is None
            and put.pinned is None
        ):
            row.shelf.remove(row)
        if was != state:
            self._leave(row)
        row.change(put, state, now)
        self._refile(row, was, conversation)

    def undo(self, row: Row, now: float) -> None:
        """Take back a lease that nobody saw."""
        hand, conversation = row.hand, row.conversation
        if hand is None:
            return
        if row.shelf is not None:
            row.shelf.remove(row)
        self._leave(row)
        row.undo(hand, now)
        self._refile(row, "leased", conversation)

    def _refile(self, row: Row, was: State, conversation: str | None) -> None:
        # File a row that was changed; it has left its state already, if that is another now.
        state = row.state
        if was != state:
            self._enter(row)
        elif row.shelf is None and state in FREE:
            self.shelve(row)
        remembered = was in MEMORIES
        if conversation != row.conversation or remembered != (state in MEMORIES):
            self._unbind(row, conversation, remembered)
            self._bind(row)

    def _enter(self, row: Row) -> None:
        state = row.state
        self._recount(state)
        if state in FREE:
            if row.shelf is None:
                self.shelve(row)
        elif state == "leased":
            self.leases[row.lease] = row
        else:
            roll = self._rolls.get(state)
            if roll is None:
                roll = self._rolls[state] = {}
            roll[row.id] = row

    def _leave(self, row: Row) -> None:
        state = row.state
        self.uncount(state)
        if state == "leased":
            del self.leases[row.lease]
        elif state not in FREE:
            del self._rolls[state][row.id]

    def uncount(self, state: State) -> None:
        """One fewer is in that state; of the leased, their list tells."""
        if state == "idle":
            self.idle -= 1
        elif state == "ageing":
            self.ageing -= 1
        elif state != "leased":
            self._count[state] -= 1

    def _recount(self, state: State) -> None:
        if state == "idle":
            self.idle += 1
        elif state == "ageing":
            self.ageing += 1
        elif state != "leased":
            self._count[state] = self._count.get(state, 0) + 1

    def shelve(self, row: Row) -> None:
        """Let a free row be found by its expiry."""
        kind = (row.pinned, row.agent_version)
        shelf = self._shelves.get(kind)
        if shelf is None:  # a version not seen before; those that nothing has any more are dropped
            self._shelves = {kind: shelf for kind, shelf in self._shelves.items() if len(shelf)}
            shelf = self._shelves[kind] = Shelf(*kind)
            latest = [shelf for shelf in self._shelves.values() if not shelf.pinned]
            self.only = latest[0] if len(latest) == 1 else None
        shelf.add(row)

    def _bind(self, row: Row) -> None:
        conversation = row.conversation
        if conversation is None:
            return
        if row.state in MEMORIES:
            self._memories[conversation] = (*self._memories.get(conversation, ()), row)
        else:
            self._bound[conversation] = row

    def _unbind(self, row: Row, conversation: str | None, remembered: bool) -> None:
        if conversation is None:
            return
        if not remembered:
            if self._bound.get(conversation) is row:
                del self._bound[conversation]
            return
        others = tuple(other for other in self._memories.pop(conversation) if other is not row)
        if others:
            self._memories[conversation] = others


_since = attrgetter("since")
_order = attrgetter("expires", "id")
