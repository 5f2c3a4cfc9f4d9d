"""A close that comes while the pool is being opened; subscribers that go without a word."""

from __future__ import annotations

import asyncio
import gc

import pytest

from session_pool import PoolClosed, SessionPool
from session_pool.emulator import Emulator
from session_pool.events import SessionCreated
from tests.pool.house import distant_store, house, outcome, spin

pytestmark = pytest.mark.looptime


async def test_a_pool_closed_while_it_is_opened_does_not_open() -> None:
    store = distant_store()
    store.latency_s = 1.0
    async with Emulator() as emu:
        pool = SessionPool(url=emu.url, token=emu.token, store=store)
        opening = asyncio.create_task(pool.open())
        await asyncio.sleep(0.5)
        await pool.aclose()
        assert isinstance(await outcome(opening), PoolClosed)
        with pytest.raises(PoolClosed):
            pool.acquire(emu.agent_rid)
        await pool.aclose()
        left = [task for task in asyncio.all_tasks() if "session_pool" in task.get_name()]
        assert not left


async def test_a_pool_closed_before_it_is_opened_may_be_opened() -> None:
    async with Emulator() as emu:
        pool = SessionPool(url=emu.url, token=emu.token)
        await pool.aclose()
        async with pool:
            assert pool.stats().waiting == 0


async def test_who_listens_no_more_is_told_no_more() -> None:
    async with house() as home:
        await spin(2)
        before = len(home.pool._bus._subscriptions)

        async def listen() -> None:
            async for _ in home.pool.subscribe():
                pass

        listeners = [asyncio.create_task(listen()) for _ in range(20)]
        await spin(2)
        for listener in listeners:
            listener.cancel()
        await asyncio.gather(*listeners, return_exceptions=True)
        del listeners, listener
        kept = home.pool.subscribe()
        gc.collect()
        await (await home.lease()).release()
        assert len(home.pool._bus._subscriptions) == before + 1
        assert isinstance(await anext(kept), SessionCreated)
