"""The handle for chatbots: a conversation by its name, and nothing held between the turns.

Each call acquires the conversation's session, does one thing, and gives it back. It knows leases
only; where they come from is a protocol.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import AsyncGeneratorType
from typing import Any, Literal, Protocol, cast

from session_pool.desk import Desk
from session_pool.errors import ConfigError, SessionGone
from session_pool.lease import NO_TIMEOUT, Lease
from session_pool.model import Exchange
from session_pool.patience import seconds_or_none

Key = str | tuple[str, ...]
Context = Literal["kept", "new", "lost"]

SEPARATOR = "\x1f"
"""Between the parts of a key given as a tuple: ASCII's own unit separator."""

REPLACED_AT_MOST = 2
"""Dead sessions in one turn before death is believed to be another fault; each costs a creation."""


def conversation_key(key: Key | None) -> str | None:
    """The conversation's name as one string.

    Raises:
        ConfigError: it is empty, or no string or tuple of strings.
    """
    if key is None:
        return None
    given: object = key
    parts = (given,) if isinstance(given, str) else given
    if not isinstance(parts, tuple) or not all(isinstance(part, str) for part in parts):
        raise ConfigError("conversation: the key must be a string or a tuple of strings")
    if not parts or not all(parts):
        raise ConfigError("conversation: the key, and each part of it, must not be empty")
    if any(SEPARATOR in part or "\0" in part for part in parts):
        raise ConfigError("conversation: the key must not contain U+001F or U+0000")
    if any("\ud800" <= letter <= "\udfff" for part in parts for letter in part):
        raise ConfigError("conversation: the key has half a surrogate pair in it, which is no text")
    return SEPARATOR.join(parts)


@dataclass(frozen=True, slots=True)
class Reply:
    """One answered turn of a conversation.

    Attributes:
        text: the answer, markdown; not in the repr (B29).
        context: "kept" the session knows what was said before; "new" there was nothing before;
            "lost" there was, and this session does not know it (B5).
        session_rid: the session it was said in.
        generation, replaces: as of the lease.
        trace_id: the exchange's `sessionTraceId`.
        tokens_used, parameter_updates, interrupted: as of the exchange.
    """

    text: str = field(repr=False)
    context: Context
    session_rid: str
    generation: int
    replaces: str | None
    trace_id: str
    tokens_used: int | None = None
    parameter_updates: Mapping[str, Any] = field(default_factory=dict, repr=False)
    interrupted: bool = False


class Acquires(Protocol):
    """What the handle needs of a pool."""

    async def of_conversation(
        self, desk: Desk, conversation: str, timeout_s: float | None
    ) -> Lease:
        """The conversation's session, held; None waits as long as the policy says."""

    async def forget(self, desk: Desk, conversation: str, *, delete_remote: bool) -> None:
        """Drop binding and memory of a conversation."""


class Conversation:
    """One dialogue with one agent; made by `pool.conversation`.

    Args:
        pool: where sessions come from.
        desk: the agent's.
        key: the conversation's own name.
    """

    def __init__(self, pool: Acquires, desk: Desk, key: Key) -> None:
        name = conversation_key(key)
        if name is None:
            raise ConfigError("conversation: the key must not be empty")
        self._pool = pool
        self._desk = desk
        self._key = name

    def __repr__(self) -> str:
        return f"<Conversation with {self._desk.name}>"

    async def ask(
        self,
        text: str,
        *,
        timeout: float | None = None,
        parameter_inputs: Mapping[str, Any] | None = None,
    ) -> Reply:
        """Say something and wait for the answer.

        A session found dead before anything was begun is replaced, and the reply's `context` says
        so; the words are sent once (B30).

        Args:
            text: the user's words.
            timeout: seconds for the exchange; None is the policy's. Waiting for the session is
                bounded by the same, or by the policy's `acquire_timeout_s`.
            parameter_inputs: application variable id to value.

        Raises:
            AcquireTimeout and the other errors of `acquire`; the errors of
            `Lease.blocking_continue`.

        Cancelling it loses nothing; the next turn waits until the exchange is known to be over.
        """
        timeout = seconds_or_none(timeout, "timeout", NO_TIMEOUT, more_than_0=True)
        async with await self._pool.of_conversation(self._desk, self._key, timeout) as lease:
            replaced = 0
            while True:
                context = _context(lease)
                try:
                    exchange = await lease.blocking_continue(
                        text, parameter_inputs=parameter_inputs, timeout=timeout
                    )
                except SessionGone:
                    if replaced == REPLACED_AT_MOST:
                        raise
                    await lease.go_on(timeout)
                    replaced += 1
                else:
                    return _reply(lease, exchange, context)

    @asynccontextmanager
    async def stream(
        self,
        text: str,
        *,
        timeout: float | None = None,
        parameter_inputs: Mapping[str, Any] | None = None,
    ) -> AsyncIterator[ReplyStream]:
        """Say something and read the answer as it arrives; arguments and errors as `ask`.

        Use it as `async with talk.stream(text) as stream: async for piece in stream: ...`; then
        `stream.reply` is the whole.
        """
        timeout = seconds_or_none(timeout, "timeout", NO_TIMEOUT, more_than_0=True)
        async with await self._pool.of_conversation(self._desk, self._key, timeout) as lease:
            stream = ReplyStream(lease, text, timeout, parameter_inputs)
            try:
                yield stream
            finally:
                await stream.aclose()

    async def start_over(self) -> None:
        """Go on without what was said before: take note of a loss, or leave the session behind.

        Raises:
            AcquireTimeout and the other errors of `acquire`.
        """
        async with await self._pool.of_conversation(self._desk, self._key, None) as lease:
            await lease.start_over()

    async def forget(self, *, delete_remote: bool = False) -> None:
        """Drop the conversation's binding and memory (B29).

        Args:
            delete_remote: delete its session at the remote too, and the one it had last.

        Raises:
            AcquireTimeout: a turn of it was in progress for too long.
            the errors of the remote: what it had last could not be deleted, and is not forgotten.
        """
        await self._pool.forget(self._desk, self._key, delete_remote=delete_remote)


class ReplyStream:
    """An answer as it arrives: iterate for the pieces of its text, once."""

    def __init__(
        self,
        lease: Lease,
        text: str,
        timeout: float | None,
        parameter_inputs: Mapping[str, Any] | None,
    ) -> None:
        self._lease = lease
        self._ask = (text, timeout, parameter_inputs)
        self._reply: Reply | None = None
        self._pieces = self._read()

    @property
    def reply(self) -> Reply:
        """The whole answer.

        Raises:
            ConfigError: the stream was not read to its end.
        """
        if self._reply is None:
            raise ConfigError("reply: read the stream to its end first")
        return self._reply

    def __aiter__(self) -> AsyncIterator[str]:
        return self._pieces

    async def cancel(self, response: str | None = None) -> Exchange | None:
        """Stop the answer (`Lease.cancel`)."""
        return await self._lease.cancel(response)

    async def aclose(self) -> None:
        """Stop reading; what another task reads just now is read on by that one."""
        if not cast("AsyncGeneratorType[str, None]", self._pieces).ag_running:
            await self._pieces.aclose()

    async def _read(self) -> AsyncGenerator[str, None]:
        lease, (text, timeout, inputs) = self._lease, self._ask
        replaced = 0
        while self._reply is None:
            context, begun = _context(lease), False
            async with lease.streaming_continue(
                text, parameter_inputs=inputs, timeout=timeout
            ) as pieces:
                try:
                    async for piece in pieces:
                        begun = True
                        yield piece
                except SessionGone:
                    if begun or replaced == REPLACED_AT_MOST:
                        raise
                    await lease.go_on(timeout)
                    replaced += 1
                    continue
                if pieces.exchange is not None:
                    self._reply = _reply(lease, pieces.exchange, context)


def _context(lease: Lease) -> Context:
    if not lease.is_new:
        return "kept"
    return "lost" if lease.context_is_lost else "new"


def _reply(lease: Lease, exchange: Exchange, context: Context) -> Reply:
    return Reply(
        text=exchange.text,
        context=context,
        session_rid=lease.rid,
        generation=lease.generation,
        replaces=lease.replaces,
        trace_id=exchange.trace_id,
        tokens_used=exchange.tokens_used,
        parameter_updates=exchange.parameter_updates,
        interrupted=exchange.interrupted,
    )
