"""A refusal belongs to the caller it is raised for: an error raised twice grows with each raise.

One error object for all would collect the traceback of every caller, and keep all their frames.
"""

from __future__ import annotations

import asyncio
from traceback import walk_tb

import pytest

from session_pool import PoolClosed, SessionPool
from tests.benchmarks.remote import AGENT, Remote


def a_pool() -> SessionPool:
    return SessionPool(url="https://stack.invalid", token="t", api=Remote(latency_s=3600.0))


async def refused(pool: SessionPool) -> PoolClosed:
    with pytest.raises(PoolClosed) as caught:
        await pool.acquire(AGENT)
    return caught.value


def depth(error: PoolClosed) -> int:
    return sum(1 for _ in walk_tb(error.__traceback__))


async def test_every_caller_of_a_pool_that_is_not_open_gets_an_error_of_its_own() -> None:
    pool = a_pool()
    errors = [await refused(pool) for _ in range(3)]
    assert len(set(map(id, errors))) == 3
    assert len(set(map(depth, errors))) == 1


@pytest.mark.looptime
async def test_every_waiter_that_a_close_fails_gets_an_error_of_its_own() -> None:
    async with a_pool() as pool:
        waiters = [asyncio.create_task(refused(pool)) for _ in range(3)]
        await asyncio.sleep(1)
        await pool.aclose(0)
        errors = await asyncio.gather(*waiters)
    assert len(set(map(id, errors))) == 3
    assert len(set(map(depth, errors))) == 1


@pytest.mark.looptime
async def test_every_caller_of_a_closed_pool_gets_an_error_of_its_own() -> None:
    async with a_pool() as pool:
        pass
    errors = [await refused(pool) for _ in range(3)]
    assert len(set(map(id, errors))) == 3
    assert len(set(map(depth, errors))) == 1
