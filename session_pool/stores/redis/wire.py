"""One connection to a Redis server, for everybody at once.

Commands that are asked for in one turn of the event loop are written together, and answers are
matched in order. Whoever stops waiting leaves only its future behind: the connection goes on, and
the answer that comes for it is dropped (redis-py#2624 gave it to the next one). Pushed messages
come on the same connection (RESP3). Knows no command.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import hiredis

ANSWER_S: Final = 5.0
"""How long an answer may take; then the connection counts as dead. Twice a failover's pause would
be longer than most callers wait, and a server that is busy for so long serves nobody."""

_NOTHING: Final = object()
# What the parser answers when the rest of an answer has not come yet.

Pushed = Callable[[Sequence[Any]], None]
"""Hears what the server sends unasked, as a list."""


def command(*parts: bytes) -> bytes:
    """A command as it goes over the wire."""
    return b"".join([b"*%d\r\n" % len(parts), *map(bulk, parts)])


def bulk(part: bytes) -> bytes:
    """One argument of it."""
    return b"$%d\r\n%b\r\n" % (len(part), part)


class Wire(asyncio.Protocol):
    """A connection.

    Args:
        pushed: hears what comes unasked.
        ended: called once, when the connection is over, with the reason.

    Attributes:
        alive: it has not ended.
    """

    def __init__(self, pushed: Pushed, ended: Callable[[Wire, Exception], None]) -> None:
        self.alive = False
        self.reason: Exception = ConnectionError("not connected")
        self._pushed = pushed
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        self._answers: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._out: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._patience: asyncio.TimerHandle | None = None

    def ask(self, asked: bytes) -> asyncio.Future[Any]:
        """Send a command with the others of this turn.

        Returns:
            Its answer; errors of the server are answers too (`hiredis.ReplyError`, as a value).
            It raises what ended the connection, if that comes first. To be cancelled at will.
        """
        future = self._loop.create_future()
        if not self.alive:
            future.set_exception(self.reason)
            return future
        out = self._out
        if not out:
            self._loop.call_soon(self._flush)
        out.append(asked)
        self._answers.append((future, self._loop.time()))
        if self._patience is None:
            self._patience = self._loop.call_later(ANSWER_S, self._look)
        return future

    def send(self, told: bytes) -> None:
        """Send a command that is answered by a push, or by nothing."""
        if self.alive:
            if not self._out:
                self._loop.call_soon(self._flush)
            self._out.append(told)

    def end(self, reason: Exception) -> None:
        """Close at once; whoever waits for an answer is told the reason."""
        if not self.alive:
            return
        self.alive, self.reason = False, reason
        if self._transport is not None:
            self._transport.abort()
        if self._patience is not None:
            self._patience.cancel()
        answers, self._answers = self._answers, deque()
        for future, _ in answers:
            if not future.done():
                future.set_exception(reason)
        self._ended(self, reason)

    # ------------------------------------------------------------------ asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It stands."""
        self._transport = cast("asyncio.Transport", transport)
        self.alive = True

    def connection_lost(self, exc: Exception | None) -> None:
        """The other side, or the way there, has gone."""
        self.end(exc or ConnectionResetError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        """Hand out the answers that are in it."""
        reader, answers = self._reader, self._answers
        try:
            reader.feed(data)
            while (answer := reader.gets(False)) is not _NOTHING:
                if type(answer) is hiredis.PushNotification:
                    self._pushed(answer)
                    continue
                future, _ = answers.popleft()
                if not future.done():
                    future.set_result(answer)
        except (hiredis.HiredisError, IndexError) as error:
            # Nothing that follows could be matched with who asked for it.
            self.end(ConnectionError(f"what came is not the Redis protocol: {error}"))

    # ------------------------------------------------------------------ what it does by itself

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self.alive and self._transport is not None:
            self._transport.write(b"".join(out))

    def _look(self) -> None:
        # One timer for all: it sleeps until the oldest question would be too old.
        self._patience = None
        if self._answers:
            due = self._answers[0][1] + ANSWER_S
            if due <= self._loop.time():
                self.end(TimeoutError(f"no answer within {ANSWER_S:g} s"))
            else:
                self._patience = self._loop.call_at(due, self._look)
