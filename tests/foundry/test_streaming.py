"""Streams against a server in this loop, in virtual time: pieces, silence, cuts, leaving early."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

import pytest
from aiohttp import web

from session_pool.errors import (
    AuthError,
    RemoteMalformed,
    RemoteThrottled,
    RemoteUnavailable,
    SessionGone,
)
from session_pool.foundry import FoundryClient, StaticToken
from tests.foundry.stub import (
    AGENT,
    MESSAGE,
    SESSION,
    TRACE,
    Handler,
    error_json,
    serving,
    serving_bytes,
)

pytestmark = pytest.mark.looptime

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def say(
    client: FoundryClient, *, timeout_s: float = 600
) -> AbstractAsyncContextManager[AsyncIterator[str]]:
    return client.streaming_continue(
        AGENT, SESSION, text="hi", trace_id=TRACE, message_id=MESSAGE, timeout_s=timeout_s
    )


async def opened(url: str) -> FoundryClient:
    client = FoundryClient(url, StaticToken("t0ken"))
    await client.open()
    return client


async def heard(
    client: FoundryClient, got: list[tuple[str, float]], *, timeout_s: float = 600
) -> None:
    """Listen to a whole answer, noting each piece and when it came."""
    now = asyncio.get_running_loop().time
    async with say(client, timeout_s=timeout_s) as pieces:
        async for piece in pieces:
            got.append((piece, now()))  # noqa: PERF401 - kept one by one: the stream may break off


def streams(*pieces: bytes | float) -> Handler:
    """Answer with pieces of bytes, and pauses of seconds between them."""

    async def handler(request: web.Request) -> web.StreamResponse:
        await request.read()
        response = web.StreamResponse()
        await response.prepare(request)
        for piece in pieces:
            if isinstance(piece, bytes):
                await response.write(piece)
            else:
                await asyncio.sleep(piece)
        return response

    return handler


async def test_text_comes_as_it_is_sent_and_not_all_at_the_end() -> None:
    came: list[tuple[str, float]] = []
    async with serving(streams(b"one ", 5.0, b"two ", 5.0, b"three")) as url:
        client = await opened(url)
        await heard(client, came)
        await client.aclose()
    assert came == [("one ", 0.0), ("two ", 5.0), ("three", 10.0)]


async def test_the_request_carries_the_trace_and_the_message() -> None:
    seen: list[tuple[str, object, str]] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        seen.append((request.path_qs, await request.json(), request.headers["Accept-Encoding"]))
        return web.Response(body=b"x")

    async with serving(handler) as url:
        client = await opened(url)
        async with say(client) as pieces:
            assert [piece async for piece in pieces] == ["x"]
        await client.aclose()
    path = f"/api/v2/aipAgents/agents/{AGENT}/sessions/{SESSION}/streamingContinue?preview=true"
    body = {
        "userInput": {"text": "hi"},
        "parameterInputs": {},
        "sessionTraceId": TRACE,
        "messageId": MESSAGE,
    }
    assert seen == [(path, body, "identity")]


async def test_a_character_split_between_chunks_waits_for_its_rest() -> None:
    euro = "€".encode()
    async with serving(streams(b"5 " + euro[:1], 1.0, euro[1:2], 1.0, euro[2:] + b"!")) as url:
        client = await opened(url)
        async with say(client) as pieces:
            assert [piece async for piece in pieces] == ["5 ", "€!"]
        await client.aclose()


async def test_a_long_silence_before_the_first_byte_is_no_failure() -> None:
    async def thinks(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(500)
        return web.Response(body=b"at last")

    async with serving(thinks) as url:
        client = await opened(url)
        async with say(client) as pieces:
            assert [piece async for piece in pieces] == ["at last"]
        await client.aclose()


async def test_the_timeout_bounds_the_whole_and_not_the_silence() -> None:
    pieces: list[bytes | float] = [b"x", 4.0] * 10
    async with serving(streams(*pieces)) as url:
        client = await opened(url)
        got: list[tuple[str, float]] = []
        with pytest.raises(RemoteUnavailable, match="no answer in time") as caught:
            await heard(client, got, timeout_s=10)
        assert asyncio.get_running_loop().time() == pytest.approx(10)
        await client.aclose()
    assert [at for _, at in got] == [0.0, 4.0, 8.0]
    assert caught.value.sent


async def test_a_timeout_before_the_first_byte_comes_from_entering() -> None:
    async def hangs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving_bytes(hangs) as url:
        client = await opened(url)
        with pytest.raises(RemoteUnavailable) as caught:
            await say(client, timeout_s=10).__aenter__()
        assert caught.value.sent
        await client.aclose()


@pytest.mark.parametrize(
    ("status", "name", "kind"),
    [
        (404, "SessionNotFound", SessionGone),
        (400, "RateLimitExceeded", RemoteThrottled),
        (500, "SessionExecutionFailed", RemoteUnavailable),
        (401, "Default:Unauthorized", AuthError),
    ],
)
async def test_refusals_come_from_entering(status: int, name: str, kind: type[Exception]) -> None:
    async def refuses(request: web.Request) -> web.StreamResponse:
        return web.json_response(error_json(name), status=status)

    async with serving(refuses) as url:
        client = await opened(url)
        with pytest.raises(kind):
            await say(client).__aenter__()
        await client.aclose()


async def test_a_refused_token_is_renewed_before_the_first_byte() -> None:
    class Renewing:
        async def token(self) -> str:
            return "old"

        async def renew(self, stale: str) -> str:
            return "new"

    async def checks(request: web.Request) -> web.StreamResponse:
        if request.headers["Authorization"] != "Bearer new":
            return web.Response(status=401)
        return web.Response(body=b"welcome")

    async with serving(checks) as url:
        client = FoundryClient(url, Renewing())
        await client.open()
        async with say(client) as pieces:
            assert [piece async for piece in pieces] == ["welcome"]
        await client.aclose()


async def test_a_cut_stream_is_no_end_of_the_text() -> None:
    async def cuts(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + chunk(b"half a sent"))
        await writer.drain()
        await asyncio.sleep(1)

    async with serving_bytes(cuts) as url:
        client = await opened(url)
        got: list[tuple[str, float]] = []
        with pytest.raises(RemoteUnavailable) as caught:
            await heard(client, got)
        await client.aclose()
    assert got == [("half a sent", 0.0)]
    assert caught.value.sent
    assert "half" not in str(caught.value)


async def test_a_stream_that_ends_within_a_character_was_cut() -> None:
    async with serving(streams(b"ok ", 1.0, "€".encode()[:2])) as url:
        client = await opened(url)
        with pytest.raises(RemoteUnavailable, match="within a character"):
            await heard(client, [])
        await client.aclose()


async def test_bytes_that_are_no_text_are_refused_without_being_shown() -> None:
    async with serving(streams(b"ok ", 1.0, b"private\xff")) as url:
        client = await opened(url)
        with pytest.raises(RemoteMalformed, match="UTF-8") as caught:
            await heard(client, [])
        await client.aclose()
    assert caught.value.__context__ is None


async def test_leaving_early_closes_the_connection_without_reading_the_rest() -> None:
    gone = asyncio.Event()
    written = 0

    async def talks_on(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(CHUNKED)
        try:
            while True:
                writer.write(chunk(b"word " * 1000))
                await writer.drain()
                written += 1
                await asyncio.sleep(1)
        finally:
            gone.set()

    async with serving_bytes(talks_on) as url:
        client = await opened(url)
        async with say(client) as pieces:
            await anext(pieces)
        await gone.wait()
        assert written < 5
        await client.aclose()


async def test_cancelled_in_the_middle_the_connection_is_closed() -> None:
    gone = asyncio.Event()

    async def stalls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + chunk(b"word "))
        await reader.read()
        gone.set()

    async with serving_bytes(stalls) as url:
        client = await opened(url)
        task = asyncio.create_task(heard(client, []))
        await asyncio.sleep(5)
        task.cancel()
        await gone.wait()
        with pytest.raises(asyncio.CancelledError):
            await task
        await client.aclose()
