"""One exchange, sent at most once (B30).

It is sent again only when the remote is known not to have begun it. After anything else its outcome
is looked up by the trace id, which is the same in a second send. This room knows one session and
one exchange; leases, conversations and stores are above it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Final, NamedTuple
from uuid import uuid4

from session_pool.errors import (
    AgentUnavailable,
    AuthError,
    ConfigError,
    ExchangeUncertain,
    LeaseLost,
    PoolClosed,
    RemoteError,
    RemoteMalformed,
    RemoteRejected,
    RemoteThrottled,
    RemoteUnavailable,
    SessionGone,
    SessionPoolError,
)
from session_pool.foundry import Urgency
from session_pool.model import Exchange
from session_pool.works import Works

LOOK_S: Final = 0.25
"""The first wait between two looks at an outcome; it doubles up to `LOOK_AT_MOST_S`."""

LOOK_AT_MOST_S: Final = 5.0

LOOK_TIMEOUT_S: Final = 10.0
"""For one look; the caller's own timeout bounds them all."""


class Said(NamedTuple):
    """What is to be said, and the ids under which it is found again.

    Attributes:
        text: the user's words; never in a repr, log or error.
        trace_id: `sessionTraceId`, the same however often it is sent.
        message_id: `messageId`, by which a stream is cancelled.
    """

    text: str
    parameter_inputs: Mapping[str, Any] | None
    contexts_override: Sequence[Any] | None
    trace_id: str
    message_id: str

    def __repr__(self) -> str:
        return f"Said(trace_id={self.trace_id!r})"


def say(
    text: str,
    parameter_inputs: Mapping[str, Any] | None = None,
    contexts_override: Sequence[Any] | None = None,
) -> Said:
    """Give words their ids."""
    return Said(text, parameter_inputs, contexts_override, str(uuid4()), str(uuid4()))


@asynccontextmanager
async def in_turn(lock: asyncio.Lock, until: float) -> AsyncIterator[None]:
    """One exchange at a time, which is all that a session takes; the wait counts as its time.

    Args:
        lock: of the session.
        until: by the loop's clock.

    Raises:
        RemoteUnavailable: the one before it took until then; nothing was sent.
    """
    try:
        async with asyncio.timeout_at(until if lock.locked() else None):
            await lock.acquire()
    except TimeoutError as error:
        raise RemoteUnavailable(
            "the exchange was not sent: another one on this lease went on for as long as its "
            "timeout, and a session takes one at a time; raise the timeout",
            sent=False,
        ) from error
    try:
        yield
    finally:
        lock.release()


class Speaker:
    """Carries exchanges to one session and learns what became of them.

    Args:
        works: the pool's means.
        agent_rid, session_rid: where.
        doubt_s: a trace that the remote does not know this long after it was sent was not begun.
        may_send: raises `LeaseLost` once the session may not be used any more; asked at each send.

    Attributes:
        in_flight: something was sent, and it is not known to be over.
    """

    def __init__(
        self,
        works: Works,
        agent_rid: str,
        session_rid: str,
        doubt_s: float,
        may_send: Callable[[], None],
    ) -> None:
        self._works = works
        self._may_send = may_send
        self._agent_rid = agent_rid
        self._session_rid = session_rid
        self._doubt_s = doubt_s
        self.in_flight = False

    async def ask(self, said: Said, until: float) -> Exchange:
        """Say it and wait for the answer.

        Args:
            said: the words and their ids.
            until: by the loop's clock, for everything, waiting for the budget and looking up
                included.

        Raises:
            SessionGone: the remote does not know the session, and nothing was begun.
            RemoteRejected, RemoteThrottled, RemoteUnavailable: nothing was begun, or it is over.
            ExchangeUncertain: it was sent, and what became of it could not be learnt in time.
        """
        attempt = _Attempt(self._works, until)

        async def send() -> Exchange:
            self._check(said, attempt)
            attempt.sends()
            self.in_flight = True
            return await self._works.api.blocking_continue(
                self._agent_rid,
                self._session_rid,
                text=said.text,
                trace_id=said.trace_id,
                parameter_inputs=said.parameter_inputs,
                contexts_override=said.contexts_override,
                timeout_s=attempt.left_s(),
            )

        while True:
            attempt.sent_at = None
            try:
                async with asyncio.timeout_at(attempt.deadline):
                    return await self._works.paced.call(Urgency.EXCHANGE, send)
            except (RemoteError, SessionGone, TimeoutError) as error:
                outcome = await self._after(error, said, attempt)
                if outcome is not None:
                    return outcome

    async def stream(self, said: Said, until: float, ending: Ending) -> AsyncGenerator[str, None]:
        """Say it and give the answer's text as it arrives; what became of it is in `ending`.

        Should the stream be cut, the outcome is looked up and the rest of the text follows.

        Raises:
            as `ask`.
        """
        attempt, heard = _Attempt(self._works, until), ""

        def send() -> AbstractAsyncContextManager[AsyncIterator[str]]:
            self._check(said, attempt)
            attempt.sends()
            self.in_flight = True
            return self._works.api.streaming_continue(
                self._agent_rid,
                self._session_rid,
                text=said.text,
                trace_id=said.trace_id,
                message_id=said.message_id,
                parameter_inputs=said.parameter_inputs,
                contexts_override=said.contexts_override,
                timeout_s=attempt.left_s(),
            )

        while ending.exchange is None:
            attempt.sent_at = None
            try:
                async with (
                    asyncio.timeout_at(attempt.deadline) as limit,
                    self._works.paced.stream(Urgency.EXCHANGE, send) as pieces,
                ):
                    async for piece in pieces:
                        heard += piece
                        limit.reschedule(None)  # the reader's own pace is no fault of the remote
                        yield piece
                        limit.reschedule(attempt.deadline)
                self.in_flight = False
                ending.exchange = await self._read(said, heard, attempt)
            except (RemoteError, SessionGone, TimeoutError) as error:
                if ending.cancelled:
                    ending.exchange = Exchange(heard, said.trace_id, interrupted=True)
                    return
                attempt.heard = attempt.heard or bool(heard)
                outcome = await self._after(error, said, attempt)
                if outcome is not None:
                    ending.exchange = outcome
                    if outcome.text.startswith(heard) and len(outcome.text) > len(heard):
                        yield outcome.text[len(heard) :]

    async def _read(self, said: Said, heard: str, attempt: _Attempt) -> Exchange:
        # A stream carries text only; the rest of the exchange is read from `content` afterwards.
        found, look_s = None, min(LOOK_TIMEOUT_S, max(1.0, attempt.left_s()))
        # The answer is there, its details are not worth failing for, or waiting in line for.
        with suppress(SessionPoolError, TimeoutError):
            async with asyncio.timeout(look_s):
                found = await self._find(said, look_s)
        return found or Exchange(heard, said.trace_id)

    async def _after(self, error: Exception, said: Said, attempt: _Attempt) -> Exchange | None:
        """What to do after a send that failed: raise, give the answer, or (None) send again."""
        doubtful, wait_s = False, 0.0
        match error:
            case TimeoutError() if attempt.sent_at is None and not attempt.doubtful:
                raise RemoteUnavailable(
                    "the exchange was not sent: other requests used up the request budget for as "
                    "long as its timeout; raise the timeout, or [limits] where the stack allows it",
                    sent=False,
                ) from error
            case RemoteThrottled(begun=False, retryable=True) as throttled if not attempt.heard:
                wait_s = throttled.retry_after_s or 0.0
            case RemoteUnavailable(sent=False) if not attempt.heard:
                pass
            case RemoteRejected(error_name="SessionTraceIdAlreadyExists") if attempt.doubtful:
                doubtful = True
            case RemoteUnavailable() | RemoteMalformed() | TimeoutError():
                doubtful = True
            case SessionGone() if attempt.doubtful or attempt.heard:
                raise self._uncertain(said) from error
            case _:
                raise error
        if doubtful:
            attempt.doubtful = True
            return await self._outcome(error, said, attempt)
        pause_s = self._works.backoff_s(attempt.number, wait_s, cap_s=LOOK_AT_MOST_S)
        if attempt.left_s() <= pause_s:
            raise error
        await asyncio.sleep(pause_s)
        return None

    async def _outcome(self, error: Exception, said: Said, attempt: _Attempt) -> Exchange | None:
        look_s = LOOK_S
        while True:
            left_s = attempt.left_s()
            if left_s <= 0:
                raise self._uncertain(said) from error
            look_s = min(look_s * 2, LOOK_AT_MOST_S)
            try:
                async with asyncio.timeout_at(attempt.deadline):
                    complete = await self._works.paced.call(
                        Urgency.CONFIRM,
                        self._works.api.trace_complete,
                        self._agent_rid,
                        self._session_rid,
                        said.trace_id,
                        timeout_s=min(LOOK_TIMEOUT_S, left_s),
                    )
                    found = await self._find(said, LOOK_TIMEOUT_S) if complete else None
                if found is not None:
                    return found
                if complete:  # it is over and left nothing: cancelled, or failed in the middle
                    raise self._uncertain(said) from error
            except RemoteRejected as rejected:
                if rejected.error_name != "SessionTraceNotFound":
                    raise self._uncertain(said) from rejected
                unknown_s = self._works.loop.time() - attempt.last_sent_at
                if unknown_s >= self._doubt_s:
                    if attempt.heard:
                        raise self._uncertain(said) from error
                    return None
                look_s = min(look_s, self._doubt_s - unknown_s)
            except (SessionGone, AuthError, AgentUnavailable, ConfigError, PoolClosed) as blind:
                raise self._uncertain(said) from blind  # whatever keeps it from being looked up
            except (RemoteError, TimeoutError):
                pass  # the look failed, not the exchange: look again, until the time is up
            await asyncio.sleep(max(0.001, min(look_s, attempt.left_s())))

    async def _find(self, said: Said, timeout_s: float) -> Exchange | None:
        exchanges = await self._works.paced.call(
            Urgency.CONFIRM,
            self._works.api.content,
            self._agent_rid,
            self._session_rid,
            timeout_s=timeout_s,
        )
        return next((made for made in exchanges if made.trace_id == said.trace_id), None)

    def _check(self, said: Said, attempt: _Attempt) -> None:
        try:
            self._may_send()
        except LeaseLost as lost:
            if attempt.doubtful:  # what was sent before may be going on
                raise self._uncertain(said) from lost
            raise

    def _uncertain(self, said: Said) -> ExchangeUncertain:
        return ExchangeUncertain(
            f"the exchange was sent to {self._session_rid} and what became of it is not known; "
            f"look for sessionTraceId {said.trace_id} in the session's content before sending "
            "it again",
            trace_id=said.trace_id,
        )


class Ending:
    """How a streamed exchange ended; filled in by `Speaker.stream`.

    Attributes:
        exchange: the whole of it, once it is known.
        cancelled: the remote accepted a `cancel`, so what comes after is no failure.
        kept: the exchange is part of the session's history.
        recorded: it is on record with the session.
    """

    __slots__ = ("cancelled", "exchange", "kept", "recorded")

    def __init__(self) -> None:
        self.exchange: Exchange | None = None
        self.cancelled = False
        self.kept = True
        self.recorded = False

    def record(self) -> bool:
        """Whether it is still to be put on record; only the first who asks does so."""
        first, self.recorded = not self.recorded, True
        return first


class _Attempt:
    """The sends of one exchange so far, and the time that is left."""

    __slots__ = ("_time", "deadline", "doubtful", "heard", "last_sent_at", "number", "sent_at")

    def __init__(self, works: Works, until: float) -> None:
        self._time = works.loop.time
        self.deadline = until
        self.number = 0
        self.sent_at: float | None = None
        self.last_sent_at = 0.0
        self.doubtful = False
        self.heard = False

    def sends(self) -> None:
        self.number += 1
        self.sent_at = self.last_sent_at = self._time()

    def left_s(self) -> float:
        return self.deadline - self._time()
