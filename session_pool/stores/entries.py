"""The entries of one key in the memory store, and the indexes by which they are found.

Every change passes through `set`, so that no index can disagree with an entry. Knows nothing of who
waits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import merge
from itertools import islice
from typing import Final, get_args

from session_pool.model import FOREVER, Entry, PoolKey, State
from session_pool.space import Want
from session_pool.stores.rows import FREE, Row
from session_pool.stores.shelf import Shelf

ALL: Final[tuple[State, ...]] = get_args(State)
MEMORIES: Final = frozenset(("retiring", "gone"))


class Entries:
    """What one key holds, by id, state, expiry, conversation and lease.

    Args:
        key: whose.
        rows: the rows of all keys by entry id, shared with the store.
    """

    def __init__(self, key: PoolKey, rows: dict[str, Row]) -> None:
        self.key = key
        self.count: dict[str, int] = {"leased": 0}
        self.leases: dict[str, Row] = {}
        self._rows = rows
        self._shelves: dict[tuple[bool, str], Shelf] = {}
        self._rolls: dict[State, dict[str, Row]] = {}
        self._bound: dict[str, Row] = {}
        self._memories: dict[str, tuple[Row, ...]] = {}

    # ------------------------------------------------------------------ looking

    def own(self, conversation: str | None) -> Row | None:
        """The session a conversation has, in whatever state it is."""
        return self._bound.get(conversation) if conversation is not None else None

    def memory(self, conversation: str | None) -> Entry | None:
        """The memory of the session that a conversation had last."""
        remembered = self._memories.get(conversation) if conversation is not None else None
        return remembered[-1].entry if remembered is not None else None

    def fitting(self, want: Want, own: Row | None, now: float) -> Row | None:
        """What a want could have now: its own session, or the free one that ends first (B3)."""
        if own is not None:
            return own if own.entry.state == "parked" else None
        return self.free(want.agent_version, now + want.wish_s)

    def free(self, version: str | None, least_expires: float) -> Row | None:
        """The free session that ends first, of those of a version that live until then."""
        best: Row | None = None
        for (pinned, made_for), shelf in self._shelves.items():
            if made_for == version if version is not None else not pinned:
                row = shelf.first(least_expires)
                if best is None or (row is not None and _order(row) < _order(best)):
                    best = row
        return best

    def find(self, states: Sequence[State], conversation: str | None, limit: int) -> list[Entry]:
        """Entries by state, those longest in it first; or what a conversation has and had."""
        if conversation is not None:
            own = self._bound.get(conversation)
            rows = [*self._memories.get(conversation, ()), *([own] if own is not None else [])]
            found = [row.entry for row in reversed(rows)]
            return [entry for entry in found if not states or entry.state in states][:limit]
        asked = [self._in_state(state) for state in dict.fromkeys(states or ALL)]
        return list(islice(merge(*asked, key=_since), limit))

    def _in_state(self, state: State) -> Iterable[Entry]:
        if state == "leased":
            return (row.entry for row in self.leases.values())
        if state in FREE:
            free = (row.entry for shelf in self._shelves.values() for row in shelf.rows())
            return sorted((entry for entry in free if entry.state == state), key=_since)
        return (row.entry for row in self._rolls.get(state, {}).values())

    # ------------------------------------------------------------------ changing

    def insert(self, entry: Entry) -> Row:
        """File an entry that is not there yet."""
        row = self._rows[entry.id] = Row(self.key, entry)
        self._enter(row, entry)
        self._bind(row, entry)
        return row

    def delete(self, row: Row) -> None:
        """Forget an entry."""
        entry = row.entry
        self._leave(row, entry)
        if row.shelf is not None:
            row.shelf.remove(row, entry.expires)
        self._unbind(row, entry)
        row.queued, row.entry = -FOREVER, entry._replace(lease="")  # nobody holds what is not there
        del self._rows[entry.id]

    def lease(self, row: Row, after: Entry) -> None:
        """Hand out what is free or parked: `set`, less what this cannot change."""
        before, count = row.entry, self.count
        was = before.state
        count[was] -= 1
        count["leased"] += 1
        if was == "parked":
            del self._rolls["parked"][before.id]
        elif after.conversation is not None:
            self._bound[after.conversation] = row
        row.former, row.entry = before, after
        self.leases[after.lease] = row

    def set(self, row: Row, after: Entry, *, moved: bool = True) -> None:
        """Replace an entry, and file it where it belongs now.

        Args:
            row: where it is kept.
            after: what it becomes.
            moved: its expiry, version or pin may have changed, and with it its place on a shelf.
        """
        before, row.entry = row.entry, after
        was, state = before.state, after.state
        if row.shelf is not None and (moved or not (state == "leased" or state in FREE)):
            row.shelf.remove(row, before.expires)
        if was != state:
            self._leave(row, before)
            self._enter(row, after)
        elif moved and state in FREE:
            self._shelve(row, after)
        if before.conversation != after.conversation or (was in MEMORIES) != (state in MEMORIES):
            self._unbind(row, before)
            self._bind(row, after)

    def _enter(self, row: Row, entry: Entry) -> None:
        state = entry.state
        self.count[state] = self.count.get(state, 0) + 1
        if state in FREE:
            if row.shelf is None:
                self._shelve(row, entry)
        elif state == "leased":
            self.leases[entry.lease] = row
        else:
            roll = self._rolls.get(state)
            if roll is None:
                roll = self._rolls[state] = {}
            roll[entry.id] = row

    def _leave(self, row: Row, entry: Entry) -> None:
        state = entry.state
        self.count[state] -= 1
        if state == "leased":
            del self.leases[entry.lease]
            row.former = None
        elif state not in FREE:
            del self._rolls[state][entry.id]

    def _shelve(self, row: Row, entry: Entry) -> None:
        kind = (entry.pinned, entry.agent_version)
        shelf = self._shelves.get(kind)
        if shelf is None:  # a version not seen before; those that nothing has any more are dropped
            self._shelves = {kind: shelf for kind, shelf in self._shelves.items() if len(shelf)}
            shelf = self._shelves[kind] = Shelf()
        shelf.add(row)

    def _bind(self, row: Row, entry: Entry) -> None:
        conversation = entry.conversation
        if conversation is None:
            return
        if entry.state in MEMORIES:
            self._memories[conversation] = (*self._memories.get(conversation, ()), row)
        else:
            self._bound[conversation] = row

    def _unbind(self, row: Row, entry: Entry) -> None:
        conversation = entry.conversation
        if conversation is None:
            return
        if entry.state not in MEMORIES:
            if self._bound.get(conversation) is row:
                del self._bound[conversation]
            return
        others = tuple(other for other in self._memories.pop(conversation) if other is not row)
        if others:
            self._memories[conversation] = others


def _since(entry: Entry) -> float:
    return entry.since


def _order(row: Row) -> tuple[float, str]:
    return row.entry.expires, row.entry.id
