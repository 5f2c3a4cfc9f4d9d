"""One entry and one waiter as they stand in the file, and how an entry changes.

Knows the columns and their order, and no index, no line and no SQL.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, Literal

from session_pool.model import FOREVER, Entry, Facts, State
from session_pool.space import Held, Put, Want
from session_pool.stores.coding import facts_as_text, facts_of_text

FREE: Final = frozenset(("idle", "ageing"))
"""States in which anybody may have it, so that it belongs to no conversation."""

MEMORIES: Final = frozenset(("retiring", "gone"))
"""States in which its conversation has it no more, and remembers it."""

as_text: Final[Callable[[Facts], str]] = lru_cache(1024)(facts_as_text)
_of_text: Final[Callable[[str], Facts]] = lru_cache(1024)(facts_of_text)
# The same facts come and go with one session: written down again at each release, read at each
# hand-out.

_entry: Final[Callable[[type[Entry], tuple[object, ...]], Entry]] = tuple.__new__
# `Entry` from all its fields in order, at half the price of calling it.


class Row:
    """An entry, column by column as in the table `entries`; `facts` stay text until asked for."""

    __slots__ = (
        "n", "space", "key", *Entry._fields, "hand_state", "hand_deadline", "hand_place",
        "hand_before", "remembered",
    )  # fmt: skip

    state: State
    conversation: str | None
    hand_state: State | None
    hand_deadline: float | None
    hand_place: int | None
    hand_before: str | None
    remembered: int | None
    lapses: float

    def __init__(self, record: tuple[Any, ...]) -> None:
        (
            self.n, self.space, self.key, self.id, self.state, self.version, self.fence, self.rid,
            self.agent_version, self.pinned, self.conversation, self.holder, self.lease,
            self.lapses, self.since, self.fresh_until, self.expires, self.deadline, self.facts,
            self.op, self.hand_state, self.hand_deadline, self.hand_place, self.hand_before,
            self.remembered,
        ) = record  # fmt: skip

    def entry(self) -> Entry:
        """A copy for whoever asked."""
        return _entry(
            Entry,
            (
                self.id, self.state, self.version, self.fence, self.rid, self.agent_version,
                bool(self.pinned), self.conversation, self.holder, self.lease, self.lapses,
                self.since, self.fresh_until, self.expires, self.deadline, _of_text(self.facts),
                self.op,
            ),
        )  # fmt: skip

    def columns(self) -> tuple[object, ...]:
        """What can change, in the order of the table."""
        return (
            self.state, self.version, self.fence, self.rid, self.agent_version, self.pinned,
            self.conversation, self.holder, self.lease, self.lapses, self.since, self.fresh_until,
            self.expires, self.deadline, self.facts, self.op, self.hand_state, self.hand_deadline,
            self.hand_place, self.hand_before, self.remembered,
        )  # fmt: skip

    def alive(self, request: str, now: float) -> bool:
        """Whether that request holds it."""
        return self.lease == request and self.lapses > now

    def release(self, state: State, op: str, now: float) -> None:
        """End its lease."""
        self.state = state
        self.version += 1
        self.holder = self.lease = ""
        self.lapses = FOREVER
        self.since = now
        self.op = op
        self.hand_state = self.hand_deadline = self.hand_place = self.hand_before = None

    def hold(self, held: Held, holder: str, ttl_s: float, fence: int, now: float) -> None:
        """Be leased as the holder says, under a fence greater than any that was known."""
        entry = held.entry
        self.state = "leased"
        self.version = max(self.version, entry.version) + 1
        self.fence = fence
        self.rid, self.agent_version, self.pinned = entry.rid, entry.agent_version, entry.pinned
        self.holder, self.lease, self.op = holder, entry.lease, entry.lease
        self.lapses = self.deadline = now + ttl_s
        self.since = now
        self.fresh_until, self.expires = now + held.fresh_in_s, now + held.expires_in_s
        self.facts = as_text(entry.facts)
        self.hand_state = self.hand_deadline = self.hand_place = self.hand_before = None

    def change(self, put: Put, state: State, now: float) -> None:
        """Do what a put says."""
        was, fresh_until = self.state, self.fresh_until
        if put.fresh_in_s is not None:
            fresh_until = now + put.fresh_in_s
        if was == "leased" and state == "leased":
            if self.hand_state is not None and self.hand_before is None:
                self.hand_before = self._as_it_is()
            self.version += 1
            self.op = put.op
            self.deadline = self.lapses
        elif was == "leased":
            self.release(state, put.op, now)
            self.deadline = fresh_until
        else:
            self.state = state
            self.version += 1
            self.op = put.op
            if state != was:
                self.since = now
        self.fresh_until = fresh_until
        if state != "leased":
            if put.deadline_in_s is not None:
                self.deadline = now + put.deadline_in_s
            if state == "idle" and fresh_until < self.deadline:
                self.deadline = fresh_until
        self._say(put, now)
        if put.unbind or state in FREE:
            self.conversation = None

    def _say(self, put: Put, now: float) -> None:
        if put.expires_in_s is not None:
            self.expires = now + put.expires_in_s
        if put.facts is not None:
            self.facts = as_text(put.facts)
        if put.rid is not None:
            self.rid = put.rid
        if put.agent_version is not None:
            self.agent_version = put.agent_version
        if put.pinned is not None:
            self.pinned = put.pinned

    def undo(self, now: float) -> None:
        """Take back a lease that nobody saw: it is what it was before, but for its spent fence."""
        state, deadline, before = self.hand_state, self.hand_deadline, self.hand_before
        if state is None or deadline is None:
            return
        self.release(state, "", now)
        self.deadline = deadline
        if state in FREE:
            self.conversation = None
        if before is not None:
            (
                self.fresh_until, self.expires, self.facts, self.rid, self.agent_version,
                self.pinned,
            ) = json.loads(before)  # fmt: skip

    def _as_it_is(self) -> str:
        return json.dumps(
            (
                self.fresh_until, self.expires, self.facts, self.rid, self.agent_version,
                bool(self.pinned),
            )
        )  # fmt: skip


def blank(space: int, key: int, entry_id: str, now: float) -> Row:
    """What an insertion changes."""
    return Row(
        (
            0, space, key, entry_id, "chore", 0, 0, "", "", 0, None, "", "", FOREVER, now, FOREVER,
            FOREVER, FOREVER, "", "", None, None, None, None, None,
        )
    )  # fmt: skip


class Waiter:
    """A request that was not served at once, column by column as in the table `waiters`."""

    __slots__ = (  # noqa: RUF023  # in the order of the table
        "n", "key", "request", "place", "patience", "holder", "conversation", "version", "wish_s",
        "ttl_s", "own_only", "lane", "entry", "verdict", "bell", "known",
    )  # fmt: skip

    conversation: str | None
    version: str | None
    lane: str | None
    entry: str | None
    verdict: Literal["version", "empty"] | None

    def __init__(self, record: tuple[Any, ...]) -> None:
        (
            self.n, self.key, self.request, self.place, self.patience, self.holder,
            self.conversation, self.version, self.wish_s, self.ttl_s, self.own_only, self.lane,
            self.entry, self.verdict, self.bell, self.known,
        ) = record  # fmt: skip

    @property
    def standing(self) -> bool:
        """Whether it is in line, rather than with something to fetch."""
        return self.entry is None and self.verdict is None

    @property
    def turn(self) -> tuple[int, str]:
        """Whose turn it is; a number that came twice leaves it to the ids."""
        return (self.place, self.request)


def newcomer(key: int, want: Want, request: str, place: int, bell: str, known: int) -> Waiter:
    """A waiter who has no row yet."""
    _, holder, conversation, version, wish_s, ttl_s, _, _, own_only = want
    return Waiter(
        (
            0, key, request, place, FOREVER, holder, conversation, version, wish_s, ttl_s, own_only,
            None, None, None, bell, known,
        )
    )  # fmt: skip
