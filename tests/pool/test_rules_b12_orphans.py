"""B12: sessions whose creation's answer was lost are looked for, and taken or told of."""

from __future__ import annotations

import asyncio

import pytest

from session_pool import AgentPolicy
from session_pool.emulator import AgentSetup
from session_pool.events import (
    OrphanFound,
    SessionDeleted,
)
from tests.pool.house import distant_store, house, outcome
from tests.pool.lost import OURS, SEARCHED_S, adopted, made_elsewhere, now, outcomes

pytestmark = pytest.mark.looptime


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
