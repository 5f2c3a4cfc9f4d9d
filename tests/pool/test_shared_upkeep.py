"""Upkeep that any process may do and none must: of whose agents, and when its process dies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from session_pool import Agent, AgentPolicy, SessionPool
from session_pool.events import TaskRestarted
from session_pool.model import Counts, PoolKey
from session_pool.space import Put
from tests.pool.house import COLD, OTHER_RID, House, distant_store, house, kill
from tests.stores.awaiting import AwaitingStore

pytestmark = pytest.mark.looptime


@asynccontextmanager
async def peer(
    home: House,
    store: AwaitingStore,
    *,
    policy: AgentPolicy = COLD,
    agents: dict[str, Agent] | None = None,
) -> AsyncIterator[SessionPool]:
    """Another process on the same store, with agents of its own; by RID alone unless listed."""
    pool = SessionPool(
        url=home.emu.url, token=home.emu.token, policy=policy, agents=agents, store=store
    )
    await pool.open()
    try:
        yield pool
    finally:
        await pool.aclose()


async def counts_of(store: AwaitingStore, home: House, rid: str) -> Counts:
    """How an agent stands in the store."""
    return (await store.read(key_of(home, rid)))[0]


def key_of(home: House, rid: str) -> PoolKey:
    return PoolKey(home.emu.host, "default", rid)


# ------------------------------------------------------------------------------ others' agents


async def test_what_is_due_of_an_agent_that_only_others_serve_is_looked_after() -> None:
    store = distant_store()
    theirs = AwaitingStore(store._clock, shared=store)
    async with house(pool={"store": store}, exact=False) as home:
        async with peer(home, theirs) as other:
            lease = await other.acquire(OTHER_RID)
            assert lease.rid
            await kill(other, theirs)  # nobody is left who knows that agent
        await asyncio.sleep(700)
        assert not home.happened(TaskRestarted)
        counts = await counts_of(store, home, OTHER_RID)
        assert counts.of("leased", "quarantined", "retiring") == 0
        assert counts.tally == {"created": 1, "retired": 1}


async def test_an_agent_that_only_others_serve_is_neither_trimmed_nor_filled() -> None:
    store = distant_store()
    theirs = AwaitingStore(store._clock, shared=store)
    policy = AgentPolicy(min_idle=4, max_idle=10, verify_after_s=50)
    async with house(policy=AgentPolicy(max_idle=2), pool={"store": store}) as home:
        async with peer(home, theirs, policy=policy, agents={"b": Agent(OTHER_RID)}) as other:
            await other.ready(10)
            await kill(other, theirs)
        for _ in range(10):
            await asyncio.sleep(30)
            assert (await counts_of(store, home, OTHER_RID)).of("idle") == 4
        assert (
            home.emu.requests("get") + home.emu.requests("list") > 0
        )  # they are verified all the same
        assert home.emu.requests("delete") == 0
        assert "b" not in home.stats.agents
        assert OTHER_RID not in home.stats.agents
        async with home.pool.acquire(OTHER_RID, timeout=0) as lease:  # now it is served here too
            lease.mark_unused()
        await asyncio.sleep(60)
        assert home.stats.agents[OTHER_RID].idle == 2


async def test_keys_of_another_stack_are_left_alone() -> None:
    store = distant_store()
    async with house(pool={"store": store}) as home:
        key = PoolKey("another.example.com", "default", home.emu.agent_rid)
        await store.put(Put(key, "x", "x", "chore", deadline_in_s=1.0))
        await asyncio.sleep(300)
        assert (await store.read(key))[0].of("chore") == 1
        assert not home.happened(TaskRestarted)


# ------------------------------------------------------------------------------ the warm target


async def test_the_warm_target_is_met_though_the_process_that_was_at_it_died() -> None:
    store = distant_store()
    theirs = AwaitingStore(store._clock, shared=store)
    policy = AgentPolicy(min_idle=2)
    async with house(
        policy=policy, pool={"store": store}, create_latency_s=5.0, lifetime_s=86_400.0
    ) as home:
        await home.pool.ready(30)
        agents = {home.agent: Agent(home.emu.agent_rid)}
        async with peer(home, theirs, policy=policy, agents=agents) as other:
            leases = [await other.acquire(home.agent) for _ in range(2)]
            assert all(lease.rid for lease in leases)
            await asyncio.sleep(2.0)  # its creations are under way
            await kill(other, theirs)
        await asyncio.sleep(120.0)
        await home.pool.ready(30)
        assert (await counts_of(store, home, home.emu.agent_rid)).of("idle", "ageing") == 2


# ------------------------------------------------------------------------------ left as it closes


async def test_what_a_closing_process_was_at_is_due_again_at_once_for_others() -> None:
    store = distant_store()
    theirs = AwaitingStore(store._clock, shared=store)
    theirs.durable = True  # what is left is not deleted as it closes
    async with house(pool={"store": store}) as home:
        async with peer(home, theirs, agents={home.agent: Agent(home.emu.agent_rid)}) as other:
            lease = await other.acquire(home.agent)
            assert lease.rid
            store.away = True  # so that it is the other that looks
            gate = home.emu.hold("get")
            await lease.release(unused=True)
            await asyncio.sleep(61.0)  # settle_s is over, and the look is under way
            assert home.emu.in_flight("get") == 1
            await other.aclose(0)
            store.away = False
        gate.open()
        home.pool.stats()
        await home.until(lambda: home.pool.stats().quarantined == 0, within_s=11.0)
        await asyncio.sleep(6.0)
