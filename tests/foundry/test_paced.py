"""Calls through the budget: places are held and given back, throttles are reported."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from session_pool.errors import RemoteThrottled
from session_pool.foundry import Budget, FoundryClient, Limits, Paced, StaticToken, Turn, Urgency
from tests.foundry.stub import URL

pytestmark = pytest.mark.looptime


def paced(at_once: int = 1) -> Paced:
    return Paced(FoundryClient(URL, StaticToken("t")), Budget(Limits(1000, at_once)))


def in_use(pool: Paced) -> int:
    return sum(pool.budget.snapshot().in_use.values())


async def test_a_call_holds_a_place_for_as_long_as_it_takes() -> None:
    pool = paced()

    async def method(number: int, *, timeout_s: float) -> str:
        assert in_use(pool) == 1
        await asyncio.sleep(timeout_s)
        return f"{number}"

    calls = [
        pool.call(Turn(Urgency.CREATE, since), method, number, timeout_s=2)
        for number, since in enumerate([3.0, 1.0, 2.0])
    ]
    assert await asyncio.gather(*calls) == ["0", "1", "2"]
    assert asyncio.get_running_loop().time() == 6
    assert in_use(pool) == 0


async def test_a_throttle_is_reported_and_raised() -> None:
    pool = paced(100)

    async def method() -> None:
        raise RemoteThrottled("slow down", retry_after_s=12.0)

    with pytest.raises(RemoteThrottled):
        await pool.call(Urgency.WARM, method)
    snapshot = pool.budget.snapshot()
    assert snapshot.limits.concurrent_requests == 70
    assert snapshot.paused_s == 12
    assert in_use(pool) == 0


async def test_a_stream_holds_its_place_until_it_is_left() -> None:
    pool = paced()

    @asynccontextmanager
    async def method(piece: str) -> AsyncIterator[str]:
        yield piece

    async with pool.stream(Urgency.EXCHANGE, method, "word") as word:
        assert word == "word"
        assert in_use(pool) == 1
    assert in_use(pool) == 0


async def test_a_stream_that_is_throttled_at_its_entry_is_reported() -> None:
    pool = paced(100)

    @asynccontextmanager
    async def method(error: Exception | None) -> AsyncIterator[str]:
        if error is not None:
            raise error
        yield ""

    error = RemoteThrottled("slow down", begun=True)
    with pytest.raises(RemoteThrottled):
        await pool.stream(Urgency.EXCHANGE, method, error).__aenter__()
    assert pool.budget.snapshot().limits.concurrent_requests == 70
    assert in_use(pool) == 0
