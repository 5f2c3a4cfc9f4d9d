"""A lease: the exclusive right to use one session, and the exchanges made under it.

The half of a lease that stands towards its user and the remote; how the session is held and given
back is in `holding`. For a new session under the same lease it asks its `Source`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from types import AsyncGeneratorType, TracebackType
from typing import Any, Final, Protocol, Self, cast

from session_pool.errors import (
    ConfigError,
    ContextLost,
    LeaseLost,
    RemoteRejected,
    SessionGone,
)
from session_pool.errors import ExchangeUncertain as Uncertain
from session_pool.exchange import Ending, Said, Speaker, in_turn, say
from session_pool.foundry import Urgency
from session_pool.holding import Holding
from session_pool.lapse import Renewal
from session_pool.model import Exchange
from session_pool.notes import found_dead, tell
from session_pool.patience import seconds, whole
from session_pool.rules import dead, exchanged
from session_pool.space import Put

WORN: Final = {"ContextSizeExceededLimit": "context_size"}
"""Refusals that say: this session can take no more, a new one can (B18)."""


NO_TIMEOUT: Final = "None is the policy's"
"""Said with a timeout that cannot be meant."""


class Source(Protocol):
    """Where a lease gets another session for its conversation."""

    async def instead(self, lease: Lease, give_up: Put, timeout_s: float | None) -> None:
        """Give up the session of a lease and go on with another, its place in line kept."""


class Lease(Holding):
    """A live session, held exclusively until it is released (B1, B21).

    Made by `pool.acquire`; an async context manager, so a block releases it. Its exchange calls are
    made one after the other, since a session takes one exchange at a time.

    Attributes:
        last_exchange: the last finished exchange made through it.
    """

    _lock: asyncio.Lock | None = None
    _stream: ExchangeStream | None = None
    last_exchange: Exchange | None = None

    # ------------------------------------------------------------------ exchanges

    async def blocking_continue(
        self,
        text: str,
        *,
        parameter_inputs: Mapping[str, Any] | None = None,
        contexts_override: Sequence[Any] | None = None,
        timeout: float | None = None,
    ) -> Exchange:
        """Say something and wait for the answer (Blocking Continue Session).

        Args:
            text: the user's words.
            parameter_inputs: application variable id to value, as the API's page has it.
            contexts_override: contexts, as the API's page has them.
            timeout: seconds for everything, looking up a doubtful outcome included; None is the
                policy's `exchange_timeout_s`.

        Raises:
            LeaseLost: the lease is over.
            ContextLost: the conversation lost its context, and `context_lost="raise"`.
            SessionGone: the session is dead; nothing was begun.
            RemoteRejected, RemoteThrottled, RemoteUnavailable: the remote's definite answer.
            ExchangeUncertain: it was sent, and its outcome could not be learnt in time (B30); or
                the one before was cut off and may still be going on, and this was not sent.

        Cancelling leaves the session in quarantine until the exchange is known to be over (B22).
        """
        said, timeout_s = (
            say(_words(text), parameter_inputs, contexts_override),
            self._patience_s(timeout),
        )
        until = self._works.loop.time() + timeout_s
        async with self._speaking(said, until) as speaker:
            started = self._works.clock()
            exchange = await speaker.ask(said, until)
            await self._made(exchange, started)
        return exchange

    def streaming_continue(
        self,
        text: str,
        *,
        parameter_inputs: Mapping[str, Any] | None = None,
        contexts_override: Sequence[Any] | None = None,
        timeout: float | None = None,
    ) -> ExchangeStream:
        """Say something and read the answer as it arrives (Streaming Continue Session).

        Args and errors are those of `blocking_continue`; errors come from the iteration. The
        finished exchange is in the stream's `exchange` and in `last_exchange`. A stream left early
        leaves the session in quarantine until the exchange is known to be over (B22).
        """
        said = say(_words(text), parameter_inputs, contexts_override)
        return ExchangeStream(self, said, self._patience_s(timeout))

    async def cancel(self, response: str | None = None) -> Exchange | None:
        """Stop the streamed exchange that is in flight (Cancel Session).

        Args:
            response: what shall stand in the history as the answer; None keeps nothing of it.

        Returns:
            The exchange as stored, or None if nothing was.

        Raises:
            ConfigError: no stream is in flight on this lease.
            RemoteRejected: it is over already, or has not begun.
        """
        stream = self._stream
        if stream is None:
            raise ConfigError("cancel: no streamed exchange is in flight on this lease")
        exchange = await self._works.paced.call(
            Urgency.EXCHANGE,
            self._works.api.cancel,
            self._desk.rid,
            self._entry.rid,
            message_id=stream.said.message_id,
            response=response,
            timeout_s=self._desk.policy.create_timeout_s,
        )
        ending = stream.ending
        ending.cancelled, ending.kept = True, exchange is not None
        if exchange is not None and ending.record():  # its reader may never come to the end
            await self._made(exchange, stream.started)
        return exchange

    async def touch(self, exchanges: int = 1) -> None:
        """Tell the pool of finished exchanges that another client made on this session (B15).

        Args:
            exchanges: how many; each extends the session's life.

        Raises:
            ConfigError: a negative number.
            LeaseLost: the lease is over.
        """
        exchanges = whole(exchanges, "touch: exchanges")
        self._check_held()
        self._used = True
        self._not_plain()
        await self._write(exchanged(self._facts, exchanges), self._facts.lifetime_s)

    async def renew(self) -> None:
        """Prolong the lease now; the pool does so by itself.

        A store that is away is asked again until the lease's end.

        Raises:
            LeaseLost: it has lapsed.
        """
        self._check_held()
        if self._works.local is None:  # leases of a store in this process have no end (B21)
            await cast("Renewal", self._works.renewal).renew(self)
            self._check_held()

    async def start_over(self) -> None:
        """Go on without the conversation's past: take note of a loss, or leave the session behind.

        A session that has seen no exchange is kept; another is retired and replaced by a new one
        under the same lease, so `rid`, `fence` and `generation` change.

        Raises:
            LeaseLost: the lease is over.
            AcquireTimeout and the other errors of `acquire`: no new session could be had; the lease
                is over then.
        """
        self._check_held()
        if self._facts.exchanges == 0 and not self._used:
            await self._write(self._facts._replace(accepted=True))
        else:
            await self._close_stream()
            await self._instead(self._ended("discard", worn="start_over"))

    async def go_on(self, timeout: float | None = None) -> None:
        """Replace a session found dead by a new one under the same lease (B5, B30).

        Raises:
            as `acquire`; the lease is over then.
        """
        entry = self._entry._replace(facts=self._facts)
        put = dead(self._desk.key, entry, self._works.next_id(), self._desk.terms, holder=True)
        await self._instead(put, timeout)

    # ------------------------------------------------------------------ the end

    async def release(self, *, unused: bool = False, discard: bool = False) -> None:
        """Give the session back. Never raises because of the store; twice is harmless (B23).

        While the store is away it returns within a second, and the store is told behind the
        caller's back; once the lease has lapsed, that nothing is going on in its session any more,
        if that is certain (B22). Cancelling it does not stop that.

        Args:
            unused: it was not used, so it may be handed out again (checked, B4).
            discard: it must not be used again, not even by its conversation.
        """
        try:
            if self._stream is not None:
                await self._close_stream()
        finally:
            said = "discard" if discard else "unused" if unused else self._said
            if (given_back := self._give_back(said)) is not None:
                await given_back

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None and self.laid_back():
            return
        try:
            if self._stream is not None:
                await self._close_stream()
        finally:
            if (given_back := self._give_back(self._said, broken=error is not None)) is not None:
                await given_back

    # ------------------------------------------------------------------ inside

    def _patience_s(self, timeout: float | None) -> float:
        if timeout is None:
            return self._desk.policy.exchange_timeout_s
        return seconds(timeout, "timeout", NO_TIMEOUT, more_than_0=True)

    @asynccontextmanager
    async def _speaking(self, said: Said, until: float) -> AsyncIterator[Speaker]:
        if self._stream is not None:
            raise ConfigError(
                "a streamed exchange is in flight on this lease, and a session takes one exchange "
                "at a time; read the stream to its end, or close it, first"
            )
        if self._lock is None:
            self._lock = asyncio.Lock()
        async with in_turn(self._lock, until):
            self._check_held()
            self._check_context()
            if self._in_flight:
                raise Uncertain(
                    "the exchange before this one was cut off and may still be going on, and a "
                    "session takes one at a time; release the lease and acquire it again",
                    trace_id=self._facts.trace_id or "",
                )
            self._used = True
            self._not_plain()
            await self._write(self._facts._replace(trace_id=said.trace_id))
            speaker = Speaker(
                self._works,
                self._desk.rid,
                self._entry.rid,
                self._desk.terms.doubt_s,
                self._check_held,
            )
            self._in_flight = True
            try:
                yield speaker
            except Uncertain:
                raise
            except SessionGone:
                self._in_flight, self._gone = False, True
                await found_dead(self._works, self._desk, self._entry, self.remaining_s())
                raise
            except Exception as error:
                self._in_flight = False
                if isinstance(error, RemoteRejected) and error.error_name in WORN:
                    self._worn = WORN[error.error_name]
                raise
            except BaseException:  # unless the answer is there, and only its record was cut off
                self._in_flight = self._in_flight and speaker.in_flight
                raise
            self._in_flight = False

    def _check_context(self) -> None:
        if self._gone:
            raise SessionGone(f"{self._entry.rid} is gone; acquire again for another session")
        if self.context_is_lost and self._desk.terms.context_lost == "raise":
            raise ContextLost(
                f"the conversation's session {self._facts.replaces} is no more "
                f"({self._facts.replace_reason}), and with it what was said; call start_over() to "
                "go on in a new one"
            )

    async def _made(self, exchange: Exchange, since: float, *, kept: bool = True) -> None:
        # The remote counts the new life from some moment within the exchange; the earliest is safe.
        self._in_flight = False
        self.last_exchange = exchange
        facts, took_s = self._facts, self._works.clock() - since
        with suppress(LeaseLost):  # the answer is there; that the lease is lost is told by `lost`
            if kept:
                await self._write(exchanged(facts, 1), max(0.0, facts.lifetime_s - took_s))
            else:
                await self._write(facts._replace(trace_id=None))

    async def _close_stream(self) -> None:
        if self._stream is not None and not self._stream.being_read:  # by a task that goes on
            await self._stream.aclose()

    async def _instead(self, give_up: Put, timeout_s: float | None = None) -> None:
        self._over = True
        self._forget()
        tell(self._works, self._desk, give_up, self._entry)
        await cast("Source", self._works.source).instead(self, give_up, timeout_s)


class ExchangeStream:
    """An answer as it arrives: iterate for the pieces of its text.

    Leaving the iteration early does not end the exchange at the remote; `lease.cancel()` does.
    """

    def __init__(self, lease: Lease, said: Said, timeout_s: float) -> None:
        self.said = said
        self.ending = Ending()
        self._lease = lease
        self.started = 0.0
        self._timeout_s = timeout_s
        self._pieces: AsyncGenerator[str, None] | None = None

    @property
    def exchange(self) -> Exchange | None:
        """The whole exchange, once the stream has come to its end."""
        return self.ending.exchange

    @property
    def being_read(self) -> bool:
        """A task waits for its next piece at this moment."""
        pieces = cast("AsyncGeneratorType[str, None] | None", self._pieces)
        return pieces is not None and pieces.ag_running

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    async def __anext__(self) -> str:
        if self._pieces is None:
            self._pieces = self._read()
        return await anext(self._pieces)

    async def aclose(self) -> None:
        """Stop reading. The session is in quarantine until the exchange is known to be over."""
        if self._pieces is not None:
            await self._pieces.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def _read(self) -> AsyncGenerator[str, None]:
        lease, ending = self._lease, self.ending
        until = lease._works.loop.time() + self._timeout_s
        async with lease._speaking(self.said, until) as speaker:
            lease._stream, self.started = self, lease._works.clock()
            try:
                async with aclosing(speaker.stream(self.said, until, ending)) as pieces:
                    async for piece in pieces:
                        yield piece
            finally:
                lease._stream = None
                speaker.in_flight = speaker.in_flight and not ending.cancelled
            if ending.exchange is not None and ending.record():
                await lease._made(ending.exchange, self.started, kept=ending.kept)


def _words(text: str) -> str:
    if not isinstance(text, str):
        raise ConfigError(f"text must be a str, not {type(text).__name__}")
    return text
