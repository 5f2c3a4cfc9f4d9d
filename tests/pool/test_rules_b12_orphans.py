"""B12: sessions whose creation's answer was lost are looked for, and taken or told of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from session_pool import Agent, AgentPolicy, Lease, SessionPool
from session_pool.emulator import AgentSetup
from session_pool.events import (
    CreationSettled,
    OrphanAdopted,
    OrphanFound,
    SessionDeleted,
)
from session_pool.model import Facts, PoolKey, Sought
from session_pool.orphans import Orphans
from session_pool.space import Done, Put
from tests.pool.house import COLD, House, conserve, distant_store, house, kill, outcome
from tests.stores.awaiting import AwaitingStore

pytestmark = pytest.mark.looptime

OURS = {"sole_owner": True}
SEARCHED_S = 200.0
"""By then what was lost has been looked for to the end."""


def now() -> float:
    return asyncio.get_running_loop().time()


async def made_elsewhere(home: House, version: str | None = None) -> str:
    """A session that somebody else made, with the same credentials."""
    api = home.pool._works.api
    seen = await api.create_session(home.emu.agent_rid, agent_version=version, timeout_s=10)
    return seen.session.rid


def key_of(home: House) -> PoolKey:
    return PoolKey(home.emu.host, "default", home.emu.agent_rid)


def outcomes(home: House) -> list[str]:
    return [event.outcome for event in home.happened(CreationSettled)]


def adopted(home: House) -> list[str]:
    return [event.session_rid for event in home.happened(OrphanAdopted)]


# ------------------------------------------------------------------------------ what becomes of it


async def test_b12_a_lost_session_that_somebody_waits_for_is_adopted() -> None:
    faults = ["create:1:lost_after", "create:2:503:times=1000"]
    async with house(faults=faults, pool=OURS) as home:
        lease = await home.lease(timeout=300)
        assert now() < 60
        (rid,) = home.emu.sessions
        assert lease.rid == rid
        await lease.blocking_continue("hello")
        assert adopted(home) == [rid]
        await lease.release()
        stats = home.stats
        assert (stats.created, stats.adopted, stats.unsettled) == (0, 1, 0)
        assert outcomes(home) == ["adopted"]
        home.emu.clear_faults()


async def test_b12_a_lost_session_that_the_target_lacks_is_adopted() -> None:
    faults = ["create:1:lost_after", "create:2:503:times=1000"]
    async with house(policy=AgentPolicy(min_idle=1), faults=faults, pool=OURS) as home:
        await home.pool.ready(60)
        assert (home.stats.idle, home.stats.adopted) == (1, 1)
        home.emu.clear_faults()
        await asyncio.sleep(SEARCHED_S)
        assert home.stats.unsettled == 0


async def test_b12_a_lost_session_that_nobody_wants_is_deleted() -> None:
    async with house(faults=["create:1:lost_after"], pool=OURS) as home:
        await (await home.lease(timeout=60)).release()
        lost = next(iter(home.emu.sessions))
        await asyncio.sleep(SEARCHED_S)
        assert not home.emu.is_alive(lost)
        reasons = {it.session_rid: it.reason for it in home.happened(SessionDeleted)}
        assert reasons[lost] == "orphan"
        assert outcomes(home) == ["deleted"]
        assert (home.stats.unsettled, home.stats.adopted) == (0, 0)


async def test_b12_without_sole_owner_it_is_only_reported() -> None:
    async with house(faults=["create:1:lost_after"]) as home:
        await (await home.lease(timeout=60)).release()
        lost = next(iter(home.emu.sessions))
        await asyncio.sleep(SEARCHED_S)
        assert [event.session_rid for event in home.happened(OrphanFound)] == [lost]
        assert outcomes(home) == ["reported"]
        assert home.emu.is_alive(lost)
        assert home.emu.requests("delete") == 0
        assert home.stats.unsettled == 0


async def test_b12_what_never_came_to_be_is_settled() -> None:
    async with house(faults=["create:1:lost_before"], pool=OURS) as home:
        await (await home.lease(timeout=60)).release()
        assert home.stats.unsettled == 1
        await asyncio.sleep(SEARCHED_S)
        assert outcomes(home) == ["nothing found"]
        assert home.stats.unsettled == 0
        assert home.emu.requests("list") == 2  # early, and once it can come no more


async def test_b12_a_fresh_session_may_have_messages() -> None:
    async with house(faults=["create:1:lost_after"], pool=OURS, fresh_message_count=1) as home:
        await (await home.lease(timeout=60)).release()
        await asyncio.sleep(SEARCHED_S)
        assert outcomes(home) == ["deleted"]


async def test_b12_it_is_found_though_the_remote_was_slow_to_make_it() -> None:
    async with house(pool=OURS, create_latency_s=90.0) as home:
        assert isinstance(await outcome(home.lease(timeout=5)), TimeoutError)
        await asyncio.sleep(90 + SEARCHED_S)
        assert outcomes(home) == ["deleted"]


async def test_b12_where_nothing_may_be_deleted_it_is_reported() -> None:
    policy = AgentPolicy(min_idle=0, delete_retired="none")
    async with house(policy=policy, faults=["create:1:lost_after"], pool=OURS) as home:
        await (await home.lease(timeout=60)).release()
        await asyncio.sleep(SEARCHED_S)
        assert outcomes(home) == ["reported"]
        assert len(home.happened(OrphanFound)) == 1


async def test_b12_a_search_that_fails_is_made_again() -> None:
    async with house(faults=["create:1:lost_after", "list:1:500:times=3"], pool=OURS) as home:
        await (await home.lease(timeout=60)).release()
        await asyncio.sleep(60 * 4 + SEARCHED_S)
        assert outcomes(home) == ["deleted"]
        assert home.emu.requests("list") == 4


async def test_b12_without_permission_to_list_it_stays_lost() -> None:
    async with house(faults=["create:1:lost_after"], pool=OURS) as home:
        await (await home.lease(timeout=60)).release()
        home.emu.deny("list")
        await asyncio.sleep(SEARCHED_S)
        assert outcomes(home) == ["cannot be looked for"]
        home.pool._works.bus.publish(OrphanFound(session_rid="the one"))  # for the house's account


async def test_b12_the_account_survives_a_store_that_blinks_in_the_search() -> None:
    store = distant_store()
    faults = ["create:1:lost_after", "create:2:503:times=1000"]
    async with house(faults=faults, pool={"store": store, **OURS}) as home:
        waiting = asyncio.create_task(home.lease(timeout=600))
        await asyncio.sleep(30)
        for when in ("before", "after"):
            store.fail("find", when)
            store.fail("put", when)
        lease = await waiting
        await lease.release(unused=True)
        await asyncio.sleep(SEARCHED_S)
        home.emu.clear_faults()
        assert home.stats.adopted == 1
        assert len(home.emu.sessions) == 1


# ------------------------------------------------------------------------------ nothing else


async def test_b12_the_same_credentials_serve_another_pool() -> None:
    async with house(faults=["create:2:lost_after"], exact=False) as home:
        before = await made_elsewhere(home)
        await asyncio.sleep(100)
        await (await home.lease(timeout=60)).release()
        lost = list(home.emu.sessions)[1]
        await asyncio.sleep(300)
        after = await made_elsewhere(home)
        await asyncio.sleep(SEARCHED_S)
        assert [event.session_rid for event in home.happened(OrphanFound)] == [lost]
        assert home.emu.is_alive(before)
        assert home.emu.is_alive(after)
        assert home.emu.requests("delete") == 0


async def test_b12_at_most_as_many_as_are_unsettled() -> None:
    async with house(faults=["create:1:lost_after"], pool=OURS, exact=False) as home:
        waiting = asyncio.create_task(home.lease(timeout=60))
        await asyncio.sleep(1)
        more = [await made_elsewhere(home) for _ in range(3)]  # as like it as can be
        await (await waiting).release()
        await asyncio.sleep(SEARCHED_S)
        assert home.emu.audit().sessions_deleted == 1
        assert sum(home.emu.is_alive(rid) for rid in more) >= 2
        assert outcomes(home) == ["deleted"]


async def test_b12_two_unsettled_and_one_candidate() -> None:
    faults = ["create:1:lost_before", "create:2:lost_after", "create:3:503:times=1000"]
    async with house(faults=faults, pool=OURS) as home:
        leases = [asyncio.create_task(home.lease(timeout=600)) for _ in range(2)]
        await asyncio.sleep(5)
        assert home.stats.unsettled == 2
        await asyncio.sleep(SEARCHED_S)
        assert sorted(outcomes(home)) == ["adopted", "nothing found"]
        assert (home.stats.adopted, home.stats.leased, home.stats.unsettled) == (1, 1, 0)
        home.emu.clear_faults()
        for lease in leases:
            await (await lease).release()


async def test_b12_a_candidate_of_another_version() -> None:
    emulated = {"ri.aip-agents..agent.732cd5b4-7ca7-4219-aabb-6e976faf63b1": AgentSetup()}
    async with house(
        faults=["create:1:lost_before"], pool=OURS, emulated=emulated, exact=False
    ) as home:
        newest = home.emu.publish(home.emu.agent_rid)
        waiting = asyncio.create_task(home.lease(timeout=60, agent_version=newest))
        await asyncio.sleep(0.5)
        other = await made_elsewhere(home, "1.0")
        assert newest != "1.0"
        await (await waiting).release()
        await asyncio.sleep(SEARCHED_S)
        assert home.emu.is_alive(other)
        assert outcomes(home) == ["nothing found"]
        # Nor is what has an older version than the latest published, where that was asked for.
        await (await home.lease()).release()
        home.emu.inject("create:1:lost_before")
        waiting = asyncio.create_task(home.lease(timeout=60))
        await asyncio.sleep(0.5)
        older = await made_elsewhere(home, "1.0")
        await (await waiting).release()
        await asyncio.sleep(SEARCHED_S)
        assert home.emu.is_alive(older)
        assert outcomes(home) == ["nothing found"] * 2


async def test_b12_a_used_candidate_is_nobodys_orphan() -> None:
    async with house(faults=["create:1:lost_after"], pool=OURS, exact=False) as home:
        await (await home.lease(timeout=60)).release()
        used = next(iter(home.emu.sessions))
        home.emu.exchange_elsewhere(used, "hello")
        await asyncio.sleep(SEARCHED_S)
        assert home.emu.is_alive(used)
        assert outcomes(home) == ["nothing found"]


async def test_b12_what_this_pool_handed_out_and_let_go_is_no_orphan() -> None:
    async with house(faults=["create:1:lost_before"], pool=OURS) as home:
        lease = await home.lease(timeout=60)
        rid = lease.rid  # whoever read it may go on to use it
        await lease.release()
        await asyncio.sleep(SEARCHED_S)
        assert home.emu.is_alive(rid)
        assert outcomes(home) == ["nothing found"]
        await asyncio.sleep(600)
        (desk,) = home.pool._desks.all()
        assert await home.pool._works.store.find(desk.key) == []  # its RID is kept no longer


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
