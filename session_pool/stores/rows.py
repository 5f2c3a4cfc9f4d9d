"""An entry of the memory store through its changes: values in, values out.

A row is where an entry is kept; the entry itself is immutable and replaced whole, so that whoever
was given one keeps what he was given. Knows no index and no line.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from session_pool.model import FOREVER, NO_FACTS, Entry, PoolKey, State
from session_pool.space import Put, Want

FREE: Final = frozenset(("idle", "ageing"))
"""States in which anybody may have it, so that it belongs to no conversation."""

if TYPE_CHECKING:
    from session_pool.stores.shelf import Shelf

make_entry: Final[Callable[[type[Entry], tuple[object, ...]], Entry]] = tuple.__new__
"""`Entry` from all its fields in order, at half the price of calling it."""


class Row:
    """Where an entry is kept, for as long as it exists.

    Attributes:
        key: whose.
        entry: as it is now.
        former: what it was before it was handed out, should that have to be undone.
        place: the number under which it was handed out.
        queued: when `Deadlines` looks at it next; FOREVER if never, -FOREVER once deleted.
        shelf: where it has a slot: as long as it is free, and perhaps while it is leased.
    """

    __slots__ = ("entry", "former", "key", "place", "queued", "shelf")

    def __init__(self, key: PoolKey, entry: Entry) -> None:
        self.key = key
        self.entry = entry
        self.former: Entry | None = None
        self.place = 0
        self.queued = FOREVER
        self.shelf: Shelf | None = None

    def __lt__(self, other: Row) -> bool:
        """Settles the order of what is due, or ends, at the same instant."""
        return self.entry.id < other.entry.id


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
    """The entry as handed out for a want: the hit path, hence unpacked and packed in one go."""
    (
        entry_id, _, version, fence, rid, agent_version, pinned, _, _, _, _, _,
        fresh_until, expires, _, facts, _,
    ) = entry  # fmt: skip
    _, holder, conversation, _, _, ttl_s, _, _, _ = want
    lapses = now + ttl_s
    return make_entry(
        Entry,
        (
            entry_id, "leased", version + 1, fence + 1, rid, agent_version, pinned, conversation,
            holder, request, lapses, now, fresh_until, expires, lapses, facts, request,
        ),
    )  # fmt: skip


def changed(entry: Entry, put: Put, now: float) -> Entry:
    """The entry after a `Put` that does not delete it; unpacked likewise, for the release path."""
    (
        entry_id, was, version, fence, rid, agent_version, pinned, conversation, holder, lease,
        lapses, since, fresh_until, expires, deadline, facts, _,
    ) = entry  # fmt: skip
    (
        _, _, op, to, _, _, new_facts, deadline_in_s, expires_in_s, fresh_in_s, new_rid,
        new_version, new_pinned, unbind, _, _,
    ) = put  # fmt: skip
    state: State = to if to is not None else was
    if new_facts is not None:
        facts = new_facts
    if expires_in_s is not None:
        expires = now + expires_in_s
    if fresh_in_s is not None:
        fresh_until = now + fresh_in_s
    if new_rid is not None:
        rid = new_rid
    if new_version is not None:
        agent_version = new_version
    if new_pinned is not None:
        pinned = new_pinned
    if unbind or state in FREE:
        conversation = None
    if was == "leased" and state == "leased":
        deadline = lapses
    else:
        if deadline_in_s is not None:
            deadline = now + deadline_in_s
        elif was == "leased":
            deadline = fresh_until
        holder, lease, lapses = "", "", FOREVER
    if state == "idle" and fresh_until < deadline:
        deadline = fresh_until
    if state != was:
        since = now
    return make_entry(
        Entry,
        (
            entry_id, state, version + 1, fence, rid, agent_version, pinned, conversation, holder,
            lease, lapses, since, fresh_until, expires, deadline, facts, op,
        ),
    )  # fmt: skip


def undone(entry: Entry, former: Entry, now: float) -> Entry:
    """A lease that nobody saw: the session is what it was before, but for its spent fence."""
    return former._replace(version=entry.version + 1, fence=entry.fence, since=now, op="")
