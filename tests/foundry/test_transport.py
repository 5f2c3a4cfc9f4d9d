"""Connections that fail in every way, and what is said of `sent`; with real sockets on loopback."""

from __future__ import annotations

import asyncio
import socket
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from aiohttp import web

from session_pool.errors import (
    AgentUnavailable,
    AuthError,
    RemoteError,
    RemoteMalformed,
    RemoteRejected,
    RemoteUnavailable,
)
from session_pool.foundry import ClientCredentials, FoundryClient, StaticToken, transport
from tests.foundry.stub import AGENT, SESSION, listening, serving, serving_bytes, session_json

pytestmark = pytest.mark.looptime


async def look(url: str, *, timeout_s: float = 30, connect_timeout_s: float = 10) -> RemoteError:
    """Return the error that looking at a session ends in."""
    client = FoundryClient(url, StaticToken("t0ken"), connect_timeout_s=connect_timeout_s)
    await client.open()
    try:
        with pytest.raises(RemoteError) as caught:
            await client.create_session(AGENT, timeout_s=timeout_s)
    finally:
        await client.aclose()
    assert "t0ken" not in repr(caught.value) + repr(caught.value.__cause__)
    return caught.value


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_a_port_where_nobody_listens_got_nothing() -> None:
    error = await look(f"http://127.0.0.1:{free_port()}")
    assert isinstance(error, RemoteUnavailable)
    assert not error.sent
    assert "cannot be reached" in str(error)
    assert error.__cause__ is not None


async def test_a_port_that_speaks_no_tls_got_nothing_and_the_fix_is_named() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response()

    async with serving(handler) as url:
        error = await look(url.replace("http://", "https://"))
    assert isinstance(error, RemoteUnavailable)
    assert not error.sent
    assert "TLS" in str(error)


async def test_a_connection_cut_after_the_request_may_have_been_begun() -> None:
    async def cuts(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async with serving_bytes(cuts) as url:
        error = await look(url)
    assert isinstance(error, RemoteUnavailable)
    assert error.sent


async def test_a_body_cut_in_the_middle_may_have_been_begun() -> None:
    async def cuts(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
        await writer.drain()

    async with serving_bytes(cuts) as url:
        error = await look(url)
    assert isinstance(error, RemoteUnavailable)
    assert error.sent


async def test_an_answer_that_is_no_http_is_malformed_and_its_cause_shows_no_token() -> None:
    async def babbles(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 smtp.example.com ready\r\n\r\n")
        await writer.drain()

    async with serving_bytes(babbles) as url:
        error = await look(url)
    assert isinstance(error, RemoteMalformed)
    assert error.__cause__ is None
    assert error.__context__ is None


async def test_a_hang_after_sending_is_uncertain_at_the_timeout() -> None:
    async def hangs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving_bytes(hangs) as url:
        error = await look(url, timeout_s=7)
    assert isinstance(error, RemoteUnavailable)
    assert error.sent
    assert asyncio.get_running_loop().time() == pytest.approx(7)


@pytest.mark.parametrize(("timeout_s", "ends_at"), [(30.0, 2.0), (1.0, 1.0)])
async def test_a_hang_before_sending_is_certain(timeout_s: float, ends_at: float) -> None:
    """TLS begins and never ends: the connect timeout, or the call's own if it is shorter."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with listening(silent) as port:
        url = f"https://127.0.0.1:{port}"
        error = await look(url, timeout_s=timeout_s, connect_timeout_s=2)
    assert isinstance(error, RemoteUnavailable)
    assert not error.sent
    assert asyncio.get_running_loop().time() == pytest.approx(ends_at)


async def test_a_body_that_dribbles_is_bounded_by_the_timeout() -> None:
    async def dribbles(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(1)

    async with serving_bytes(dribbles) as url:
        error = await look(url, timeout_s=20)
    assert isinstance(error, RemoteUnavailable)
    assert asyncio.get_running_loop().time() == pytest.approx(20)


async def test_a_large_error_body_is_not_read_to_its_end() -> None:
    async def floods(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 500 Oops\r\nContent-Length: 100000000\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
            await asyncio.sleep(1)

    async with serving_bytes(floods) as url:
        error = await look(url)
    assert error.status == 500
    assert asyncio.get_running_loop().time() < 5


async def test_an_error_body_that_breaks_off_leaves_the_status() -> None:
    async def breaks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 503 Busy\r\nContent-Length: 100\r\nRetry-After: 9\r\n\r\n{")
        await writer.drain()

    async with serving_bytes(breaks) as url:
        error = await look(url)
    assert error.status == 503


async def test_a_redirect_is_not_followed_and_no_token_goes_elsewhere() -> None:
    seen: list[str] = []

    async def redirects(request: web.Request) -> web.StreamResponse:
        seen.append(request.path)
        raise web.HTTPFound("/elsewhere")

    async with serving(redirects) as url:
        client = FoundryClient(url, StaticToken("t0ken"))
        await client.open()
        with pytest.raises(AgentUnavailable, match="redirected"):
            await client.create_session(AGENT, timeout_s=5)
        with pytest.raises(RemoteRejected, match="redirected"):
            await client.get_session(AGENT, SESSION, timeout_s=5)
        await client.aclose()
    assert "/elsewhere" not in seen


@pytest.mark.parametrize("ahead_s", [-300, 0, 300])
async def test_five_minutes_of_skew_either_way_change_nothing(ahead_s: int) -> None:
    """B20: what is left is the remote's own difference, less what the request took."""
    remotes_now = datetime(2030, 1, 1, tzinfo=UTC).timestamp() + ahead_s

    async def handler(request: web.Request) -> web.StreamResponse:
        now = datetime.fromtimestamp(remotes_now, UTC)
        await asyncio.sleep(3)
        body = session_json(
            createdTime=now.isoformat(),
            updatedTime=now.isoformat(),
            estimatedExpiresTime=datetime.fromtimestamp(remotes_now + 3600, UTC).isoformat(),
        )
        return web.json_response(body, headers={"Date": format_datetime(now, usegmt=True)})

    async with serving(handler) as url:
        client = FoundryClient(url, StaticToken("t"), clock=asyncio.get_running_loop().time)
        await client.open()
        made = await client.create_session(AGENT, timeout_s=30)
        seen = await client.get_session(AGENT, SESSION, timeout_s=30)
        await client.aclose()
    assert made.remaining_s == 3597
    assert seen.remaining_s == 3596


async def test_more_than_a_hundred_at_once_are_not_held_back_by_a_second_limiter() -> None:
    """The budget governs how many run at once; aiohttp's own limit of 100 is off."""
    inside = 0
    all_in = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal inside
        inside += 1
        if inside == 120:
            all_in.set()
        await all_in.wait()
        return web.json_response(session_json())

    async with serving(handler) as url:
        client = FoundryClient(url, StaticToken("t"))
        await client.open()
        async with asyncio.TaskGroup() as group:
            for _ in range(120):
                group.create_task(client.create_session(AGENT, timeout_s=50))
        await client.aclose()


async def test_closing_ends_calls_in_flight() -> None:
    async def hangs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving_bytes(hangs) as url:
        client = FoundryClient(url, StaticToken("t"))
        await client.open()
        call = asyncio.create_task(client.create_session(AGENT, timeout_s=600))
        await asyncio.sleep(1)
        await client.aclose()
        with pytest.raises(RemoteUnavailable) as caught:
            await call
    assert caught.value.sent
    assert asyncio.get_running_loop().time() < 2


async def test_service_users_fetch_and_use_a_token_end_to_end() -> None:
    forms: list[dict[str, str]] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.path == "/multipass/api/oauth2/token":
            forms.append({name: str(value) for name, value in (await request.post()).items()})
            return web.json_response({"access_token": "fresh", "expires_in": 3600})
        assert request.headers["Authorization"] == "Bearer fresh"
        assert request.headers["User-Agent"].startswith("session-pool/")
        return web.json_response(session_json())

    async with serving(handler) as url:
        auth = ClientCredentials("id", "s&cret=", ["api:aip-agents-read", "api:aip-agents-write"])
        client = FoundryClient(url, auth)
        await client.open()
        await client.create_session(AGENT, timeout_s=5)
        await client.get_session(AGENT, SESSION, timeout_s=5)
        await client.aclose()
    assert forms == [
        {
            "grant_type": "client_credentials",
            "client_id": "id",
            "client_secret": "s&cret=",
            "scope": "api:aip-agents-read api:aip-agents-write",
        }
    ]


async def test_refused_credentials_and_an_unreachable_stack_are_two_things() -> None:
    async def refuses(request: web.Request) -> web.StreamResponse:
        return web.json_response({"error": "invalid_client"}, status=401)

    async with serving(refuses) as url:
        client = FoundryClient(url, ClientCredentials("id", "s3cret"))
        await client.open()
        with pytest.raises(AuthError, match="client_secret") as refused:
            await client.create_session(AGENT, timeout_s=5)
        await client.aclose()
    client = FoundryClient(f"http://127.0.0.1:{free_port()}", ClientCredentials("id", "s3cret"))
    await client.open()
    with pytest.raises(RemoteUnavailable) as unreachable:
        await client.create_session(AGENT, timeout_s=5)
    await client.aclose()
    assert not unreachable.value.sent
    assert "s3cret" not in repr(refused.value) + repr(unreachable.value)


async def test_a_token_endpoint_that_hangs_leaves_the_request_unsent() -> None:
    async def hangs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving_bytes(hangs) as url:
        client = FoundryClient(url, ClientCredentials("id", "s3cret"))
        await client.open()
        for timeout_s in (5, 60):
            with pytest.raises(RemoteUnavailable) as caught:
                await client.create_session(AGENT, timeout_s=timeout_s)
            assert not caught.value.sent
        await client.aclose()


@pytest.mark.parametrize(("slept_s", "took_s"), [(0.0, 3.0), (500.0, 500.0)])
async def test_a_suspend_within_a_request_is_time_that_it_took(
    monkeypatch: pytest.MonkeyPatch, slept_s: float, took_s: float
) -> None:
    """cpython#106940: the loop's clock stops while the machine sleeps, the session's life not."""
    counting_sleep = [1000.0]
    monkeypatch.setattr(transport, "_counting_sleep", lambda: counting_sleep[0])

    async def handler(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(3)
        counting_sleep[0] += slept_s
        return web.json_response(session_json())

    async with serving(handler) as url:
        client = FoundryClient(url, StaticToken("t"))
        await client.open()
        made = await client.create_session(AGENT, timeout_s=30)
        await client.aclose()
    assert made.remaining_s == 86400 - took_s
