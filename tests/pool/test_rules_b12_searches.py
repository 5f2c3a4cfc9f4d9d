"""B12: several processes look for what was lost, and each session is taken once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from session_pool import Agent, AgentPolicy, Lease, SessionPool
from session_pool.model import Facts, Sought
from session_pool.orphans import Orphans
from session_pool.space import Done, Put
from tests.pool.house import COLD, House, conserve, distant_store, house, kill, outcome
from tests.pool.lost import OURS, SEARCHED_S, adopted, key_of, made_elsewhere, outcomes
from tests.stores.awaiting import AwaitingStore

pytestmark = pytest.mark.looptime


# ------------------------------------------------------------------------------ several processes


@asynccontextmanager
async def two(
    *, policy: AgentPolicy = COLD, **settings: object
) -> AsyncIterator[tuple[House, SessionPool, AwaitingStore]]:
    """Two processes that both may adopt, and the way to the store of the second."""
    store = distant_store()
    theirs = AwaitingStore(store._clock, shared=store)
    async with house(policy=policy, pool={"store": store, **OURS}, **settings) as home:  # type: ignore[arg-type]
        pool = SessionPool(
            url=home.emu.url,
            token=home.emu.token,
            policy=policy,
            agents={home.agent: Agent(home.emu.agent_rid)},
            store=theirs,
            sole_owner=True,
        )
        await pool.open()
        try:
            yield home, pool, theirs
        finally:
            await pool.aclose()
            home.pool.stats()
            await asyncio.sleep(6)  # until the first one knows what the second has done last


@pytest.mark.parametrize("killed_at_s", [0.5, 1.5])
async def test_b12_another_process_finds_what_a_killed_one_was_creating(killed_at_s: float) -> None:
    async with two(create_latency_s=1.0) as (home, other, theirs):
        waiting = asyncio.create_task(outcome(other.acquire(home.agent)))
        await asyncio.sleep(0.5)
        gate = home.emu.hold("create", stage="after")
        await asyncio.sleep(killed_at_s - 0.5)
        await kill(other, theirs)
        await waiting
        gate.open()
        assert (await theirs.inner.read(key_of(home)))[0].of("creating") == 1
        await home.until(lambda: home.pool.stats().unsettled == 1, within_s=40)
        # Somebody needs one by now, and nothing can be created.
        home.emu.inject("create:1:503:times=1000")
        lease = await home.lease(timeout=300)
        (rid,) = home.emu.sessions
        assert lease.rid == rid
        assert adopted(home) == [rid]
        await lease.release()
        await asyncio.sleep(SEARCHED_S)
        home.emu.clear_faults()
        stats = home.stats
        assert (stats.created, stats.adopted, stats.unsettled, stats.creating) == (0, 1, 0, 0)


async def test_b12_a_creation_of_another_process_is_not_taken_from_it() -> None:
    async with two(create_latency_s=1.0) as (home, other, _):
        home.emu.inject("create:1:lost_before")
        lost = asyncio.create_task(home.lease(timeout=2.0))
        await asyncio.sleep(1.0)
        lost.cancel()
        gate = home.emu.hold("create", stage="after")
        theirs_waits = asyncio.create_task(other_lease(other, home.agent))
        await asyncio.sleep(2.0)  # its session is made, its answer on the way for long
        assert home.stats.unsettled >= 1
        await asyncio.sleep(7.0)
        gate.open()
        rid = await theirs_waits
        await asyncio.sleep(SEARCHED_S)
        assert rid not in adopted(home)
        assert "deleted" not in outcomes(home)
        conserve(home.pool.stats())


async def other_lease(pool: SessionPool, agent: str) -> str:
    async with pool.acquire(agent, timeout=100) as lease:
        rid = lease.rid
        await lease.blocking_continue("mine")
        return rid


async def test_b12_a_creator_that_was_frozen_brings_its_session_once() -> None:
    async with two(create_latency_s=1.0) as (home, other, theirs):
        waiting = asyncio.create_task(outcome(other.acquire(home.agent, timeout=400)))
        await asyncio.sleep(0.5)
        theirs.hang()  # as SIGSTOP does: what it asks goes nowhere, and it hears nothing
        await home.until(lambda: home.pool.stats().unsettled == 1, within_s=60)
        (first,) = home.emu.sessions
        theirs.answer()
        await asyncio.sleep(SEARCHED_S)
        lease = await waiting
        assert isinstance(lease, Lease)
        await lease.release(unused=True)
        stats = home.stats
        assert (stats.unsettled, stats.creating) == (0, 0)
        assert stats.created + stats.adopted == len(home.emu.sessions)
        found = await theirs.find(key_of(home))
        rids = [entry.rid for entry in found if entry.rid]
        assert len(set(rids)) == len(rids)
        assert first in rids  # in quarantine, until it is sure that nobody used it


async def test_b12_each_of_two_searches_takes_what_the_other_does_not() -> None:
    async with two() as (home, other, _):
        home.emu.inject("create:1:lost_after:times=6", "create:7:503:times=1000")
        waiting = [
            asyncio.create_task(outcome(pool.acquire(home.agent, timeout=600)))
            for pool in (home.pool, other)
            for _ in range(3)
        ]
        leases = [lease for lease in await asyncio.gather(*waiting) if isinstance(lease, Lease)]
        assert sorted(lease.rid for lease in leases) == sorted(home.emu.sessions)
        counts, _ = await home.pool._works.store.read(key_of(home))
        assert counts.tally == {"adopted": 6}
        for lease in leases:
            await lease.release()
        await asyncio.sleep(SEARCHED_S)
        home.emu.clear_faults()
        assert home.emu.audit().sessions_deleted == 0


async def test_b12_two_searches_that_find_the_same_session_at_once_do_not_both_act() -> None:
    policy = AgentPolicy(min_idle=1)
    async with two(policy=policy, create_latency_s=1.0, exact=False) as (home, other, _):
        await home.pool.ready(60)
        key, store = key_of(home), home.pool._works.store
        lost, began = [], home.pool._works.clock()
        for name in ("one", "another"):
            put = Put(
                key, name, f"{name} op", "unsettled", facts=Facts(sought=Sought(until_s=60.0)),
                deadline_in_s=1000.0,
            )  # fmt: skip
            answer = await store.put(put)
            assert isinstance(answer, Done)
            assert answer.entry is not None
            lost.append(answer.entry)
        rid = await made_elsewhere(home)
        pools = (home.pool, other)
        desks = [pool._desk(home.emu.agent_rid) for pool in pools]
        desks[0].stranger = True  # so that one has a use for whatever it finds, and the other none
        ahead_s = lost[0].since - began
        searches = [
            Orphans(pool._works, sole_owner=True).search(desk, [entry], ahead_s)
            for pool, desk, entry in zip(pools, desks, lost, strict=True)
        ]
        await asyncio.gather(*searches)
        known = bool(await store.find(key, rid=rid))
        assert known <= home.emu.is_alive(rid), "adopted by one, and deleted by the other"
        desks[0].stranger = False
        for entry in await store.find(key, states=("unsettled",)):
            await store.put(Put(key, entry.id, f"{entry.id} end", None, version=entry.version))
