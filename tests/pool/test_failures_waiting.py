"""Woken in vain, or never: how other pools let callers wait for nothing, one test for each."""

from __future__ import annotations

import asyncio

import pytest

from session_pool import (
    AcquireTimeout,
    Agent,
    AgentPolicy,
    AgentUnavailable,
    AuthError,
    Lease,
    RequestLimits,
)
from session_pool.emulator import AGENT_RID
from tests.pool.house import OTHER_RID, House, house, outcome, spin

pytestmark = pytest.mark.looptime

ONE = AgentPolicy(min_idle=0, max_leased=1)
TWO_AGENTS = {"hot": Agent(AGENT_RID), "cold": Agent(OTHER_RID)}


def now() -> float:
    """Virtual seconds."""
    return asyncio.get_running_loop().time()


async def _turn(home: House, agent: str, timeout: float | None = None) -> float:
    async with home.pool.acquire(agent, timeout=timeout) as lease:
        lease.mark_unused()
    return now()


async def test_aiohttp_9670_a_waiter_woken_as_its_time_is_up_passes_the_wake_on() -> None:
    async with house(policy=ONE) as home:
        for turns in range(6):
            lease = await home.lease()
            late = asyncio.create_task(home.lease(timeout=5))
            patient = asyncio.create_task(home.lease(timeout=60))
            await asyncio.sleep(5.0)
            await spin(turns)
            await lease.release(unused=True)
            got = await outcome(late)
            if isinstance(got, Lease):
                await got.release(unused=True)
            async with asyncio.timeout(0.1):
                await (await patient).release(unused=True)


@pytest.mark.parametrize("fault", ["500", "lost_before", "malformed", "503", "SessionNotFound"])
async def test_aiohttp_835_1623_an_error_while_connecting_does_not_keep_the_slot(
    fault: str,
) -> None:
    policy = AgentPolicy(min_idle=0, max_leased=1, max_creating=1)
    async with house(policy=policy, faults=[f"create:1:{fault}:times=4"]) as home:
        async with home.pool.acquire(home.agent, timeout=60) as lease:
            lease.mark_unused()
        assert home.emu.requests("create") == 5
        assert home.stats.created_failed == 4
        async with home.pool.acquire(home.agent, timeout=0):
            pass


async def test_node_pool_175_183_197_create_rejects_and_acquire_rejects() -> None:
    async with house(faults=["create:*:CreateSessionPermissionDenied"]) as home:
        with pytest.raises(AgentUnavailable) as caught:
            await home.lease()
        assert now() < 1.0
        assert caught.value.error_name == "CreateSessionPermissionDenied"
        await asyncio.sleep(300)
        assert home.emu.requests("create") == 1  # and nothing spins


async def test_reactor_pool_82_create_fails_for_one_and_the_next_does_not_hang() -> None:
    policy = AgentPolicy(min_idle=0, max_leased=2, max_creating=1)
    async with house(policy=policy, faults=["create:1:500", "create:3:503"]) as home:
        served = await asyncio.gather(*(_turn(home, "orders", timeout=30) for _ in range(2)))
        assert max(served) < 5.0


async def test_bb8_141_227_wrong_credentials_are_told_at_once() -> None:
    async with house(policy=AgentPolicy(min_idle=0, acquire_timeout_s=30)) as home:
        home.emu.revoke_token(home.emu.token)
        with pytest.raises(AuthError) as caught:
            await home.lease()
        assert now() < 1.0
        assert caught.value.status == 401 or "401" in str(caught.value)


async def test_bb8_227_a_timeout_carries_its_cause() -> None:
    async with house(faults=["create:*:500"]) as home:
        with pytest.raises(AcquireTimeout, match="the last error: create_session") as caught:
            await home.lease(timeout=5)
        assert type(caught.value.__cause__).__name__ == "RemoteUnavailable"
        assert caught.value.phase == "creation"
        assert caught.value.waited_s == pytest.approx(5.0, abs=0.1)


async def test_commons_pool_pr113_what_is_freed_under_one_key_serves_the_waiters_of_another() -> (
    None
):
    limits = RequestLimits(concurrent_requests=1)
    async with house(
        policy=AgentPolicy(min_idle=0),
        agents=TWO_AGENTS,
        pool={"limits": limits},
        exchange_latency_s=10.0,
    ) as home:
        async with home.pool.acquire("hot") as lease:
            asking = asyncio.create_task(lease.blocking_continue("takes the only place"))
            await home.emu.wait_for(lambda: home.emu.in_flight("exchange"))
            waiting = asyncio.create_task(_turn(home, "cold"))
            await asking
        assert await waiting == pytest.approx(10.0, abs=0.5)


async def test_pgbouncer_131_a_hot_agent_does_not_starve_a_cold_one() -> None:
    """Under a common budget creations start by longest wait, never by longest queue (B6)."""
    policy = AgentPolicy(min_idle=0, max_creating=4, max_leased=1000, acquire_timeout_s=None)
    async with house(
        policy=policy,
        agents=TWO_AGENTS,
        pool={"limits": RequestLimits(concurrent_requests=5)},
        create_latency_s=1.0,
    ) as home:
        hot = [asyncio.create_task(_hold(home, "hot")) for _ in range(100)]
        await asyncio.sleep(5.5)
        came = now()
        served = await _turn(home, "cold", timeout=30)
        assert served - came < 4.0  # what was under way, and its own creation
        for task in hot:
            task.cancel()
        await asyncio.gather(*hot, return_exceptions=True)


async def _hold(home: House, agent: str) -> None:
    async with home.pool.acquire(agent):
        await asyncio.sleep(10_000)


async def test_sqlalchemy_async_queue_pool_newcomers_do_not_barge_in() -> None:
    async with house(policy=ONE) as home:
        taken: list[str] = []

        async def greedy(name: str) -> None:
            for _ in range(50):
                async with home.pool.acquire(home.agent) as lease:
                    lease.mark_unused()
                    taken.append(name)
                    await asyncio.sleep(0.01)

        await asyncio.gather(greedy("a"), greedy("b"), greedy("c"))
        middle = taken[3:-3]
        assert all(middle[at] != middle[at + 1] for at in range(len(middle) - 1))
        assert {name: taken.count(name) for name in "abc"} == {"a": 50, "b": 50, "c": 50}


async def test_psycopg_pool_ten_waiters_on_an_empty_pool_do_not_wait_for_one_another() -> None:
    async with house(create_latency_s=0.05) as home:
        await asyncio.gather(*(_turn_used(home) for _ in range(10)))
        assert now() < 0.1
        assert home.emu.audit().max_creates_in_flight == 10


async def _turn_used(home: House) -> None:
    async with home.pool.acquire(home.agent) as lease:
        assert lease.rid
        await asyncio.sleep(0)


async def test_nodejs_spanner_790_a_newcomer_waits_for_what_is_in_flight() -> None:
    policy = AgentPolicy(min_idle=0, max_creating=200)
    limits = RequestLimits(concurrent_requests=800)
    async with house(policy=policy, pool={"limits": limits}, create_latency_s=1.0) as home:
        waiting = [asyncio.create_task(home.lease()) for _ in range(100)]
        await home.emu.wait_for(lambda: home.emu.in_flight("create") == 100)
        waiting[0].cancel()
        await outcome(waiting.pop(0))
        waiting.append(asyncio.create_task(home.lease()))  # there is one for it on the way
        leases = await asyncio.gather(*waiting)
        assert home.emu.requests("create") == 100
        for lease in leases:
            await lease.release()
