"""What each operation does: contract section 4, line by line.

A visit comes in that is authenticated and let through; an answer goes out as a plain value.
Scripted faults are not carried out here, but for those about the life of a session and about
whether an exchange is stored, which are part of the effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from . import bodies
from .agents import Agent, Agents
from .audit import Ledger
from .errors import refusal
from .exchanges import Exchanges
from .faults import Plan
from .oauth import Principal
from .operations import WRITE, Operation
from .sessions import ExchangeRecord, Life, SessionRecord, Sessions, life_for
from .settings import EmulatorSettings
from .times import ServerClock, later


@dataclass(slots=True)
class Question:
    """A request, read: what the endpoints need of it and nothing else."""

    operation: Operation
    principal: Principal
    path: Mapping[str, str]
    query: Mapping[str, str]
    content_type: str
    body: bytes = field(repr=False)
    plan: Plan = field(default_factory=Plan)

    @property
    def agent_rid(self) -> str:
        return self.path["agent_rid"]

    @property
    def session_rid(self) -> str:
        return self.path["session_rid"]

    @property
    def about(self) -> dict[str, str]:
        """What errors of this request are about, by the names on the wire."""
        names = (("agentRid", "agent_rid"), ("sessionRid", "session_rid"))
        return {wire: self.path[name] for wire, name in names if name in self.path}

    def json_object(self) -> dict[str, Any]:
        """The body as a JSON object; raises ApiError."""
        return bodies.read_object(self.body, self.content_type)


Answer = dict[str, Any] | ExchangeRecord | None
"""A JSON body, an exchange whose outcome is the body, or nothing at all."""


class Endpoints:
    """The operations, as methods by their names; each raises ApiError for a refusal."""

    def __init__(
        self,
        settings: EmulatorSettings,
        clock: ServerClock,
        agents: Agents,
        sessions: Sessions,
        exchanges: Exchanges,
        ledger: Ledger,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._agents = agents
        self._sessions = sessions
        self._exchanges = exchanges
        self._ledger = ledger
        self.denied: set[tuple[str, str | None]] = set()

    def answer(self, question: Question) -> Answer:
        """Do what is asked, at this instant.

        Raises:
            ApiError: the API's refusal.
        """
        self._check_denied(question)
        method = getattr(self, question.operation.name)
        answer: Answer = method(question)
        return answer

    # ------------------------------------------------------------------------------- sessions

    def create(self, question: Question) -> Answer:
        agent = self._agent(question)
        asked = bodies.text_of(question.json_object(), "agentVersion")
        version = agent.version(asked)
        session = self._sessions.create(
            question.principal, agent.rid, str(version), self._life(question)
        )
        self._ledger.sessions_created += 1
        return self._sessions.wire(session)

    def get(self, question: Question) -> Answer:
        return self._sessions.wire(self._session(question))

    def list(self, question: Question) -> Answer:
        return self._page(question, agent_rid=self._agent(question).rid)

    def all_sessions(self, question: Question) -> Answer:
        return self._page(question, agent_rid=None)

    def delete(self, question: Question) -> Answer:
        self._session(question).deleted = True
        self._ledger.sessions_deleted += 1
        return None

    def update_title(self, question: Question) -> Answer:
        session = self._session(question)
        title = bodies.need(bodies.text_of(question.json_object(), "title"))
        self._sessions.retitle(session, title)
        return None

    def content(self, question: Question) -> Answer:
        session = self._session(question)
        shown = self._sessions.shown(session)
        if not shown and self._settings.fresh_content == "not_found":
            raise refusal("ContentNotFound", **question.about)
        return {"exchanges": [exchange.wire() for exchange in shown]}

    # ------------------------------------------------------------------------------ exchanges

    def blocking_continue(self, question: Question) -> Answer:
        return self._continue(question, streaming=False)

    def streaming_continue(self, question: Question) -> Answer:
        return self._continue(question, streaming=True)

    def cancel(self, question: Question) -> Answer:
        session = self._session(question)
        body = question.json_object()
        message_id = bodies.need(bodies.uuid_of(body, "messageId"))
        exchange = self._exchanges.cancel(session, message_id, bodies.text_of(body, "response"))
        return {"result": exchange.result()} if exchange.stored else {}

    def rag_context(self, question: Question) -> Answer:
        self._session(question)
        body = question.json_object()
        bodies.user_text(body)
        bodies.read_parameters(body, self._agent(question).setup, question.about)
        return {"objectContexts": [], "functionRetrievedContexts": []}

    def trace(self, question: Question) -> Answer:
        session = self._session(question)
        trace_id = question.path["trace_id"]
        exchange = session.traces.get(trace_id)
        status = self._trace_status(exchange) if exchange is not None else None
        if exchange is None or status is None:
            raise refusal("SessionTraceNotFound", **question.about, sessionTraceId=trace_id)
        body: dict[str, Any] = {"id": trace_id, "status": status, "toolCallGroups": []}
        if status == "COMPLETE" and exchange.contexts is not None:
            body["contexts"] = exchange.contexts
        return body

    # --------------------------------------------------------------------------------- agents

    def agent(self, question: Question) -> Answer:
        agent = self._agent(question)
        return agent.wire(agent.version(question.query.get("version")))

    def versions(self, question: Question) -> Answer:
        agent = self._agent(question)
        size, scope = self._page_size(question), f"versions {agent.rid}"
        position = bodies.page_position(question.query, scope)
        start = position[0] if position is not None else 0
        newest_first = sorted(agent.versions, reverse=True)
        answer: dict[str, Any] = {
            "data": [version.wire() for version in newest_first[start : start + size]]
        }
        if len(newest_first) > start + size:
            answer["nextPageToken"] = bodies.page_token(scope, (start + size, ""))
        return answer

    def version(self, question: Question) -> Answer:
        return self._agent(question).version(question.path["version"]).wire()

    # ---------------------------------------------------------------------------------- parts

    def _check_denied(self, question: Question) -> None:
        operation = question.operation
        denied = {(operation.name, None), (operation.name, question.path.get("agent_rid"))}
        if self.denied & denied:
            raise refusal(operation.denied or "Default:PermissionDenied", **question.about)

    def _agent(self, question: Question) -> Agent:
        return self._agents.find(question.agent_rid)

    def _session(self, question: Question) -> SessionRecord:
        """The session asked for; what extends a life by being used does so here."""
        operation = question.operation
        session = self._sessions.find(
            question.principal,
            self._agent(question).rid,
            question.session_rid,
            denied=operation.denied,
        )
        self._sessions.touched_by(session, operation.name)
        return session

    def _life(self, question: Question) -> Life:
        usual = self._sessions.usual_life()
        fault = question.plan.life
        return usual if fault is None else life_for(fault.kind, fault.by_s, usual)

    def _continue(self, question: Question, *, streaming: bool) -> Answer:
        if self._sessions.dead_of(question.principal, question.session_rid):
            self._ledger.exchanges_on_dead_sessions += 1
        session = self._session(question)
        request = bodies.read_continue(
            question.json_object(), self._agent(question).setup, question.about, streaming=streaming
        )
        if question.plan.life is not None:
            session.life = self._life(question)
        recorded = question.plan.of("cut_before") is None
        return self._exchanges.begin(session, request, recorded=recorded)

    def _trace_status(self, exchange: ExchangeRecord) -> str | None:
        """The status of a trace, or None where it is not found (yet)."""
        if self._clock.now_ns() < later(exchange.begun_ns, self._settings.trace_lag_s):
            return None
        if exchange.state == "running":
            return "IN_PROGRESS"
        if exchange.stored:
            return "COMPLETE"
        unrecorded = self._settings.unrecorded_trace
        return None if unrecorded == "not_found" else unrecorded.upper()

    def _page_size(self, question: Question) -> int:
        return bodies.page_size(
            question.query,
            self._settings.max_page_size,
            cap=self._settings.oversized_page == "cap",
        )

    def _page(self, question: Question, *, agent_rid: str | None) -> Answer:
        size, scope = self._page_size(question), f"sessions {agent_rid or 'all'}"
        after = bodies.page_position(question.query, scope)
        page = self._sessions.page(question.principal, agent_rid=agent_rid, size=size, after=after)
        answer: dict[str, Any] = {"data": [self._sessions.wire(one) for one in page.sessions]}
        if page.next is not None:
            answer["nextPageToken"] = bodies.page_token(scope, page.next)
        return answer


def check_scope(operation: Operation, principal: Principal) -> None:
    """Refuse a token that lacks the operation's scope.

    Raises:
        ApiError: GetAllSessionsAgentsPermissionDenied for listing all sessions, whose
            documentation names the scope; ApiUsageDenied for everything else.
    """
    if operation.scope is None or principal.may(operation.scope):
        return
    if operation.name == "all_sessions" and operation.scope == WRITE:
        raise refusal("GetAllSessionsAgentsPermissionDenied")
    raise refusal("ApiUsageDenied", missingScope=operation.scope)
