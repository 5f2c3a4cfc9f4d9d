"""What happened, as frozen data. News goes upward only as events (`pool.subscribe()`).

Events carry no text of a conversation and no token; a conversation appears as a short keyed hash
(B29). This room makes values and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened.

    Attributes:
        at: when, by this process's clock.
        agent_rid: of which agent; empty where it concerns the whole pool.
    """

    agent_rid: str = ""
    at: datetime = field(default_factory=_now)

    @property
    def name(self) -> str:
        """The kind of event, as it appears in logs."""
        return type(self).__name__


@dataclass(frozen=True, kw_only=True)
class SessionCreated(Event):
    """A session was created; it took `took_s` seconds from the first attempt on."""

    session_rid: str
    agent_version: str
    took_s: float


@dataclass(frozen=True, kw_only=True)
class CreationFailed(Event):
    """An attempt to create a session failed; tried again in `retry_in_s`, or not at all (None)."""

    error: str
    error_name: str | None
    retry_in_s: float | None


@dataclass(frozen=True, kw_only=True)
class CreationUnsettled(Event):
    """A creation's answer was lost: a session may exist that nobody knows the RID of (B12)."""

    error: str


@dataclass(frozen=True, kw_only=True)
class CreationSettled(Event):
    """What became of an unsettled creation is known, or cannot be (B12).

    Attributes:
        outcome: "adopted", "deleted", "reported", "nothing found" or "cannot be looked for".
    """

    outcome: str


@dataclass(frozen=True, kw_only=True)
class OrphanFound(Event):
    """A session that a lost creation seems to have made; it is left alone (B12)."""

    session_rid: str


@dataclass(frozen=True, kw_only=True)
class OrphanAdopted(Event):
    """A session that a lost creation made lies ready now; only with `sole_owner` (B12)."""

    session_rid: str


@dataclass(frozen=True, kw_only=True)
class SessionRetired(Event):
    """A session will not be handed out any more."""

    session_rid: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class SessionDeleted(Event):
    """A session was deleted at the remote (B25)."""

    session_rid: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class SessionDied(Event):
    """The remote does not know a session any more; `early_s` before its estimate, if positive."""

    session_rid: str
    early_s: float


@dataclass(frozen=True, kw_only=True)
class ConversationReplaced(Event):
    """A conversation goes on in another session; `lost` says whether it lost its context (B5)."""

    conversation: str
    session_rid: str
    replaces: str
    generation: int
    reason: str | None
    lost: bool


@dataclass(frozen=True, kw_only=True)
class SessionQuarantined(Event):
    """A session is handed to nobody until it is known what became of its last exchange (B22)."""

    session_rid: str
    trouble: str


@dataclass(frozen=True, kw_only=True)
class QuarantineEnded(Event):
    """The verdict on a quarantined session: the state it left for."""

    session_rid: str
    outcome: str


@dataclass(frozen=True, kw_only=True)
class Mislabelled(Event):
    """A session was given back as unused, and had been used (B4)."""

    session_rid: str


@dataclass(frozen=True, kw_only=True)
class LeaseDropped(Event):
    """A lease was garbage-collected without release; `where` is the line that acquired it (B21)."""

    session_rid: str
    where: str


@dataclass(frozen=True, kw_only=True)
class LeaseEnded(Event):
    """A lease ended against its holder's will, who was told by `lease.lost` (B21).

    Attributes:
        why: what ended it, in words.
        where: the line that acquired it.
    """

    session_rid: str
    why: str
    where: str


@dataclass(frozen=True, kw_only=True)
class StoreAway(Event):
    """The store cannot be reached; told once, however often it is tried (B27)."""

    error: str


@dataclass(frozen=True, kw_only=True)
class StoreBack(Event):
    """The store answers again, after `away_s` seconds (B27)."""

    away_s: float


@dataclass(frozen=True, kw_only=True)
class StoreForgot(Event):
    """The store is another than it was: wiped, replaced, or restarted from an older state (B27).

    Attributes:
        held: leases of this process that were told to it.
        lost: those of them that somebody else has by now.
    """

    held: int
    lost: int


@dataclass(frozen=True, kw_only=True)
class ThresholdsScaled(Event):
    """Sessions of this agent live so briefly that the policy's thresholds were scaled (B16)."""

    lifetime_s: float
    refresh_ahead_s: float


@dataclass(frozen=True, kw_only=True)
class TaskRestarted(Event):
    """A task of the pool died of `error` and was started again."""

    task: str
    error: str


@dataclass(frozen=True, kw_only=True)
class EventsDropped(Event):
    """A subscriber was too slow: the `count` oldest events it had not read are gone."""

    count: int
