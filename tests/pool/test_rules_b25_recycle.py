"""B25: recycling what an agent has, against every state of it.

`where` is explained in `ordered_house`.
"""

from __future__ import annotations

import asyncio

import pytest

from session_pool import (
    AgentPolicy,
    PoolPaused,
)
from session_pool.events import (
    AgentRecycled,
)
from tests.pool.house import house
from tests.pool.ordered_house import (
    SOON_S,
    WARM,
    Where,
    alive,
    counts,
    everywhere,
    give_back,
    ordered,
    reasons,
    state_of,
)

pytestmark = pytest.mark.looptime


@everywhere
async def test_idle_sessions_are_replaced_at_a_recycle(where: Where) -> None:
    async with ordered(where, policy=WARM) as (home, pool):
        await home.pool.ready(10)
        old = alive(home)
        await pool.recycle(home.agent)
        taken = [await home.lease(), await home.lease(conversation="a")]
        assert not {lease.rid for lease in taken} & old
        for lease in taken:
            await lease.release()
        await asyncio.sleep(SOON_S)
        assert (await counts(home)).of("idle") == 2
        assert not alive(home) & old
        if where != "there":
            assert "recycled" in reasons(home)
        assert len(home.happened(AgentRecycled)) == 1
        taken = [await home.lease(timeout=0), await home.lease(timeout=0)]  # they lie ready
        assert not {lease.rid for lease in taken} & old
        for lease in taken:
            await lease.release()


@everywhere
async def test_a_session_leased_before_a_recycle_goes_to_nobody_else(where: Where) -> None:
    async with ordered(where) as (home, pool):
        lease = await home.lease()
        old = lease._entry.rid  # not read, as far as the lease knows
        await pool.recycle(home.agent)
        await give_back(lease)
        again = await home.lease(conversation="a")
        assert again.rid != old
        assert (again.generation, again.replaces, again.is_new) == (1, None, True)
        await again.release()
        await asyncio.sleep(SOON_S)
        assert not home.emu.is_alive(old)
        assert await state_of(home, old) is None


@everywhere
async def test_a_parked_conversation_keeps_its_session_over_a_recycle(where: Where) -> None:
    async with ordered(where) as (home, pool):
        first = await home.ask("a")
        untouched = await home.lease(conversation="b")
        b = untouched.rid
        await untouched.release()
        held = await home.lease(conversation="c")
        await pool.recycle(home.agent)
        c = held.rid
        await held.release()
        reply = await home.ask("a")
        assert (reply.session_rid, reply.context) == (first.session_rid, "kept")
        for key, rid in (("b", b), ("c", c)):
            lease = await home.lease(conversation=key)
            assert lease.rid == rid
            await lease.release()


@everywhere
async def test_a_creation_in_flight_at_a_recycle_is_old(where: Where) -> None:
    async with ordered(where) as (home, pool):
        waiting = asyncio.create_task(home.pool.acquire(home.agent).__aenter__())
        await home.emu.wait_for(lambda: home.emu.in_flight("create"))
        await pool.recycle(home.agent)
        lease = await waiting
        first, second = home.emu.sessions
        assert lease.rid == second
        await lease.release()
        await asyncio.sleep(SOON_S)
        assert not home.emu.is_alive(first)


@everywhere
async def test_a_waiter_keeps_its_place_when_what_it_gets_was_recycled(where: Where) -> None:
    policy = AgentPolicy(min_idle=0, max_leased=1)
    async with ordered(where, policy=policy) as (home, pool):
        held, order = await home.lease(), []

        async def wait(name: str) -> None:
            async with home.pool.acquire(home.agent):
                order.append(name)

        waiting = []
        for name in ("first", "second"):
            waiting.append(asyncio.create_task(wait(name)))
            await asyncio.sleep(0.1)
        await pool.recycle(home.agent)
        await give_back(held)
        await asyncio.gather(*waiting)
        assert order == ["first", "second"]


@everywhere
async def test_recycling_again_and_again(where: Where) -> None:
    async with ordered(where, policy=WARM) as (home, pool):
        seen: set[str] = set()
        for _ in range(3):
            await home.pool.ready(10)
            await asyncio.sleep(SOON_S)
            async with home.pool.acquire(home.agent) as lease:
                assert lease.rid not in seen
            seen |= alive(home)
            await asyncio.gather(pool.recycle(home.agent), pool.recycle(home.agent))
        await asyncio.sleep(2 * SOON_S)
        assert not {rid for rid in alive(home) & seen if await state_of(home, rid) == "idle"}


async def test_a_recycle_by_one_who_slept_through_another_concerns_all_made_before_it() -> None:
    async with ordered("there", policy=WARM) as (home, pool):
        await home.pool.ready(10)
        await home.pool.recycle(home.agent)
        await asyncio.sleep(SOON_S)
        made_since = alive(home)
        await pool.recycle(home.agent)  # by one that has not heard of the first one
        async with home.pool.acquire(home.agent) as lease:
            assert lease.rid not in made_since


@pytest.mark.parametrize("where", ["local", "awaited"])
async def test_for_stateless_work_too(where: Where) -> None:
    policy = AgentPolicy(min_idle=0, reuse="anyone")
    async with ordered(where, policy=policy) as (home, pool):
        lease = await home.lease()
        old = lease._entry.rid
        await pool.recycle(home.agent)
        await lease.release()
        async with home.pool.acquire(home.agent) as lease:
            assert lease.rid != old


async def test_recycling_while_paused_leaves_it_paused() -> None:
    async with house(policy=WARM) as home:
        await home.pool.ready(10)
        old = alive(home)
        await home.pool.pause(home.agent)
        await home.pool.recycle(home.agent)
        with pytest.raises(PoolPaused):
            await home.lease()
        await asyncio.sleep(SOON_S)
        assert home.stats.idle == 0
        await home.pool.resume(home.agent)
        await home.pool.ready(10)
        assert not alive(home) & old
