"""Sessions: who owns them, how long they live, what a listing shows (contract 2, 3, 6).

Time comes from the server's clock; requests and faults are not known here, only the life that a
fault asks for.
"""

from __future__ import annotations

import asyncio
import heapq
import uuid
from dataclasses import dataclass, field
from datetime import datetime
from math import inf
from typing import Any, Literal, NamedTuple

from .agents import RID
from .errors import ApiError, refusal
from .oauth import Principal
from .settings import EmulatorSettings
from .times import ServerClock, as_datetime, later

State = Literal["running", "complete", "cancelled", "abandoned", "failed", "gone"]


class Life(NamedTuple):
    """How long a session lives without an exchange, in seconds: as shown, and in truth."""

    shown_s: float
    true_s: float


@dataclass(slots=True, eq=False)
class ExchangeRecord:
    """An exchange as the server knows it.

    Attributes:
        session_rid, trace_id, message_id, mark: what it belongs to and is named.
        state: "complete" is stored; "cancelled" is stored if a response came with it;
            "abandoned" and "failed" are not; "gone" ended with its session.
        text, answer: of the user and the agent; not in the repr.
        number: which exchange of its session it is, the first being 1; 0 while not known.
        begun_ns, shown_ns: instants by the server's clock: its begin, and from when on it shows.
        chunks: what a stream has said so far.
    """

    session_rid: str
    trace_id: str
    message_id: str | None
    mark: str | None
    begun_ns: int
    streaming: bool
    text: str = field(repr=False)
    contexts: dict[str, Any] | None = field(default=None, repr=False)
    state: State = "running"
    answer: str = field(default="", repr=False)
    updates: dict[str, Any] = field(default_factory=dict, repr=False)
    tokens: int | None = None
    interrupted: bool = False
    number: int = 0
    shown_ns: int = 0
    stored: bool = False
    chunks: list[bytes] = field(default_factory=list, repr=False)
    done: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    news: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    def result(self) -> dict[str, Any]:
        """A `SessionExchangeResult` of the API."""
        body: dict[str, Any] = {
            "agentMarkdownResponse": self.answer,
            "parameterUpdates": self.updates,
            "interruptedOutput": self.interrupted,
            "sessionTraceId": self.trace_id,
        }
        if self.tokens is not None:
            body["totalTokensUsed"] = self.tokens
        return body

    def wire(self) -> dict[str, Any]:
        """A `SessionExchange` of the API."""
        body: dict[str, Any] = {"userInput": {"text": self.text}, "result": self.result()}
        if self.contexts is not None:
            body["contexts"] = self.contexts
        return body


@dataclass(slots=True, eq=False)
class SessionRecord:
    """A session as the server knows it; instants are nanoseconds by the server's clock.

    Attributes:
        owner, client: the user it belongs to, and the OAuth client that made it.
        shown_ns: the estimate that it shows.
        dies_ns: when it really dies.
        exchanges: the stored ones, oldest first.
        running: exchanges under way.
        traces: every exchange ever begun, by trace id.
        marks: conversations that used it, in order of their first exchange.
        deleted, killed: ended by the API, or by the one who runs the emulator.
    """

    rid: str
    agent_rid: str
    agent_version: str
    owner: str
    client: str | None
    life: Life
    created_ns: int
    updated_ns: int
    shown_ns: int
    dies_ns: int
    title: str = field(repr=False)
    exchanges: list[ExchangeRecord] = field(default_factory=list, repr=False)
    running: list[ExchangeRecord] = field(default_factory=list, repr=False)
    traces: dict[str, ExchangeRecord] = field(default_factory=dict, repr=False)
    marks: list[str] = field(default_factory=list)
    deleted: bool = False
    killed: bool = False

    @property
    def ended(self) -> bool:
        """Deleted or killed, so dead whatever the time."""
        return self.deleted or self.killed

    @property
    def created_at(self) -> datetime:
        return as_datetime(self.created_ns)

    @property
    def updated_at(self) -> datetime:
        return as_datetime(self.updated_ns)

    @property
    def estimated_expires_at(self) -> datetime:
        """What it shows."""
        return as_datetime(self.shown_ns)

    @property
    def expires_at(self) -> datetime:
        """When it really dies, unless an exchange extends it."""
        return as_datetime(self.dies_ns)


class Page(NamedTuple):
    """One page of a listing: the sessions, and where the next one starts (None: nowhere)."""

    sessions: list[SessionRecord]
    next: tuple[int, str] | None


class Sessions:
    """All sessions there ever were.

    Attributes:
        all: by RID.
    """

    def __init__(self, settings: EmulatorSettings, clock: ServerClock) -> None:
        self._settings = settings
        self._clock = clock
        self.all: dict[str, SessionRecord] = {}
        self._of_user: dict[str, list[SessionRecord]] = {}

    def usual_life(self) -> Life:
        """The life of a session that no fault touches."""
        shown = self._settings.lifetime_s
        return Life(shown, max(0.0, shown + self._settings.expiry_error_s))

    def create(
        self, principal: Principal, agent_rid: str, agent_version: str, life: Life
    ) -> SessionRecord:
        """Make a session; its version stays what it is (contract 6.1)."""
        now = self._clock.stamp_ns()
        session = SessionRecord(
            rid=f"ri.aip-agents..session.{uuid.uuid4()}",
            agent_rid=agent_rid,
            agent_version=agent_version,
            owner=principal.user,
            client=principal.client,
            life=life,
            created_ns=now,
            updated_ns=now,
            shown_ns=later(now, life.shown_s),
            dies_ns=later(now, life.true_s),
            title=self._settings.fresh_title,
        )
        self.all[session.rid] = session
        self._of_user.setdefault(session.owner, []).append(session)
        return session

    def alive(self, session: SessionRecord) -> bool:
        """Neither deleted nor killed nor expired; at its very instant of expiry it is dead."""
        return not session.ended and self._clock.now_ns() < session.dies_ns

    def find(
        self, principal: Principal, agent_rid: str, session_rid: str, *, denied: str | None
    ) -> SessionRecord:
        """The caller's living session.

        Args:
            denied: the operation's name for a refusal, for another user's session.

        Raises:
            ApiError: SessionNotFound (or the setting's name) where it is unknown, dead, another
                agent's or another user's; a refusal where `foreign_session` says so;
                Conjure:InvalidArgument where it is no RID at all.
        """
        if not RID.fullmatch(session_rid):
            raise refusal("Conjure:InvalidArgument")
        session = self.all.get(session_rid)
        if session is None or session.agent_rid != agent_rid:
            raise refusal("SessionNotFound", agentRid=agent_rid, sessionRid=session_rid)
        if session.owner != principal.user and self._settings.foreign_session == "denied":
            name = denied or "Default:PermissionDenied"
            raise refusal(name, agentRid=agent_rid, sessionRid=session_rid)
        if session.owner != principal.user or session.deleted:
            raise refusal("SessionNotFound", agentRid=agent_rid, sessionRid=session_rid)
        if not self.alive(session):
            raise self.gone(session)
        return session

    def gone(self, session: SessionRecord) -> ApiError:
        """What the use of an expired session answers."""
        return refusal(
            "SessionNotFound" if session.deleted else self._settings.expired_error,
            agentRid=session.agent_rid,
            sessionRid=session.rid,
        )

    def dead_of(self, principal: Principal, session_rid: str) -> bool:
        """Whether this is the caller's own session, and dead."""
        session = self.all.get(session_rid)
        return session is not None and session.owner == principal.user and not self.alive(session)

    def touched_by(self, session: SessionRecord, op: str) -> None:
        """An operation that may extend the life, by the settings (contract 6.3)."""
        if op in self._settings.extended_by:
            self.extend(session)

    def extend(self, session: SessionRecord, *, updated: bool = False) -> None:
        """The life starts again; an exchange is an update as well (contract 6.2)."""
        now = self._clock.stamp_ns()
        if updated:
            session.updated_ns = now
        session.shown_ns = later(now, session.life.shown_s)
        session.dies_ns = later(now, session.life.true_s)

    def retitle(self, session: SessionRecord, title: str) -> None:
        """Set the title; more than 200 characters are cut off, not refused."""
        session.title = title[:200]
        if self._settings.title_touches:
            session.updated_ns = self._clock.stamp_ns()

    def shown(self, session: SessionRecord) -> list[ExchangeRecord]:
        """The stored exchanges that show by now (`content_lag_s`)."""
        now = self._clock.now_ns()
        return [exchange for exchange in session.exchanges if exchange.shown_ns <= now]

    def page(
        self,
        principal: Principal,
        *,
        agent_rid: str | None,
        size: int,
        after: tuple[int, str] | None,
    ) -> Page:
        """The caller's living sessions made by this client, latest update first (contract 6.8)."""
        keyed = [
            ((session.updated_ns, session.rid), session)
            for session in self._of_user.get(principal.user, ())
            if session.client == principal.client
            and (agent_rid is None or session.agent_rid == agent_rid)
            and (after is None or (session.updated_ns, session.rid) < after)
            and self.alive(session)
        ]
        found = heapq.nlargest(size + 1, keyed, key=lambda pair: pair[0])
        more = found[size - 1][0] if len(found) > size else None
        return Page([session for _, session in found[:size]], more)

    def wire(self, session: SessionRecord) -> dict[str, Any]:
        """A `Session` of the API."""
        text = self._clock.text
        count = self._settings.fresh_message_count + 2 * len(self.shown(session))
        return {
            "rid": session.rid,
            "metadata": {
                "title": session.title,
                "createdTime": text(session.created_ns),
                "updatedTime": text(session.updated_ns),
                "messageCount": count,
                "estimatedExpiresTime": text(session.shown_ns),
            },
            "agentRid": session.agent_rid,
            "agentVersion": session.agent_version,
        }


def life_for(kind: str, by_s: float | None, usual: Life) -> Life:
    """The life that a fault asks for; see `faults.KINDS` for what each kind means."""
    if kind == "early_expiry":
        by = usual.shown_s / 2 if by_s is None else by_s
        return Life(usual.shown_s, max(0.0, usual.shown_s - by))
    if kind == "late_expiry":
        by = usual.shown_s if by_s is None else by_s
        return Life(usual.shown_s, usual.shown_s + by)
    if kind == "wrong_estimate":
        by = -usual.true_s / 2 if by_s is None else by_s
        return Life(usual.true_s + by, usual.true_s)
    if kind == "expired_at_birth":
        by = 60.0 if by_s is None else by_s
        return Life(-by, -by)
    return Life(inf, inf)
