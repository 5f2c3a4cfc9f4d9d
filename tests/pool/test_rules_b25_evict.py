"""B25: taking one session out of use, against every state of it.

`where` is explained in `ordered_house`.
"""

from __future__ import annotations

import asyncio

import pytest

from session_pool import (
    AgentPolicy,
    ConfigError,
    LeaseLost,
)
from session_pool.events import (
    LeaseEnded,
)
from tests.pool.house import LEFT, house, outcome
from tests.pool.ordered_house import (
    SOON_S,
    WARM,
    Where,
    alive,
    counts,
    everywhere,
    ordered,
    reasons,
    state_of,
)

pytestmark = pytest.mark.looptime


@everywhere
async def test_an_idle_session_is_retired_at_once(where: Where) -> None:
    async with ordered(where, policy=WARM) as (home, pool):
        await home.pool.ready(10)
        rid = min(alive(home))
        await pool.evict(rid)
        assert await state_of(home, rid) in ("retiring", None)
        await asyncio.sleep(SOON_S)
        assert not home.emu.is_alive(rid)
        assert (await counts(home)).of("idle") == 2
        await outcome(pool.evict(rid))
        if where != "there":
            assert reasons(home) == {"evicted"}


@everywhere
async def test_a_leased_session_is_lost_and_goes_to_nobody(where: Where) -> None:
    async with ordered(where) as (home, pool):
        lease = await home.lease()
        await lease.blocking_continue("before")
        rid = lease.rid
        await pool.evict(rid)
        assert lease.lost.is_set() or where == "there"
        await home.until(lambda: lease.lost.is_set(), within_s=15)  # at its next renewal
        with pytest.raises(LeaseLost):
            await lease.blocking_continue("after")
        await lease.release()
        assert len(home.happened(LeaseEnded)) == 1
        assert await state_of(home, rid) == "quarantined"
        await pool.evict(rid)  # again, while it is there
        async with home.pool.acquire(home.agent) as other:
            assert other.rid != rid
        await asyncio.sleep(700)
        assert await state_of(home, rid) is None
        assert home.emu.is_alive(rid)  # a used session may be somebody's record


@everywhere
async def test_a_record_of_what_was_evicted_elsewhere_tells_the_holder(where: Where) -> None:
    async with ordered(where) as (home, pool):
        lease = await home.lease()
        await pool.evict(lease.rid)
        with pytest.raises(LeaseLost):
            await lease.blocking_continue("said to nobody")
        assert lease.lost.is_set()
        assert home.emu.requests("exchange") == 0
        await lease.release()


@everywhere
async def test_a_conversation_whose_leased_session_is_evicted_goes_on_in_a_new_one(
    where: Where,
) -> None:
    async with ordered(where, dirty=LEFT) as (home, pool):
        lease = await home.lease(conversation="a")
        await lease.blocking_continue("before [[a]]")
        old = lease.rid
        await pool.evict(old)
        await home.until(lease.lost.is_set, within_s=15)
        reply = await home.ask("a", timeout=700)
        assert reply.context == "lost"
        assert (reply.replaces, reply.generation) == (old, 2)
        again = await home.lease(conversation="a")
        assert again.replace_reason == "evicted"
        await again.release()
        await lease.release()


@everywhere
async def test_an_exchange_in_flight_is_seen_to_its_end_before_the_session_leaves(
    where: Where,
) -> None:
    async with ordered(where, exchange_latency_s=20.0, dirty=LEFT) as (home, pool):
        lease = await home.lease(conversation="a")
        talking = asyncio.create_task(lease.blocking_continue("long [[a]]"))
        await home.emu.wait_for(lambda: home.emu.in_flight("exchange"))
        await pool.evict(lease.rid)
        await asyncio.sleep(5)
        assert await state_of(home, lease.rid) == "quarantined"
        assert (await talking).text
        await asyncio.sleep(60)
        assert await state_of(home, lease.rid) in ("retiring", "gone")
        await lease.release()


@everywhere
async def test_a_parked_session_is_evicted_by_force_only(where: Where) -> None:
    async with ordered(where, dirty=LEFT) as (home, pool):
        old = (await home.ask("a")).session_rid
        with pytest.raises(ConfigError, match="force=True"):
            await pool.evict(old)
        assert (await home.ask("a")).session_rid == old
        await pool.evict(old, force=True)
        reply = await home.ask("a")
        assert (reply.context, reply.replaces) == ("lost", old)
        assert await state_of(home, old) is None  # its memory went on with the conversation
        again = await home.lease(conversation="a")
        assert again.replace_reason == "evicted"
        await again.release()


@everywhere
async def test_a_quarantined_session_leaves_after_its_verdict(where: Where) -> None:
    policy = AgentPolicy(min_idle=0, settle_s=10)
    async with ordered(where, policy=policy, dirty=LEFT) as (home, pool):
        lease = await home.lease()
        rid = lease.rid
        await lease.release(unused=True)
        await pool.evict(rid)
        assert await state_of(home, rid) == "quarantined"
        talking = await home.lease(conversation="a")
        cut = asyncio.create_task(talking.blocking_continue("cut off [[a]]"))
        await home.emu.wait_for(lambda: home.emu.in_flight("exchange"))
        cut.cancel()
        await outcome(cut)
        own = talking.rid
        await talking.release()
        with pytest.raises(ConfigError, match="force=True"):
            await pool.evict(own)
        await pool.evict(own, force=True)
        await asyncio.sleep(30)
        assert await state_of(home, rid) is None
        assert await state_of(home, own) in ("retiring", "gone")
        assert not home.emu.is_alive(rid)  # it was unused indeed
        assert (await home.ask("a")).replaces == own


@everywhere
async def test_a_session_that_nobody_knows_is_named(where: Where) -> None:
    async with ordered(where) as (_, pool):
        with pytest.raises(ConfigError, match=r"ri\.aip-agents\.\.session\.none"):
            await pool.evict("ri.aip-agents..session.none")


async def test_who_is_granted_a_session_that_is_evicted_meanwhile_takes_another() -> None:
    policy = AgentPolicy(min_idle=0, doubt_s=30)
    async with house(policy=policy, dirty=LEFT) as home:
        old = (await home.ask("a")).session_rid
        await asyncio.sleep(86400 - 20)  # less than doubt_s is left: a GET decides
        gate = home.emu.hold("get")
        waiting = asyncio.create_task(outcome(home.ask("a")))
        await home.emu.wait_for(lambda: home.emu.in_flight("get"))
        await home.pool.evict(old)
        gate.open()
        reply = await waiting
        assert not isinstance(reply, BaseException), reply
        assert (reply.context, reply.replaces) == ("lost", old)
