"""One HTTP request over aiohttp: sent in this loop, bounded by a deadline, failing in our words.

This room knows connections, deadlines and the loop it was opened in. It knows no endpoint, no JSON
and no token but as a header that it is handed, and it decides nothing about an answer: redirects
are not followed, refusals are not raised, nothing is sent twice.
"""

from __future__ import annotations

import asyncio
import codecs
import ssl
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from types import SimpleNamespace
from typing import Final, NamedTuple

import aiohttp
from yarl import URL

from session_pool.errors import (
    PoolClosed,
    RemoteMalformed,
    RemoteUnavailable,
    SessionPoolError,
)
from session_pool.foundry import translate
from session_pool.foundry.translate import Operation

# Servers and balancers drop idle connections, the meanest after some 20 s; a request that meets
# the drop has an unknown outcome (B30), so ours are dropped before.
_KEEPALIVE_S: Final = 15.0
# As much of an error's body as is read; the contract's are a few hundred bytes.
_MAX_ERROR_BODY: Final = 65536

Clock = Callable[[], float]


class Request(NamedTuple):
    """One request, ready to be sent."""

    operation: Operation
    method: str
    url: URL
    headers: Mapping[str, str]
    body: bytes | None = None

    def __repr__(self) -> str:
        return f"Request({self.operation}, {self.method} {self.url})"


class _Progress:
    """How far a request has come; a trace of aiohttp tells.

    `sent` starts as True, the answer that is safe for whatever does not trace.
    """

    __slots__ = ("sent",)

    def __init__(self) -> None:
        self.sent = True


class Incoming:
    """An answer whose status and headers are there and whose body is not read yet.

    `close` must be called, or the body be read to its end.
    """

    __slots__ = ("_deadline", "_elapsed", "_operation", "_response")

    def __init__(
        self,
        operation: Operation,
        response: aiohttp.ClientResponse,
        deadline: float,
        elapsed: Clock,
    ) -> None:
        self._operation = operation
        self._response = response
        self._deadline = deadline
        self._elapsed = elapsed

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self._response.status

    @property
    def headers(self) -> Mapping[str, str]:
        """The answer's headers, case-insensitive."""
        return self._response.headers

    @property
    def elapsed_s(self) -> float:
        """Seconds since the request was begun, time that the machine slept included."""
        return self._elapsed()

    async def chunk(self) -> bytes:
        """Return what has come, waiting for something; empty at the end.

        Raises:
            RemoteUnavailable: cut short, or not in time.
        """
        try:
            async with asyncio.timeout_at(self._deadline):
                return await self._response.content.readany()
        except translate.FOREIGN as error:
            self.close()
            cause = error
        except BaseException:
            self.close()
            raise
        raise _translated(self._operation, cause, sent=True)

    async def body(self, at_most: int | None = None) -> bytes:
        """Return the body, or its beginning, and give the connection back.

        Args:
            at_most: bytes to stop after; the connection is closed if there was more.

        Raises:
            RemoteUnavailable: cut short, or not in time.
        """
        parts: list[bytes] = []
        size = 0
        while chunk := await self.chunk():
            parts.append(chunk)
            size += len(chunk)
            if at_most is not None and size > at_most:
                self.close()
                break
        return b"".join(parts)[:at_most]

    async def error_body(self) -> bytes:
        """Return as much of an error's body as is of use; none if it breaks off."""
        try:
            return await self.body(_MAX_ERROR_BODY)
        except SessionPoolError:
            return b""  # the status alone says enough, and is worth more than what broke after it

    def close(self) -> None:
        """Let go of the connection at once; what has not been read is never read."""
        self._response.close()


class TextStream(AsyncIterator[str]):
    """The pieces of a streamed answer, as text: bytes that split a character wait for the rest.

    Iteration raises `RemoteUnavailable` where the stream is cut, `RemoteMalformed` where it is no
    UTF-8. A server that ends a stream by closing the connection cannot be told from one that died;
    HTTP/1.1 with chunks, as Foundry has it, can.
    """

    __slots__ = ("_decoder", "_incoming", "_operation", "_over")

    def __init__(self, operation: Operation, incoming: Incoming) -> None:
        self._operation = operation
        self._incoming = incoming
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._over = False

    async def __anext__(self) -> str:
        while not self._over:
            chunk = await self._incoming.chunk()
            self._over = not chunk
            if text := self._decoded(chunk):
                return text
        raise StopAsyncIteration

    def _decoded(self, chunk: bytes) -> str:
        try:
            return self._decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError:
            self._over = True
            self._incoming.close()
        # Outside the handler: the exception would carry the bytes of the conversation (B29).
        if not chunk:
            raise RemoteUnavailable(f"{self._operation}: the stream ended within a character")
        raise RemoteMalformed(f"{self._operation}: the stream is not UTF-8")


class Transport:
    """A pool of connections of one event loop.

    Args:
        user_agent: the header of that name.
        connect_timeout_s: seconds for DNS, connection and TLS together.
        ssl_context: None is aiohttp's default, which heeds SSL_CERT_FILE and SSL_CERT_DIR.
        proxy: URL of an HTTP proxy; None for none.
        clock: seconds, for durations of requests. None takes the larger of the loop's clock and
            the machine's that counts sleep, so a suspend within a request is not overlooked (B20).
    """

    def __init__(
        self,
        *,
        user_agent: str,
        connect_timeout_s: float,
        ssl_context: ssl.SSLContext | None = None,
        proxy: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._user_agent = user_agent
        self._timeout = aiohttp.ClientTimeout(total=None, connect=connect_timeout_s)
        self._ssl: ssl.SSLContext | bool = True if ssl_context is None else ssl_context
        self._proxy = proxy
        self._clock = clock
        self._http: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def is_open(self) -> bool:
        """Whether it can send."""
        return self._http is not None

    async def open(self) -> None:
        """Bind to the running loop; see `Api.open`.

        Raises:
            PoolClosed: it is open in another loop.
        """
        if self._http is not None:
            self.check_open()
            return
        self._loop = asyncio.get_running_loop()
        tracing = aiohttp.TraceConfig()
        tracing.on_request_start.append(_not_sent)
        tracing.on_request_headers_sent.append(_sent)
        self._http = aiohttp.ClientSession(
            # No limit here: the budget governs how many run at once, and a second line behind it
            # would be served in no order (B6) and count as time of the request.
            connector=aiohttp.TCPConnector(
                limit=0, limit_per_host=0, keepalive_timeout=_KEEPALIVE_S, ssl=self._ssl
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": self._user_agent},
            timeout=self._timeout,
            trace_configs=[tracing],
        )

    async def aclose(self) -> None:
        """Close all connections; see `Api.aclose`."""
        http, self._http = self._http, None
        if http is not None:
            await http.close()

    async def begin(self, request: Request, deadline: float) -> Incoming:
        """Send a request, and return when the status and the headers are there.

        Args:
            request: what to send.
            deadline: by the loop's clock; it goes on for the body.

        Raises:
            PoolClosed: not open, or open in another loop.
            RemoteUnavailable, RemoteMalformed, ConfigError: as `translate.of_exception` has it.
        """
        http, progress = self.check_open(), _Progress()
        elapsed = self._stopwatch()
        try:
            async with asyncio.timeout_at(deadline):
                response = await http.request(
                    request.method,
                    request.url,
                    headers=request.headers,
                    data=request.body,
                    allow_redirects=False,
                    proxy=self._proxy,
                    trace_request_ctx=progress,
                )
                return Incoming(request.operation, response, deadline, elapsed)
        except translate.FOREIGN as error:
            cause = error
        raise _translated(request.operation, cause, sent=progress.sent)

    def check_open(self) -> aiohttp.ClientSession:
        """Return the connections, if they are to be used here and now.

        Raises:
            PoolClosed: not open, or open in another loop.
        """
        if self._http is None:
            raise PoolClosed("the client is not open: enter its block or await its open() first")
        if asyncio.get_running_loop() is not self._loop:
            raise PoolClosed(
                "the client was opened in another event loop; make one client for each loop, "
                "within the asyncio.run() that uses it"
            )
        return self._http

    def _stopwatch(self) -> Clock:
        if (clock := self._clock) is not None:
            begun = clock()
            return lambda: clock() - begun
        loop = asyncio.get_running_loop()
        waking, asleep_too = loop.time(), _counting_sleep()
        return lambda: max(loop.time() - waking, _counting_sleep() - asleep_too)


def _counting_sleep() -> float:
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    else:  # noqa: RET505 - mypy knows an else as another platform's, and not as unreachable
        return time.monotonic()


def _translated(operation: Operation, error: BaseException, *, sent: bool) -> SessionPoolError:
    """Return our error for a foreign one, which becomes its cause.

    Called outside the handler, so that the cause is the only link: the repr of aiohttp's
    `ClientResponseError` shows the request's headers, token included, and is left out (B29).
    """
    failure = translate.of_exception(operation, error, sent=sent)
    failure.__cause__ = None if isinstance(error, aiohttp.ClientResponseError) else error
    return failure


async def _not_sent(_http: aiohttp.ClientSession, trace: SimpleNamespace, _params: object) -> None:
    trace.trace_request_ctx.sent = False


async def _sent(_http: aiohttp.ClientSession, trace: SimpleNamespace, _params: object) -> None:
    # Fires as the headers are about to be written: from here on nobody can be sure.
    trace.trace_request_ctx.sent = True
