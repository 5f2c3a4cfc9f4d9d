"""Exchanges: how one is begun, goes on, is cancelled and stored (contract 6.4 to 6.7).

An exchange runs in a task of the emulator's own, so it goes on when its client hangs up. This room
knows sessions, not requests: whoever answers a client reads the record.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .audit import Ledger, mark_of
from .errors import ApiError, refusal
from .sessions import ExchangeRecord, SessionRecord, Sessions
from .settings import EmulatorSettings
from .times import ServerClock, later
from .watch import Watch


@dataclass(frozen=True, slots=True)
class Ask:
    """What a `reply` callable is told.

    Attributes:
        text, mark: the user's text and the conversation's mark in it.
        number: which exchange of the session this is, the first being 1.
        session_rid, agent_rid, agent_version: where it was asked.
        parameters: `parameterInputs` as they came.
        history: the user texts of the session's earlier exchanges.
    """

    text: str = field(repr=False)
    mark: str | None
    number: int
    session_rid: str
    agent_rid: str
    agent_version: str
    parameters: Mapping[str, Any] = field(repr=False)
    history: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a `reply` callable may answer, where a plain text does not do.

    Attributes:
        text: the answer, markdown.
        parameter_updates: id to a `ParameterValueUpdate`, as on the wire.
    """

    text: str = field(repr=False)
    parameter_updates: Mapping[str, Any] = field(default_factory=dict, repr=False)


ReplyTo = Callable[[Ask], "str | Reply"]


def echo(ask: Ask) -> str:
    """The usual answer: the exchange's number, the mark, the text. Deterministic.

    The arrow takes three octets, so that streams have a character to split.
    """
    return f"#{ask.number} {ask.mark or '-'} → {ask.text}"


@dataclass(frozen=True, slots=True)
class Request:
    """A continue request, read and found well-formed."""

    text: str = field(repr=False)
    parameters: Mapping[str, Any] = field(repr=False)
    contexts: dict[str, Any] | None = field(repr=False)
    trace_id: str | None
    message_id: str | None
    streaming: bool


class Exchanges:
    """Begins and ends exchanges.

    Args:
        spawn: starts a task that the emulator owns.
        pause: waits a latency, jitter included.
    """

    def __init__(
        self,
        settings: EmulatorSettings,
        clock: ServerClock,
        sessions: Sessions,
        ledger: Ledger,
        watch: Watch,
        reply: ReplyTo,
        spawn: Callable[..., asyncio.Task[None]],
        pause: Callable[[float], Awaitable[None]],
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._sessions = sessions
        self._ledger = ledger
        self._watch = watch
        self._reply = reply
        self._spawn = spawn
        self._pause = pause
        self._tasks: dict[ExchangeRecord, asyncio.Task[None]] = {}

    def begin(
        self, session: SessionRecord, request: Request, *, recorded: bool = True
    ) -> ExchangeRecord:
        """Begin an exchange; it goes on by itself.

        Args:
            recorded: False: it ends without being stored (a script says so).

        Raises:
            ApiError: SessionTraceIdAlreadyExists, ContextSizeExceededLimit, or the generic
                rejection of a second continue under way.
        """
        about = {"agentRid": session.agent_rid, "sessionRid": session.rid}
        if session.running:
            self._ledger.overlapping_exchanges += 1
        if request.trace_id is not None and request.trace_id in session.traces:
            raise refusal("SessionTraceIdAlreadyExists", **about, sessionTraceId=request.trace_id)
        if session.running and self._settings.concurrent_continue == "reject":
            raise self._rejection()
        limit = self._settings.context_limit
        if limit is not None and len(session.exchanges) >= limit:
            raise refusal("ContextSizeExceededLimit", **about)
        exchange = ExchangeRecord(
            session_rid=session.rid,
            trace_id=request.trace_id or str(uuid.uuid4()),
            message_id=request.message_id,
            mark=mark_of(request.text),
            begun_ns=self._clock.now_ns(),
            streaming=request.streaming,
            text=request.text,
            contexts=request.contexts,
        )
        self._ledger.begun(
            user=session.owner,
            agent_rid=session.agent_rid,
            session_rid=session.rid,
            text=request.text,
            alive=self._lives,
        )
        if exchange.mark is not None and exchange.mark not in session.marks:
            session.marks.append(exchange.mark)
        behind = session.running[-1] if session.running else None
        if self._settings.concurrent_continue != "serialise":
            behind = None
        session.traces[exchange.trace_id] = exchange
        session.running.append(exchange)
        task = self._spawn(self._run(session, exchange, request, behind, recorded))
        self._tasks[exchange] = task
        # A callback and not a `finally`: a task cancelled before its first step runs neither.
        task.add_done_callback(lambda _: self._over(session, exchange))
        self._watch.changed()
        return exchange

    def cancel(
        self, session: SessionRecord, message_id: str, response: str | None
    ) -> ExchangeRecord:
        """Cancel a streamed exchange under way; its stream is not ended by it (contract 6.6).

        Raises:
            ApiError: CancelSessionFailedMessageNotInProgress, where it has not begun (as long as
                `cancel_lag_s` says), is over, or was cancelled before.
        """
        now = self._clock.now_ns()
        for exchange in session.running:
            started = now >= later(exchange.begun_ns, self._settings.cancel_lag_s)
            if exchange.message_id == message_id and exchange.state == "running" and started:
                break
        else:
            raise refusal(
                "CancelSessionFailedMessageNotInProgress",
                agentRid=session.agent_rid,
                sessionRid=session.rid,
                messageId=message_id,
            )
        exchange.state = "cancelled"
        exchange.interrupted = True
        session.running.remove(exchange)
        if response is not None:
            exchange.answer = response
            self._store(session, exchange)
        self._watch.changed()
        return exchange

    def abandon(self, exchange: ExchangeRecord) -> None:
        """End an exchange under way without storing it."""
        task = self._tasks.get(exchange)
        if task is not None:
            task.cancel()

    def add(self, session: SessionRecord, text: str, answer: str) -> ExchangeRecord:
        """Store an exchange that came another way than through this API's requests."""
        exchange = ExchangeRecord(
            session_rid=session.rid,
            trace_id=str(uuid.uuid4()),
            message_id=None,
            mark=None,
            begun_ns=self._clock.now_ns(),
            streaming=False,
            text=text,
            state="complete",
            answer=answer,
        )
        exchange.done.set()
        session.traces[exchange.trace_id] = exchange
        self._store(session, exchange)
        self._watch.changed()
        return exchange

    async def _run(
        self,
        session: SessionRecord,
        exchange: ExchangeRecord,
        request: Request,
        behind: ExchangeRecord | None,
        recorded: bool,
    ) -> None:
        if behind is not None:
            await behind.done.wait()
        if exchange.streaming:
            await self._pause(self._settings.first_byte_delay_s)
        exchange.number = len(session.exchanges) + 1
        answer = self._answer(session, exchange, request)
        if exchange.streaming:
            await self._speak(session, exchange, answer.text)
        else:
            await self._pause(self._settings.exchange_latency_s)
        if exchange.state != "running":
            return  # cancelled meanwhile: what was stored, if anything, is the canceller's word
        if self._is_gone(session):
            exchange.state = "gone"
        elif not recorded:
            exchange.state = "failed"
        else:
            exchange.state = "complete"
            exchange.answer = answer.text
            exchange.updates = dict(answer.parameter_updates)
            self._store(session, exchange)

    async def _speak(self, session: SessionRecord, exchange: ExchangeRecord, text: str) -> None:
        """Say the answer octets by octets, evenly over the exchange's latency."""
        octets = text.encode()
        size = self._settings.stream_chunk_bytes
        starts = range(0, len(octets), size)
        for start in starts:
            await self._pause(self._settings.exchange_latency_s / len(starts))
            if session.ended:
                return
            exchange.chunks.append(octets[start : start + size])
            exchange.news.set()

    def _answer(self, session: SessionRecord, exchange: ExchangeRecord, request: Request) -> Reply:
        answer = self._reply(
            Ask(
                text=request.text,
                mark=exchange.mark,
                number=exchange.number,
                session_rid=session.rid,
                agent_rid=session.agent_rid,
                agent_version=session.agent_version,
                parameters=request.parameters,
                history=tuple([earlier.text for earlier in session.exchanges]),
            )
        )
        return Reply(answer) if isinstance(answer, str) else answer

    def _store(self, session: SessionRecord, exchange: ExchangeRecord) -> None:
        if self._settings.token_counts:
            # A count that grows with the text and is the same for the same text.
            exchange.tokens = (len(exchange.text) + len(exchange.answer)) // 4 + 1
        exchange.shown_ns = later(self._clock.now_ns(), self._settings.content_lag_s)
        exchange.stored = True
        session.exchanges.append(exchange)
        self._ledger.exchanges_recorded += 1
        if "exchange" in self._settings.extended_by:
            self._sessions.extend(session, updated=True)
        else:
            session.updated_ns = self._clock.stamp_ns()

    def _over(self, session: SessionRecord, exchange: ExchangeRecord) -> None:
        """However the task ended: nobody waits for it any more."""
        if exchange.state == "running":
            exchange.state = "abandoned"
        if exchange in session.running:
            session.running.remove(exchange)
        self._tasks.pop(exchange, None)
        exchange.done.set()
        exchange.news.set()
        self._watch.changed()

    def _is_gone(self, session: SessionRecord) -> bool:
        if self._settings.expiry_during_exchange == "dies":
            return not self._sessions.alive(session)
        return session.ended

    def _lives(self, session_rid: str) -> bool:
        session = self._sessions.all.get(session_rid)
        return session is not None and self._sessions.alive(session)

    def _rejection(self) -> ApiError:
        conflict = self._settings.concurrent_status == 409
        return refusal("Default:Conflict" if conflict else "Conjure:InvalidArgument")
