"""What the tests of the remote side share: answers, a scripted server in this loop, made-up ids."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from unittest.mock import Mock

import aiohttp
from aiohttp import web
from aioresponses import aioresponses

AGENT = "ri.aip-agents..agent.732cd5b4-7ca7-4219-aabb-6e976faf63b1"
SESSION = "ri.aip-agents..session.292db3b2-b653-4de6-971c-7e97a7b881d6"
TRACE = "0b0a2a4e-64a1-4c6f-9d0e-2f2f0f8c9e11"
MESSAGE = "5f1d9a52-30ab-4b0c-8a39-b7f3c1b7c0de"
INSTANCE = "00813215-0844-4716-be7b-a3fe0fce9e42"
URL = "https://stack.example.com"
SESSIONS = f"{URL}/api/v2/aipAgents/agents/{AGENT}/sessions"
# The remote's clock, far from any real one: whoever compares clocks fails these tests.
DATE = "Tue, 01 Oct 2024 22:04:30 GMT"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def session_json(**metadata: Any) -> dict[str, Any]:
    """Return the contract's own example of a session, with some of its metadata changed."""
    told = {
        "title": "about the harbour",
        "createdTime": "2024-10-01T20:04:24.962583055Z",
        "updatedTime": "2024-10-01T22:04:24.962583055Z",
        "messageCount": 6,
        "estimatedExpiresTime": "2024-10-02T22:04:24.962583055Z",
    } | metadata
    return {
        "rid": SESSION,
        "metadata": {name: value for name, value in told.items() if value is not ...},
        "agentRid": AGENT,
        "agentVersion": "1.0",
        "inventedTomorrow": {"x": 1},
    }


def result_json(text: str = "Ahoy.", trace_id: str = TRACE) -> dict[str, Any]:
    return {
        "agentMarkdownResponse": text,
        "parameterUpdates": {"port": {"type": "string", "value": "Cork"}},
        "totalTokensUsed": 42,
        "interruptedOutput": False,
        "sessionTraceId": trace_id,
    }


def error_json(name: str, **parameters: Any) -> dict[str, Any]:
    return {
        "errorCode": "NOT_LOOKED_AT",
        "errorName": name,
        "errorInstanceId": INSTANCE,
        "parameters": parameters,
    }


class _Response(aiohttp.ClientResponse):
    """What aioresponses has to answer with under aiohttp 3.14 (aioresponses#289)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, stream_writer=Mock(output_size=0), **kwargs)


class Remote:
    """A remote that answers each request as it was told to, and remembers what it was asked."""

    def __init__(self, mocked: aioresponses) -> None:
        self._mocked = mocked

    def answers(
        self,
        method: str,
        url: str,
        payload: Any = None,
        *,
        status: int = 200,
        headers: dict[str, str] | None = None,
        body: bytes = b"",
        exception: Exception | None = None,
    ) -> None:
        """Answer the next request of that method and address in this way."""
        self._mocked.add(
            url if "?" in url else f"{url}?preview=true",
            method,
            status=status,
            headers={"Date": DATE} | (headers or {}),
            body=body if payload is None else json.dumps(payload),
            exception=exception,
            response_class=_Response,
        )

    @property
    def asked(self) -> list[dict[str, Any]]:
        """What each request was sent with, in order of sending within one address."""
        return [call.kwargs for calls in self._mocked.requests.values() for call in calls]

    @property
    def addresses(self) -> list[tuple[str, str]]:
        """Which methods and addresses were asked."""
        return [(method, str(url)) for method, url in self._mocked.requests]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    """Serve all paths by one handler, on loopback in this loop; gives the base URL."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(talk: Talk) -> AsyncIterator[int]:
    """Let `talk` have each connection, from its first byte; gives the port. Leaves no task."""
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await talk(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client has gone, as some tests have it do, or the test is over
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # aborted transports close their sockets in the next turn


@asynccontextmanager
async def serving_bytes(talk: Talk) -> AsyncIterator[str]:
    """Let `talk` answer each connection's first request; gives the base URL."""

    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                await reader.readexactly(int(line.split(b":")[1]))
        await talk(reader, writer)

    async with listening(answers) as port:
        yield f"http://127.0.0.1:{port}"
