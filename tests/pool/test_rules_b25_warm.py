"""B25: having more ready than usual, against every state of it.

`where` is explained in `ordered_house`.
"""

from __future__ import annotations

import asyncio

import pytest

from session_pool import (
    AcquireTimeout,
    AgentPolicy,
    AgentUnavailable,
    ConfigError,
    Lease,
    PoolPaused,
)
from tests.pool.house import house, outcome
from tests.pool.ordered_house import Where, counts, everywhere, ordered

pytestmark = pytest.mark.looptime


@everywhere
async def test_warm_makes_as_many_once(where: Where) -> None:
    async with ordered(where) as (home, pool):
        await pool.warm(home.agent, 5)
        assert (await counts(home)).of("idle") == 5
        created = home.emu.requests("create")
        assert created == 5
        await pool.warm(home.agent, 3)
        leases = [await home.lease() for _ in range(5)]
        for lease in leases:
            await lease.release()
        await asyncio.sleep(60)
        assert home.emu.requests("create") == created  # not a standing target
        await pool.warm(home.agent, 0)


@everywhere
async def test_warm_of_several_at_once_makes_the_most_of_them(where: Where) -> None:
    async with ordered(where) as (home, pool):
        await asyncio.gather(*(pool.warm(home.agent, n) for n in (1, 4, 2)))
        assert home.emu.requests("create") == 4


async def test_creations_by_other_processes_count() -> None:
    async with ordered("there") as (home, pool):
        await asyncio.gather(pool.warm(home.agent, 3), home.pool.warm(home.agent, 3))
        assert home.emu.requests("create") == 3
        assert (await counts(home)).of("idle") == 3


@everywhere
async def test_warm_serves_who_waits_as_well(where: Where) -> None:
    async with ordered(where) as (home, pool):

        async def hold() -> Lease:
            return await home.lease()

        holders = [asyncio.create_task(hold()) for _ in range(3)]
        await pool.warm(home.agent, 2)
        assert (await counts(home)).of("idle") >= 2
        for task in holders:
            await (await task).release()


async def test_warm_says_what_cannot_be_meant() -> None:
    async with house(policy=AgentPolicy(min_idle=0, max_idle=3)) as home:
        for n in (4, -1, 1.5, "2", True):
            with pytest.raises(ConfigError, match=r"^n\b"):
                await home.pool.warm(home.agent, n)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="max_idle"):
            await home.pool.warm(home.agent, 4)
        assert home.emu.requests("create") == 0


async def test_warm_of_what_is_paused_is_refused_also_while_it_waits() -> None:
    async with house(create_latency_s=5.0) as home:
        waiting = asyncio.create_task(outcome(home.pool.warm(home.agent, 2)))
        await asyncio.sleep(1)
        await home.pool.pause(home.agent)
        assert isinstance(await waiting, PoolPaused)
        with pytest.raises(PoolPaused):
            await home.pool.warm(home.agent, 1)


async def test_warm_raises_what_ready_raises() -> None:
    async with house() as home:
        home.emu.inject("create:*:503")
        with pytest.raises(AcquireTimeout) as caught:
            await home.pool.warm(home.agent, 1, timeout=20)
        assert caught.value.phase == "creation"
        assert caught.value.__cause__ is not None
        home.emu.clear_faults()
        home.emu.deny("create")
        with pytest.raises(AgentUnavailable):
            await home.pool.warm(home.agent, 1)


@everywhere
@pytest.mark.parametrize("timeout_s", [0.0, 2.0])
async def test_warm_that_runs_out_of_time_does_not_blame_the_store(
    where: Where, timeout_s: float
) -> None:
    async with ordered(where, create_latency_s=5.0) as (home, pool):
        with pytest.raises(AcquireTimeout) as caught:
            await pool.warm(home.agent, 1, timeout=timeout_s)
        assert caught.value.waited_s == pytest.approx(timeout_s, abs=0.1)
        await pool.warm(home.agent, 1)
        await pool.warm(home.agent, 1, timeout=0)
        assert home.emu.requests("create") == 1
