"""One entry of the memory store, where it is kept: changed in place, copied where it is handed out.

Knows how an entry changes, and no index and no line.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from session_pool.model import FOREVER, NO_FACTS, Entry, PoolKey, State
from session_pool.space import Held, Put

if TYPE_CHECKING:
    from session_pool.stores.shelf import Shelf

FREE: Final = frozenset(("idle", "ageing"))
"""States in which anybody may have it, so that it belongs to no conversation."""

MEMORIES: Final = frozenset(("retiring", "gone"))
"""States in which its conversation has it no more, and remembers it."""

Hand = tuple[State, float, int, Entry | None]
"""What a hand-out can be undone by: state and deadline before it, the number under which it was
handed out, and the entry as it was then, once its holder has written something."""

_entry: Final[Callable[[type[Entry], tuple[object, ...]], Entry]] = tuple.__new__
# `Entry` from all its fields in order, at half the price of calling it: this is the hit path.


class Row:
    """An entry, field by field as in `Entry`, and where the store's parts have it.

    Attributes:
        key: whose.
        hand: how its hand-out is undone; None unless leased.
        queued: when `Deadlines` looks at it next; FOREVER if never, -FOREVER once deleted.
        shelf: where it has a slot: as long as it is free, and perhaps while it is leased.
    """

    __slots__ = (*Entry._fields, "hand", "key", "queued", "shelf")

    state: State
    conversation: str | None

    def __init__(self, key: PoolKey, entry_id: str, now: float) -> None:
        self.key = key
        self.id = entry_id
        self.state = "chore"
        self.version = 0
        self.fence = 0
        self.rid = ""
        self.agent_version = ""
        self.pinned = False
        self.conversation = None
        self.holder = ""
        self.lease = ""
        self.lapses = FOREVER
        self.since = now
        self.fresh_until = FOREVER
        self.expires = FOREVER
        self.deadline = FOREVER
        self.facts = NO_FACTS
        self.op = ""
        self.hand: Hand | None = None
        self.queued = FOREVER
        self.shelf: Shelf | None = None

    def __lt__(self, other: Row) -> bool:
        """Settles the order of what is due, or ends, at the same instant."""
        return self.id < other.id

    def entry(self) -> Entry:
        """A copy for whoever asked."""
        return _entry(
            Entry,
            (
                self.id, self.state, self.version, self.fence, self.rid, self.agent_version,
                self.pinned, self.conversation, self.holder, self.lease, self.lapses, self.since,
                self.fresh_until, self.expires, self.deadline, self.facts, self.op,
            ),
        )  # fmt: skip

    @property
    def place(self) -> int:
        """The number under which it was handed out."""
        return self.hand[2] if self.hand is not None else 0

    def alive(self, request: str, now: float) -> bool:
        """Whether that request holds it."""
        return self.lease == request and self.lapses > now

    def held(self, key: PoolKey, fence: int, op: str, now: float) -> bool:
        """Whether it is held under that fence, and this request has not been done already."""
        return (
            self.fence == fence
            and self.state == "leased"
            and self.lapses > now
            and self.op != op
            and self.key is key
        )

    def take_back(self, state: State, op: str, now: float) -> None:
        """End its lease."""
        self.state = state
        self.version += 1
        self.holder = self.lease = ""
        self.lapses = FOREVER
        self.since = now
        self.op = op
        self.hand = None

    def hold(self, held: Held, holder: str, ttl_s: float, now: float) -> None:
        """Be leased as the holder says, under a fence greater than any that was known."""
        entry = held.entry
        self.state = "leased"
        self.version = max(self.version, entry.version) + 1
        self.fence = max(self.fence, entry.fence) + 1
        self.rid, self.agent_version, self.pinned = entry.rid, entry.agent_version, entry.pinned
        self.holder, self.lease, self.op = holder, entry.lease, entry.lease
        self.lapses = self.deadline = now + ttl_s
        self.since = now
        self.fresh_until, self.expires = now + held.fresh_in_s, now + held.expires_in_s
        self.facts = entry.facts
        self.hand = None

    def change(self, put: Put, state: State, now: float) -> None:
        """Do what a put says."""
        was, fresh_in_s, deadline_in_s = self.state, put.fresh_in_s, put.deadline_in_s
        hand = self.hand
        fresh_until = self.fresh_until if fresh_in_s is None else now + fresh_in_s
        if was == state == "leased":
            if hand is not None and hand[3] is None:
                self.hand = (*hand[:3], self.entry())
            self.version += 1
            self.op = put.op
            self.deadline = self.lapses
        elif was == "leased":
            self.take_back(state, put.op, now)
            self.deadline = fresh_until
        else:
            self.state = state
            self.version += 1
            self.op = put.op
            if state != was:
                self.since = now
        self.fresh_until = fresh_until
        if state != "leased":
            if deadline_in_s is not None:
                self.deadline = now + deadline_in_s
            if state == "idle" and fresh_until < self.deadline:
                self.deadline = fresh_until
        if put.expires_in_s is not None:
            self.expires = now + put.expires_in_s
        if put.facts is not None:
            self.facts = put.facts
        if put.rid is not None:
            self.rid = put.rid
        if put.agent_version is not None:
            self.agent_version = put.agent_version
        if put.pinned is not None:
            self.pinned = put.pinned
        if put.unbind or state in FREE:
            self.conversation = None

    def undo(self, hand: Hand, now: float) -> None:
        """Take back a lease that nobody saw: it is what it was before, but for its spent fence."""
        state, deadline, _, before = hand
        self.take_back(state, "", now)
        self.deadline = deadline
        if state in FREE:
            self.conversation = None
        if before is not None:
            self.fresh_until, self.expires = before.fresh_until, before.expires
            self.facts, self.rid = before.facts, before.rid
            self.agent_version, self.pinned = before.agent_version, before.pinned
