"""The entries of one key in the memory store, and the indexes by which they are found.

Every change passes through `set`, so that no index can disagree with an entry. Knows nothing of who
waits: a change of what a conversation has is told to a callback.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Sequence
from typing import Final

from session_pool.model import FOREVER, NO_FACTS, Entry, State
from session_pool.space import Put, Want

TAKEABLE: Final = frozenset(("idle", "ageing"))
MEMORIES: Final = frozenset(("retiring", "gone"))


class Shelf:
    """Free entries of one kind, the earliest expiry first (B3)."""

    __slots__ = ("_by_expiry",)

    def __init__(self) -> None:
        self._by_expiry: list[tuple[float, str]] = []

    def add(self, expires: float, entry_id: str) -> None:
        """Lay an entry on the shelf."""
        insort(self._by_expiry, (expires, entry_id))

    def remove(self, expires: float, entry_id: str) -> None:
        """Take that entry off."""
        del self._by_expiry[bisect_left(self._by_expiry, (expires, entry_id))]

    def first(self, least_expires: float) -> tuple[float, str] | None:
        """The one that expires first of those that live until `least_expires` or longer."""
        shelf = self._by_expiry
        if not shelf:
            return None
        if shelf[0][0] >= least_expires:
            return shelf[0]
        at = bisect_left(shelf, (least_expires, ""))
        return shelf[at] if at < len(shelf) else None


class Entries:
    """What one key holds, by id, state, expiry, conversation and lease.

    Args:
        moved: told the conversation whose session, or whose session's state, has changed.
    """

    def __init__(self, moved: Callable[[str], None]) -> None:
        self.by_id: dict[str, Entry] = {}
        self.count: dict[str, int] = {}
        self.leases: dict[str, str] = {}
        self._states: dict[State, dict[str, None]] = {}
        self._shelves: dict[tuple[bool, str], Shelf] = {}
        self._bound: dict[str, str] = {}
        self._memories: dict[str, str] = {}
        self._moved = moved

    def own(self, conversation: str | None) -> Entry | None:
        """The session a conversation has, in whatever state it is."""
        bound = self._bound.get(conversation) if conversation is not None else None
        return self.by_id[bound] if bound is not None else None

    def memory(self, conversation: str) -> Entry | None:
        """The memory of the session that a conversation had last."""
        remembered = self._memories.get(conversation)
        return self.by_id[remembered] if remembered is not None else None

    def fitting(self, want: Want, own: Entry | None, now: float) -> Entry | None:
        """What a want could have now: its own session, or the free one that ends first."""
        if own is not None:
            return own if own.state == "parked" else None
        if want.own_only:
            return None
        first: tuple[float, str] | None = None
        for (pinned, version), shelf in self._shelves.items():
            if not pinned if want.agent_version is None else version == want.agent_version:
                candidate = shelf.first(now + want.wish_s)
                if candidate is not None and (first is None or candidate < first):
                    first = candidate
        return self.by_id[first[1]] if first is not None else None

    def find(self, states: Sequence[State], conversation: str | None, limit: int) -> list[Entry]:
        """Entries by state, those longest in it first; or what a conversation has and had."""
        if conversation is not None:
            both = (self.own(conversation), self.memory(conversation))
            found = [entry for entry in both if entry is not None]
            return [entry for entry in found if not states or entry.state in states][:limit]
        answer: list[Entry] = []
        for state in states or tuple(self._states):
            for entry_id in self._states.get(state, ()):
                if len(answer) == limit:
                    return answer
                answer.append(self.by_id[entry_id])
        return answer

    def set(self, before: Entry, after: Entry | None) -> None:
        """Replace, insert (`before` is not there yet) or delete (`after` is None) an entry."""
        if before.id in self.by_id:
            self._unfile(before)
        if after is None:
            self.by_id.pop(before.id, None)
        else:
            self.by_id[before.id] = after
            self._file(after)
        first, second = before.conversation, after.conversation if after is not None else None
        if first is not None:
            self._moved(first)
        if second is not None and second != first:
            self._moved(second)

    def retime(self, entry: Entry) -> None:
        """Replace an entry of which only deadline or lapse differ: no index depends on them."""
        self.by_id[entry.id] = entry

    def _unfile(self, entry: Entry) -> None:
        state, conversation = entry.state, entry.conversation
        del self._states[state][entry.id]
        self.count[state] -= 1
        if state in TAKEABLE:
            self._shelves[entry.pinned, entry.agent_version].remove(entry.expires, entry.id)
        elif state == "leased":
            del self.leases[entry.lease]
        if conversation is not None:
            index = self._memories if state in MEMORIES else self._bound
            if index.get(conversation) == entry.id:
                del index[conversation]

    def _file(self, entry: Entry) -> None:
        state = entry.state
        members = self._states.get(state)
        if members is None:
            members = self._states[state] = {}
            self.count[state] = 0
        members[entry.id] = None
        self.count[state] += 1
        if state in TAKEABLE:
            kind = (entry.pinned, entry.agent_version)
            shelf = self._shelves.get(kind)
            if shelf is None:
                shelf = self._shelves[kind] = Shelf()
            shelf.add(entry.expires, entry.id)
        elif state == "leased":
            self.leases[entry.lease] = entry.id
        if entry.conversation is not None:
            index = self._memories if state in MEMORIES else self._bound
            index[entry.conversation] = entry.id


def blank(entry_id: str, now: float) -> Entry:
    """What an insertion changes: an entry that was not there."""
    return Entry(
        id=entry_id,
        state="chore",
        version=0,
        fence=0,
        rid="",
        agent_version="",
        pinned=False,
        conversation=None,
        holder="",
        lease="",
        lapses=FOREVER,
        since=now,
        fresh_until=FOREVER,
        expires=FOREVER,
        deadline=FOREVER,
        facts=NO_FACTS,
        op="",
    )


def leased(entry: Entry, want: Want, request: str, now: float) -> Entry:
    """The entry as handed out for a want, in the order of the fields: this is the hit path."""
    lapses = now + want.ttl_s
    return Entry(
        entry.id,
        "leased",
        entry.version + 1,
        entry.fence + 1,
        entry.rid,
        entry.agent_version,
        entry.pinned,
        want.conversation,
        want.holder,
        request,
        lapses,
        now,
        entry.fresh_until,
        entry.expires,
        lapses,
        entry.facts,
        request,
    )


def changed(entry: Entry, put: Put, state: State, now: float) -> Entry:
    """The entry after a `Put`, in the order of the fields: this is the release path."""
    fresh_until = entry.fresh_until if put.fresh_in_s is None else now + put.fresh_in_s
    held = state == "leased" == entry.state
    if held:
        deadline = entry.lapses
    elif put.deadline_in_s is not None:
        deadline = now + put.deadline_in_s
    else:
        deadline = fresh_until if entry.state == "leased" else entry.deadline
    return Entry(
        entry.id,
        state,
        entry.version + 1,
        entry.fence,
        entry.rid if put.rid is None else put.rid,
        entry.agent_version if put.agent_version is None else put.agent_version,
        entry.pinned if put.pinned is None else put.pinned,
        None if put.unbind else entry.conversation,
        entry.holder if held else "",
        entry.lease if held else "",
        entry.lapses if held else FOREVER,
        entry.since if state == entry.state else now,
        fresh_until,
        entry.expires if put.expires_in_s is None else now + put.expires_in_s,
        min(deadline, fresh_until) if state == "idle" else deadline,
        entry.facts if put.facts is None else put.facts,
        put.op,
    )


def undone(entry: Entry, former: Entry, now: float) -> Entry:
    """A lease that nobody saw: the session is what it was before, but for its spent fence."""
    return former._replace(
        version=entry.version + 1,
        fence=entry.fence,
        holder="",
        lease="",
        lapses=FOREVER,
        since=now,
        op="",
    )
