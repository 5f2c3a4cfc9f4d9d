"""The nouns: what there is, as plain values.

Three families live here: what the remote tells (`Session`, `Sighting`, `Exchange`), what a store
keeps (`PoolKey`, `Entry`, `Facts`, `Counts`) and what the rules go by (`Terms`). What a store is
asked and answers is next door, in `space`. Values only: this room decides nothing, does no I/O and
reads no clock. Named tuples where one is made on every hand-out: they are immutable and cheap.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple

FOREVER: Final = float("inf")

# --------------------------------------------------------------------------- what the remote tells


@dataclass(frozen=True, slots=True)
class Session:
    """A conversation session as the remote describes it (Create Session, "Response body").

    Attributes:
        rid: `ri.aip-agents..session.<uuid>`.
        agent_rid: `ri.aip-agents..agent.<uuid>`.
        agent_version: `major.minor`; a session keeps the version it was created with.
        title: at most 200 characters; made of the conversation, hence not in the repr (B29).
        created_time, updated_time, estimated_expires_time: by the remote's clock.
        message_count: user and agent messages together, so two for each complete exchange.
    """

    rid: str
    agent_rid: str
    agent_version: str
    created_time: datetime
    updated_time: datetime
    estimated_expires_time: datetime
    message_count: int
    title: str = field(default="", repr=False)

    @property
    def lifetime_s(self) -> float:
        """Seconds between its last exchange and its end, as the remote estimates it (B15)."""
        return (self.estimated_expires_time - self.updated_time).total_seconds()


class Sighting(NamedTuple):
    """A session as one answer showed it, with its life as a duration (B20).

    `remaining_s` counts from the moment the answer was read: what the remote's own clock says is
    left, less the second that `Date` is truncated by, less the time that the request took. An
    answer that does not say (`said` is False) promises nothing: then it is 0.
    """

    session: Session
    remaining_s: float
    said: bool = True

    @property
    def said_s(self) -> float | None:
        """What is left, where the answer says so."""
        return self.remaining_s if self.said else None


@dataclass(frozen=True, slots=True)
class Exchange:
    """One finished exchange: what the agent answered.

    Attributes:
        text: the answer, markdown. Not in the repr (B29), nor are the parameter updates.
        trace_id: the `sessionTraceId` it was sent with.
        tokens_used: as the remote counted them, or None.
        parameter_updates: id to value, as the remote sent them.
        interrupted: it was cancelled with a given response.
    """

    text: str = field(repr=False)
    trace_id: str
    tokens_used: int | None = None
    parameter_updates: Mapping[str, Any] = field(default_factory=dict, repr=False)
    interrupted: bool = False


# ------------------------------------------------------------------------------ what a store keeps

State = Literal[
    "creating",
    "unsettled",
    "idle",
    "ageing",
    "leased",
    "parked",
    "quarantined",
    "retiring",
    "gone",
    "chore",
]
"""A store knows six of them: `idle` and `ageing` are takeable by anybody, `parked` by its
conversation; `leased` is held; `retiring` and `gone` hold their conversation no more and remember
it. Any other holds its conversation and is only counted. A `chore` is no session: it makes a key's
upkeep due."""


class PoolKey(NamedTuple):
    """Counts and limits are per key: (host, principal, agent RID)."""

    host: str
    principal: str
    agent_rid: str


class Sought(NamedTuple):
    """What is known of a session that a creation may have made, its answer lost (B12).

    Attributes:
        agent_version: the one asked for; None for the latest published.
        newest: the newest that was known then; the latest published is not older.
        messages: as many as a fresh session has; None where none was seen yet.
        since_s: seconds before its entry came into its state, from which on it can have been made;
            negative for a creation that is tried again, whose earlier attempts are on record.
        until_s: seconds after that, until which it can be made.
        rid: the session that was found to be it, while what follows from that is done.
    """

    agent_version: str | None = None
    newest: str | None = None
    messages: int | None = None
    since_s: float = 0.0
    until_s: float = 0.0
    rid: str | None = None


class Facts(NamedTuple):
    """What the rules know of a session beyond its state. Opaque to a store, which keeps it.

    Attributes:
        session: as last seen, its title blank once anything was said (B29).
        lifetime_s: seconds from an exchange to the end, as observed (B15).
        exchanges: exchanges known to have been made, the pool's own and those of `touch`.
        generation: 1 for a conversation's first session, one more for each that followed.
        replaces: RID of the session this one followed in its conversation.
        replace_reason: why that one had to be replaced.
        accepted: the conversation has taken note of the loss (`start_over`), or there was none.
        trace_id: the exchange in flight, recorded before it was sent (B30).
        trouble: why it is in quarantine, or what is to be checked there.
        reason: why it is leaving (retiring, gone).
        remote: False once the remote is known to have it no more, so nothing is left to delete.
        forced: it must be deleted at the remote whatever the policy says (`forget`).
        sought: of a creation, under way or unsettled: how its session would be recognised.
        batch: how often the agent had been recycled when its creation was sent (B25).
        bound: its conversation has given it back once, and so has it for good.
        seen: a holder read its RID or spoke in it, so any client may have said something there,
            whatever `exchanges` says; until a look shows that nobody has.
    """

    session: Session | None = None
    lifetime_s: float = 0.0
    exchanges: int = 0
    generation: int = 1
    replaces: str | None = None
    replace_reason: str | None = None
    accepted: bool = True
    trace_id: str | None = None
    trouble: str | None = None
    reason: str | None = None
    remote: bool = True
    forced: bool = False
    sought: Sought | None = None
    batch: int = 0
    bound: bool = False
    seen: bool = False


NO_FACTS: Final = Facts()


class Entry(NamedTuple):
    """One session, or the memory of one, as the store keeps it. Instants are by the store's clock.

    Attributes:
        id: ours, for ever; the RID is a field, since a creation has none yet.
        version: grows at each change; keepers compare and set by it.
        fence: grows at each hand-out; what a holder shows.
        pinned: created for a version asked for by number, not for "latest published".
        holder, lease: who has it, and by which request; empty unless leased.
        lapses: when the lease ends by itself; FOREVER for a lease without end.
        since: when it came into its state.
        fresh_until, expires, deadline: due for replacement; the end, as estimated; when upkeep
            looks at it. Three different things, and `due` moves only the last.
        op: id of the request that wrote it last, so that a repeated one is known.
    """

    id: str
    state: State
    version: int
    fence: int
    rid: str
    agent_version: str
    pinned: bool
    conversation: str | None
    holder: str
    lease: str
    lapses: float
    since: float
    fresh_until: float
    expires: float
    deadline: float
    facts: Facts
    op: str


class Counts:
    """How a key stands, in one snapshot. `tally` holds the running totals (B24).

    Attributes:
        states: how many entries are in each state.
        waiting: requests in line. new: those of them that need a session not yet made, those of
            one conversation counted once and those beyond `max_leased` not at all (B8).
        tally: "created", "adopted", "retired", … since the store began.
    """

    __slots__ = ("new", "states", "tally", "waiting")

    def __init__(
        self, states: dict[str, int], waiting: int, new: int, tally: dict[str, int]
    ) -> None:
        self.states = states
        self.waiting = waiting
        self.new = new
        self.tally = tally

    def of(self, *states: State) -> int:
        """How many entries are in any of these states."""
        counted = self.states
        return sum(counted.get(state, 0) for state in states)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Counts):
            return NotImplemented
        return (self.states, self.waiting, self.new, self.tally) == (
            other.states,
            other.waiting,
            other.new,
            other.tally,
        )

    __hash__ = None  # type: ignore[assignment]  # mutable value

    def __repr__(self) -> str:
        return f"Counts({self.states}, waiting={self.waiting}, new={self.new}, {self.tally})"


# ------------------------------------------------------------------------ what the rules work with


class Terms(NamedTuple):
    """An agent's policy as the rules see it; field by field as in `AgentPolicy`."""

    min_idle: int
    max_idle: int
    max_leased: int
    max_creating: int
    max_waiting: int
    max_parked: int
    min_remaining_s: float
    doubt_s: float
    refresh_ahead_s: float
    park_timeout_s: float | None
    remember_s: float
    settle_s: float
    verify_after_s: float
    exchange_timeout_s: float
    reuse: Literal["never", "anyone"]
    context_lost: Literal["announce", "raise"]
    lease_ttl_s: float
    error_ttl_s: float
    agent_version: str | None
    delete_retired: Literal["unused", "all", "none"]
