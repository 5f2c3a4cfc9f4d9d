"""Leases that were lent: read late they say what they said, and not what others have by then."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from session_pool import AcquireTimeout, Agent, AgentPolicy, ConfigError, Lease, SessionPool
from session_pool.stores.memory import MemoryStore
from tests.pool.house import COLD, house

pytestmark = pytest.mark.looptime

SHARED = AgentPolicy(min_idle=0, max_leased=1, reuse="anyone")


async def test_what_is_over_keeps_its_name_and_fence_whoever_has_the_session_by_then() -> None:
    async with house(policy=SHARED) as home:
        async with home.pool.acquire(home.agent) as first:
            pass
        async with home.pool.acquire(home.agent) as second:
            assert (first.fence, second.fence) == (1, 2)
            assert first.lease_id != second.lease_id
            assert first.rid == second.rid
            assert first.conversation is None
            assert first.over
            assert not second.over
            await first.release()  # once more, of what another holds by now
            assert not second.lost.is_set()
            assert home.stats.leased == 1


async def test_what_is_read_before_it_is_over_stays_the_same_after() -> None:
    async with house(policy=SHARED) as home:
        lease = await home.lease()
        seen = (lease.fence, lease.lease_id, lease.generation, lease.is_new, lease.agent_version)
        await lease.release()
        async with home.pool.acquire(home.agent):
            again = (lease.fence, lease.lease_id, lease.generation, lease.is_new)
            assert again == seen[:4]


async def test_a_lease_that_was_handed_over_in_line_is_given_back_like_any_other() -> None:
    async with house(policy=SHARED) as home:
        first = await home.lease()
        waiting = [asyncio.create_task(home.lease()) for _ in range(3)]
        await asyncio.sleep(1)
        await first.release()
        for number, task in enumerate(waiting):
            lease = await task
            assert lease.fence == number + 2
            assert home.stats.waiting == 2 - number
            await lease.release()
        stats = home.stats
        assert (stats.idle, stats.leased, stats.waited) == (1, 0, 4)
        assert stats.lease.count == 4


async def test_a_lease_that_was_only_asked_for_says_so() -> None:
    async with house(policy=SHARED) as home:
        asked = home.pool.acquire(home.agent)
        lease = cast("Lease", asked)
        assert repr(asked) == "<Lease asked for of orders>"
        with pytest.raises(ConfigError, match=r"await pool\.acquire"):
            _ = lease.rid
        with pytest.raises(ConfigError, match=r"await pool\.acquire"):
            await lease.blocking_continue("hello")
        await lease.release()  # nothing is held
        assert home.stats.leased == 0
        held: Any = await asked
        assert held.fence == 1
        async with held as again:
            assert again is held
        assert held.over


async def test_an_acquire_is_awaited_once() -> None:
    async with house(policy=SHARED) as home:
        first, asked = await home.lease(), home.pool.acquire(home.agent, timeout=1)

        async def have() -> Lease:
            return await asked

        one, other = asyncio.create_task(have()), asyncio.create_task(have())
        await asyncio.sleep(0)
        with pytest.raises(ConfigError, match="awaited once"):
            await other
        await first.release()
        assert (await one).fence == 2
        await (await one).release()
        in_vain = home.pool.acquire(home.agent, timeout=0)
        async with home.pool.acquire(home.agent):
            with pytest.raises(AcquireTimeout):
                await in_vain
        with pytest.raises(ConfigError, match="awaited once"):
            await in_vain
        assert home.stats.leased == 0


async def test_two_pools_of_one_process_may_share_a_store() -> None:
    store = MemoryStore(clock=asyncio.get_running_loop().time)
    async with house(pool={"store": store}) as home:
        agents = {home.agent: Agent(home.emu.agent_rid, COLD)}
        url, token = home.emu.url, home.emu.token
        async with SessionPool(url=url, token=token, store=store, agents=agents) as other:
            pools = (home.pool, other)
            leases = [await pool.acquire(home.agent) for pool in pools * 3]
            assert len({lease.rid for lease in leases}) == 6
            waiting = [asyncio.create_task(_hold(pool, home.agent)) for pool in pools * 3]
            for lease in leases:
                await lease.release()
            await asyncio.gather(*waiting)
            assert (home.stats.leased, home.stats.waiting) == (0, 0)


async def _hold(pool: SessionPool, agent: str) -> None:
    async with pool.acquire(agent):
        await asyncio.sleep(1)
