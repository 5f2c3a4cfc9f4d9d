"""A client's life: opened, used where it was opened, closed."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from session_pool.errors import PoolClosed
from session_pool.foundry import FoundryClient, StaticToken
from tests.foundry.stub import AGENT, SESSION, URL, Remote, serving, session_json


async def test_a_client_that_is_not_open_says_what_to_do(remote: Remote) -> None:
    client = FoundryClient(URL, StaticToken("t"))
    with pytest.raises(PoolClosed, match="open"):
        await client.get_session(AGENT, SESSION, timeout_s=5)
    await client.open()
    await client.open()
    await client.aclose()
    await client.aclose()
    with pytest.raises(PoolClosed):
        await client.get_session(AGENT, SESSION, timeout_s=5)


async def test_a_client_used_in_another_loop_says_so(client: FoundryClient) -> None:
    call = client.get_session(AGENT, SESSION, timeout_s=5)
    with pytest.raises(PoolClosed, match="another event loop"):
        await asyncio.to_thread(asyncio.run, call)


async def test_reprs_show_state_and_no_secret(client: FoundryClient) -> None:
    assert repr(client) == "<FoundryClient https://stack.example.com, StaticToken, open>"


async def test_cookies_are_not_kept() -> None:
    """A balancer's cookie would pin all requests to one replica, whose limit is its own."""
    seen: list[str | None] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        seen.append(request.headers.get("Cookie"))
        response = web.json_response(session_json())
        response.set_cookie("replica", "7")
        return response

    async with serving(handler) as url:
        client = FoundryClient(url.replace("127.0.0.1", "localhost"), StaticToken("t"))
        await client.open()
        for _ in range(2):
            await client.create_session(AGENT, timeout_s=5)
        await client.aclose()
    assert seen == [None, None]
