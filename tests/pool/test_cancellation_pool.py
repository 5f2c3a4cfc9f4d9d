"""Nobody's cancellation loses, leaks or blocks anything (B23), here: of a pool's own life."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from session_pool import PoolClosed, PoolPaused
from session_pool.emulator import Emulator
from tests.cancelling import WAYS, Way, Work, at_each_await, cancelled
from tests.pool.cancelled_house import AGENT, CREATE_S, KINDS, House, Kind, house

pytestmark = [
    pytest.mark.looptime,
    pytest.mark.parametrize("kind", KINDS),
    pytest.mark.parametrize("way", WAYS),
]

WARM = {"min_idle": 2}


def pools_tasks() -> list[str]:
    """The names of the pools' tasks that are there now."""
    names = (task.get_name() for task in asyncio.all_tasks())
    return [name for name in names if name.startswith("session_pool")]


async def test_a_pool_whose_opening_is_cancelled_is_closed(way: Way, kind: Kind) -> None:
    at, struck = 0, True
    while struck:
        at += 1
        async with house(kind, opened=False) as here:
            here.over = True
            try:
                struck = await cancelled(here.pool.open, way, at)
            finally:
                await here.pool.aclose()
            with pytest.raises(PoolClosed):
                here.pool.acquire(AGENT)
            assert pools_tasks() == []


async def test_waiting_until_it_is_ready_may_be_cancelled(way: Way, kind: Kind) -> None:
    @asynccontextmanager
    async def scene() -> AsyncIterator[Work]:
        async with house(kind, policy=WARM, opened=False) as here:
            await here.pool.open()
            yield here.pool.ready
            await here.pool.ready()

    await at_each_await(scene, way)


async def test_a_close_that_is_cancelled_goes_on_by_itself(way: Way, kind: Kind) -> None:
    @asynccontextmanager
    async def scene() -> AsyncIterator[Work]:
        async with house(kind, policy=WARM) as here:
            lease = await here.hold()
            here.later(1.0, lease.release)
            here.over = True
            yield here.pool.aclose
            with pytest.raises(PoolClosed):
                here.pool.acquire(AGENT)
            await asyncio.sleep(5.0)  # nobody awaits it
            assert pools_tasks() == []
            assert here.emu.audit().sessions_alive <= 1  # the used one is not the pool's to delete

    await at_each_await(scene, way)


async def test_a_block_around_the_pool_may_be_cancelled(way: Way, kind: Kind) -> None:
    async def life(here: House) -> None:
        async with here.pool:
            await here.pool.ready()
            async with here.pool.acquire(AGENT):
                pass

    @asynccontextmanager
    async def scene() -> AsyncIterator[Work]:
        async with house(kind, policy=WARM, opened=False) as here:
            here.over = True
            yield lambda: life(here)
            await asyncio.sleep(2 * CREATE_S)
            assert pools_tasks() == []
            await _nobody_is_left_unused(here.emu)

    await at_each_await(scene, way)


@pytest.mark.parametrize("verb", ["pause", "drain", "recycle", "resume"])
async def test_an_order_that_is_cancelled_has_happened_or_not(
    way: Way, kind: Kind, verb: str
) -> None:
    @asynccontextmanager
    async def scene() -> AsyncIterator[Work]:
        async with house(kind, policy=WARM) as here:
            pool = here.pool
            await here.speak("c")
            lease = await here.hold()
            if verb == "resume":
                await pool.drain(AGENT)
            yield lambda: getattr(pool, verb)(AGENT)
            await asyncio.sleep(1.0)
            if verb != "recycle":
                await _is_paused_or_not(here)
            await getattr(pool, verb)(AGENT)  # a second call finishes what the first began
            await lease.release(unused=True)
            await pool.resume(AGENT)
            await asyncio.sleep(10.0)
            await pool.ready(10.0)

    await at_each_await(scene, way)


async def _is_paused_or_not(here: House) -> None:
    try:
        async with here.pool.acquire(AGENT):
            pass
    except PoolPaused:
        assert (await here.counts()).of("creating") == 0


@pytest.mark.parametrize("held", [False, True])
async def test_an_eviction_that_is_cancelled_has_happened_or_not(
    way: Way, kind: Kind, held: bool
) -> None:
    @asynccontextmanager
    async def scene() -> AsyncIterator[Work]:
        async with house(kind, policy=WARM) as here:
            lease = await here.hold()
            rid = lease.rid if held else _idle(here, lease.rid)
            yield lambda: here.pool.evict(rid)
            await asyncio.sleep(1.0)
            if held:
                await here.pool.evict(rid)
                assert lease.lost.is_set()

    await at_each_await(scene, way)


def _idle(here: House, but: str) -> str:
    return next(rid for rid in here.emu.sessions if rid != but)


async def test_warming_may_be_cancelled(way: Way, kind: Kind) -> None:
    @asynccontextmanager
    async def scene() -> AsyncIterator[Work]:
        async with house(kind, policy=WARM) as here:
            yield lambda: here.pool.warm(AGENT, 5)
            await asyncio.sleep(5.0)
            assert here.pool._desks.of(AGENT).warming == {}
            assert here.pool._works.watchers == set()

    await at_each_await(scene, way)


async def _nobody_is_left_unused(emu: Emulator) -> None:
    alive = [rid for rid in emu.sessions if emu.is_alive(rid)]
    # A creation that the close has cut off is unsettled; the used session is kept as a record.
    assert len(alive) <= 1 + 2, alive
