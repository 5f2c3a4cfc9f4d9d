"""B25: draining an agent, against every state of it.

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
    AgentDrained,
    SessionDeleted,
)
from tests.pool.house import LEFT, house, outcome
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
async def test_a_drain_retires_what_lies_ready_and_deletes_it(where: Where) -> None:
    async with ordered(where, policy=WARM) as (home, pool):
        await home.pool.ready(10)
        await pool.drain(home.agent)
        with pytest.raises(PoolPaused):
            await home.lease()
        await asyncio.sleep(SOON_S)
        found = await counts(home)
        assert found.of("idle", "ageing", "retiring", "creating") == 0, found
        assert not alive(home)
        if where != "there":
            assert reasons(home) == {"drained"}
            assert {event.reason for event in home.happened(SessionDeleted)} == {"drained"}
        assert len(home.happened(AgentDrained)) == 1
        await pool.resume(home.agent)
        await home.pool.ready(10)
        assert (await counts(home)).of("idle") == 2


@everywhere
async def test_leased_sessions_retire_as_their_leases_end_while_drained(where: Where) -> None:
    async with ordered(where, dirty=LEFT) as (home, pool):
        unused, used = await home.lease(), await home.lease()
        talking = await home.lease(conversation="a")
        await talking.blocking_continue("before [[a]]")
        await used.blocking_continue("said")
        parked = await home.ask("b")
        await pool.drain(home.agent)
        await used.blocking_continue("and said")
        for lease in (unused, used):
            await lease.release(unused=lease is unused)
        await talking.release()
        await asyncio.sleep(20)
        found = await counts(home)
        assert found.of("idle", "leased", "retiring", "quarantined") == 0, found
        assert found.of("parked") == 2  # what is a conversation's is left to its expiry
        await pool.resume(home.agent)
        assert (await home.ask("b")).session_rid == parked.session_rid
        assert (await home.ask("a")).context == "kept"


@everywhere
async def test_a_quarantined_session_retires_after_its_verdict_while_drained(where: Where) -> None:
    policy = AgentPolicy(min_idle=0, settle_s=10)
    async with ordered(where, policy=policy) as (home, pool):
        lease = await home.lease()
        rid = lease.rid
        await lease.release(unused=True)
        assert await state_of(home, rid) == "quarantined"
        talking = await home.lease(conversation="a")
        cut = asyncio.create_task(talking.blocking_continue("cut off [[a]]"))
        await home.emu.wait_for(lambda: home.emu.in_flight("exchange"))
        cut.cancel()
        await outcome(cut)
        await talking.release()
        assert (await counts(home)).of("quarantined") == 2
        await pool.drain(home.agent)
        await asyncio.sleep(30)
        assert await state_of(home, rid) is None
        assert not home.emu.is_alive(rid)
        assert (await counts(home)).of("parked") == 1


@everywhere
async def test_a_creation_in_flight_does_not_outlive_a_drain(where: Where) -> None:
    async with ordered(where, policy=WARM, create_latency_s=5.0) as (home, pool):
        await home.emu.wait_for(lambda: home.emu.in_flight("create"))
        await asyncio.sleep(1)
        await pool.drain(home.agent)
        await asyncio.sleep(3 * SOON_S)
        found = await counts(home)
        assert found.of("idle", "creating", "retiring") == 0, found
        assert not alive(home)


async def test_a_drain_goes_on_when_the_process_that_ordered_it_is_gone() -> None:
    async with ordered("there") as (home, pool):
        lease = await home.lease()
        await pool.drain(home.agent)
        await pool.aclose()
        await asyncio.sleep(20)
        await give_back(lease)
        await asyncio.sleep(60)
        found = await counts(home)
        assert found.of("idle", "leased", "retiring") == 0, found
        assert not alive(home)


async def test_a_pause_does_not_end_a_drain_and_a_drain_does_not_end_a_pause() -> None:
    async with house(policy=WARM) as home:
        await home.pool.ready(10)
        await home.pool.pause(home.agent)
        assert home.stats.idle == 2
        await home.pool.drain(home.agent)
        await home.pool.pause(home.agent)
        await home.pool.drain(home.agent)
        await asyncio.sleep(SOON_S)
        assert home.stats.idle == home.stats.creating == 0
        with pytest.raises(PoolPaused):
            await home.lease()
