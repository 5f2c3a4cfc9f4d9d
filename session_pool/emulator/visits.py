"""A request's way through the server: counted, held, spoilt, authenticated, answered.

Each visit runs in a task of the emulator's own, because a server goes on working when its client
hangs up. What the operations do is `endpoints`' business; what goes over the wire, `delivery`'s.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web

from .audit import Ledger
from .delivery import Broken, Delivery, break_connection, scripted
from .endpoints import Answer, Endpoints, Question, check_scope
from .errors import ApiError, refusal
from .exchanges import Exchanges
from .faults import Faults, Plan
from .limits import Limits
from .oauth import OAuthError, Tokens
from .operations import EXCHANGES, Operation
from .sessions import ExchangeRecord, Sessions
from .settings import EmulatorSettings
from .times import ServerClock
from .watch import Gates, Watch


@dataclass(slots=True)
class Call:
    """A request as the server remembers it.

    Attributes:
        op: the operation.
        at_s: when it came, in seconds since the emulator started, by the loop's clock.
        took_s: how long the server was busy with it; None while it is.
        user: whose token it had, once that was looked at.
        agent_rid, session_rid: what it was about.
        status: of the answer; None where none was sent.
        error: the answer's `errorName`.
        outcome: "lost": a script broke the connection; "gone": the client hung up first.
        faults: kinds of the scripted faults that struck it.
    """

    op: str
    at_s: float
    agent_rid: str | None
    session_rid: str | None
    took_s: float | None = None
    user: str | None = None
    status: int | None = None
    error: str | None = None
    outcome: Literal["in flight", "answered", "lost", "gone"] = "in flight"
    faults: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class Visit:
    """A request under way; `gone` is set when its client hangs up."""

    operation: Operation
    request: web.Request
    plan: Plan
    call: Call
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    when_gone: Callable[[], None] | None = None

    @property
    def about(self) -> dict[str, str]:
        names = (("agentRid", self.call.agent_rid), ("sessionRid", self.call.session_rid))
        return {name: rid for name, rid in names if rid is not None}

    def leave(self) -> None:
        """The client hung up."""
        self.gone.set()
        if self.when_gone is not None:
            self.when_gone()


@dataclass(slots=True)
class Visits:
    """Serves requests; one for each emulator. The fields are the rooms it goes through."""

    settings: EmulatorSettings
    clock: ServerClock
    tokens: Tokens
    faults: Faults
    gates: Gates
    watch: Watch
    ledger: Ledger
    limits: Limits
    sessions: Sessions
    exchanges: Exchanges
    endpoints: Endpoints
    delivery: Delivery
    chance: random.Random
    spawn: Callable[[Coroutine[Any, Any, web.StreamResponse]], asyncio.Task[web.StreamResponse]]
    calls: deque[Call]
    started_s: float = 0.0

    async def handle(self, operation: Operation, request: web.Request) -> web.StreamResponse:
        """Serve a request; cancelling it (the client hung up) ends what waits for the client."""
        plan = self.faults.plan(operation.name)
        call = Call(
            op=operation.name,
            at_s=self._now_s(),
            agent_rid=request.match_info.get("agent_rid"),
            session_rid=request.match_info.get("session_rid"),
            faults=tuple([fault.error or fault.kind for fault in plan.faults]),
        )
        self.calls.append(call)
        visit = Visit(operation, request, plan, call)
        self.ledger.arrived(operation.name)
        self.watch.changed()
        task = self.spawn(self._visit(visit))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            visit.leave()
            raise

    async def pause(self, latency_s: float) -> None:
        """Wait a latency, with the settings' jitter; none at all does not even yield."""
        if latency_s > 0:
            jitter = self.settings.latency_jitter
            await asyncio.sleep(latency_s * (1 + jitter * self.chance.uniform(-1, 1)))

    async def _visit(self, visit: Visit) -> web.StreamResponse:
        call = visit.call
        try:
            response = await self._answered(visit)
        except Broken:
            call.outcome = "lost"
            self.ledger.answers_lost += 1
            break_connection(visit.request)
            return web.Response()  # for aiohttp; there is nobody to read it
        except ConnectionError:
            call.outcome = "gone"
            return web.Response()
        else:
            call.outcome = "gone" if visit.gone.is_set() else "answered"
            call.status = response.status
            return response
        finally:
            call.took_s = self._now_s() - call.at_s
            if call.outcome == "gone":
                self.ledger.clients_gone += 1
            self.ledger.left(call.op)
            self.watch.changed()

    async def _answered(self, visit: Visit) -> web.StreamResponse:
        try:
            return await self._serve(visit)
        except OAuthError as error:
            visit.call.error = error.error
            self.ledger.refused(error.error, error.status)
            return self.delivery.oauth(error.status, {"error": error.error})
        except ApiError as error:
            visit.call.error = error.name
            self.ledger.refused(error.name, error.status)
            return self.delivery.error(error)

    async def _serve(self, visit: Visit) -> web.StreamResponse:
        operation, request, plan = visit.operation, visit.request, visit.plan
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            raise refusal("Default:RequestEntityTooLarge") from None
        await self.gates.go_through(operation.name, "before")
        await self._spoil_before(visit)
        if operation.scope is None:
            return await self._serve_oauth(visit)
        principal = self.tokens.principal(request.headers.get("Authorization"))
        visit.call.user = principal.user
        with self.limits.admit(principal.user):
            check_scope(operation, principal)
            if self.settings.preview_required and request.query.get("preview") != "true":
                raise refusal("ApiFeaturePreviewUsageOnly")
            if operation.name not in EXCHANGES:
                await self.pause(self._latency_s(operation.name))
            question = Question(
                operation=operation,
                principal=principal,
                path=request.match_info,
                query=request.query,
                content_type=request.content_type,
                body=body,
                plan=plan,
            )
            if operation.name not in EXCHANGES and plan.of("cut_before") is not None:
                # Half of something that looks like an answer; nothing has happened.
                return await self.delivery.value(request, plan, {"rid": "", **visit.about})
            answer = self.endpoints.answer(question)
            self.watch.changed()
            return await self._deliver(visit, answer)

    async def _serve_oauth(self, visit: Visit) -> web.StreamResponse:
        form = {name: str(value) for name, value in (await visit.request.post()).items()}
        await self.pause(self.settings.token_latency_s)
        if visit.operation.name == "revoke":
            self.tokens.revoke_request(form)
            answer: dict[str, Any] = {}
        else:
            answer = self.tokens.grant(form)
        await self.gates.go_through(visit.operation.name, "after")
        await self._spoil_after(visit)
        return await self.delivery.value(visit.request, visit.plan, answer)

    async def _deliver(self, visit: Visit, answer: Answer) -> web.StreamResponse:
        plan, request = visit.plan, visit.request
        if not isinstance(answer, ExchangeRecord):
            if plan.of("lost_during") is not None:
                raise Broken
            await self.gates.go_through(visit.operation.name, "after")
            await self._spoil_after(visit)
            return await self.delivery.value(request, plan, answer)
        exchange = answer
        if plan.of("lost_during") is not None:
            raise Broken
        if self.settings.on_disconnect == "abandon":
            visit.when_gone = lambda: self.exchanges.abandon(exchange)
        spoilt = plan.of("lost_after", "hang_after") or plan.refusal(effect=True)
        if not exchange.streaming or spoilt is not None:
            await exchange.done.wait()
        await self.gates.go_through(visit.operation.name, "after")
        await self._spoil_after(visit)
        gone = self.sessions.gone(self.sessions.all[exchange.session_rid])
        if not exchange.streaming:
            if exchange.state == "gone":
                raise gone
            if exchange.state == "abandoned":
                raise Broken
            return await self.delivery.value(request, plan, exchange.result())
        try:
            return await self.delivery.stream(request, plan, exchange, gone)
        except ConnectionError:
            # The client hung up; the server is busy until the exchange is over all the same.
            await exchange.done.wait()
            raise

    async def _spoil_before(self, visit: Visit) -> None:
        """The faults that strike before anything has happened."""
        for fault in visit.plan.each("delay_before"):
            await asyncio.sleep(fault.delay_s)
        if visit.plan.of("hang_before") is not None:
            await self._hang(visit)
        if visit.plan.of("lost_before") is not None:
            raise Broken
        refused = visit.plan.refusal(effect=False)
        if refused is not None:
            raise scripted(refused, visit.about, self.clock)

    async def _spoil_after(self, visit: Visit) -> None:
        """The faults that strike between the effect and the answer."""
        for fault in visit.plan.each("delay_after"):
            await asyncio.sleep(fault.delay_s)
        if visit.plan.of("hang_after") is not None:
            await self._hang(visit)
        if visit.plan.of("lost_after") is not None:
            raise Broken
        refused = visit.plan.refusal(effect=True)
        if refused is not None:
            raise scripted(refused, visit.about, self.clock)

    async def _hang(self, visit: Visit) -> None:
        """Answer nothing for as long as the client waits."""
        await visit.gone.wait()
        raise ConnectionAbortedError

    def _latency_s(self, op: str) -> float:
        return self.settings.create_latency_s if op == "create" else self.settings.latency_s

    def _now_s(self) -> float:
        return asyncio.get_running_loop().time() - self.started_s
