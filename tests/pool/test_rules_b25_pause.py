"""B25: pausing an agent, and resuming it, against every state of it.

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
    AgentPaused,
    AgentResumed,
)
from tests.pool.house import LEFT, another, distant_store, house, outcome
from tests.pool.ordered_house import (
    SOON_S,
    WARM,
    Where,
    alive,
    counts,
    everywhere,
    ordered,
    state_of,
)
from tests.stores.awaiting import AwaitingStore

pytestmark = pytest.mark.looptime


@everywhere
async def test_nothing_is_handed_out_while_paused(where: Where) -> None:
    async with ordered(where, policy=WARM) as (home, pool):
        await home.pool.ready(10)
        await pool.pause(home.agent)
        for conversation in (None, "a"):
            with pytest.raises(PoolPaused, match="orders is paused"):
                await home.lease(conversation=conversation)
        with pytest.raises(PoolPaused):
            await home.ask("a")
        assert (await counts(home)).of("idle") == 2
        await pool.resume(home.agent)
        await (await home.lease(timeout=0)).release()


@everywhere
async def test_waiters_get_pool_paused_at_once(where: Where) -> None:
    policy = AgentPolicy(min_idle=0, max_leased=1)
    async with ordered(where, policy=policy) as (home, pool):
        held = await home.lease(conversation="a")
        waiting = [
            asyncio.create_task(outcome(home.pool.acquire(home.agent, conversation=key)))
            for key in (None, "a", "b")
        ]
        await asyncio.sleep(1)
        await pool.pause(home.agent)
        await asyncio.sleep(0.1)
        assert all(task.done() for task in waiting)
        assert {type(task.result()) for task in waiting} == {PoolPaused}
        await held.blocking_continue("leases go on [[a]]")
        await held.release()
        assert (await counts(home)).of("parked") == 1
        assert (await counts(home)).waiting == 0
        await pool.resume(home.agent)
        assert (await home.ask("a")).context == "kept"


@everywhere
async def test_nothing_is_created_while_paused(where: Where) -> None:
    async with ordered(where, policy=WARM) as (home, pool):
        await home.pool.ready(10)
        lease = await home.lease()
        await home.emu.wait_for(lambda: home.emu.in_flight("create"))
        await pool.pause(home.agent)
        await asyncio.sleep(2)  # what was in flight lies ready
        assert (await counts(home)).of("idle") == 2
        created = home.emu.requests("create")
        await lease.release(discard=True)
        rids = [rid for rid in alive(home) if await state_of(home, rid) == "idle"]
        await pool.evict(rids[0])
        await asyncio.sleep(120)
        assert home.emu.requests("create") == created
        assert (await counts(home)).of("creating") == 0
        await pool.resume(home.agent)
        await asyncio.sleep(SOON_S)
        assert (await counts(home)).of("idle") == 2


@pytest.mark.parametrize("where", ["local", "awaited"])
async def test_a_creation_that_is_tried_again_is_not_sent_while_paused(where: Where) -> None:
    async with ordered(where) as (home, pool):
        home.emu.inject("create:*:503")
        waiting = asyncio.create_task(outcome(home.lease()))
        await home.emu.wait_for(lambda: home.emu.requests("create") >= 2)
        await pool.pause(home.agent)
        assert isinstance(await waiting, PoolPaused)
        sent = home.emu.requests("create")
        home.emu.clear_faults()
        await asyncio.sleep(120)
        assert home.emu.requests("create") <= sent + 1
        assert (await counts(home)).of("creating") == 0
        await pool.resume(home.agent)
        await (await home.lease()).release()


@everywhere
async def test_pausing_twice_and_resuming_what_is_not_paused_is_harmless(where: Where) -> None:
    async with ordered(where, policy=WARM) as (home, pool):
        await pool.resume(home.agent)
        await home.pool.ready(10)
        await asyncio.gather(pool.pause(home.agent), pool.pause(home.agent))
        await pool.pause(home.agent)
        with pytest.raises(PoolPaused):
            await home.lease()
        assert home.pool.stats(home.agent).paused == home.pool.stats().paused == 1
        await pool.resume(home.agent)
        await pool.resume(home.agent)
        await (await home.lease()).release()
        await asyncio.sleep(0)
        assert len(home.happened(AgentPaused)) == len(home.happened(AgentResumed)) == 1
        assert home.pool.stats().paused == 0


async def test_other_agents_notice_nothing_of_a_pause() -> None:
    async with house() as home:
        other = "ri.aip-agents..agent.00000000-0000-4000-8000-00000000000b"
        await home.pool.pause(home.agent)
        async with home.pool.acquire(other):
            pass
        await home.pool.pause(other)
        with pytest.raises(PoolPaused):
            await home.pool.acquire(other)


async def test_a_process_that_opens_later_sees_a_pause_and_makes_nothing() -> None:
    store = distant_store()
    async with house(pool={"store": store}, exact=False) as home:
        await home.pool.pause(home.agent)
        far = AwaitingStore(store._clock, shared=store)
        async with another(home, far, policy=WARM) as late:
            await asyncio.sleep(120)
            assert home.emu.requests("create") == 0
            with pytest.raises(PoolPaused):
                await late.acquire(home.agent)
            with pytest.raises(PoolPaused):
                await late.ready()
            assert late.stats().paused == 1
            await late.resume(home.agent)
            await late.ready(10)


async def test_a_resume_elsewhere_is_heard_of_by_who_keeps_the_agent_warm() -> None:
    async with ordered("there", policy=WARM) as (home, pool):
        await home.pool.ready(10)
        await home.pool.pause(home.agent)
        lease_of = home.pool.acquire(home.agent)
        assert isinstance(await outcome(lease_of), PoolPaused)
        await pool.resume(home.agent)
        await asyncio.sleep(SOON_S)
        leases = [await home.lease() for _ in range(2)]
        await pool.aclose()
        await asyncio.sleep(SOON_S)
        assert (await counts(home)).of("idle") == 2  # by the first process, alone again
        for lease in leases:
            await lease.release()


async def test_a_pause_while_somebody_waits_for_ready_is_told() -> None:
    async with house(policy=WARM, create_latency_s=5.0) as home:
        waiting = asyncio.create_task(outcome(home.pool.ready()))
        await asyncio.sleep(1)
        await home.pool.pause(home.agent)
        assert isinstance(await waiting, PoolPaused)
        await home.pool.resume(home.agent)
        await home.pool.ready(10)


async def test_a_conversation_cannot_be_forgotten_while_paused_and_can_afterwards() -> None:
    async with house(dirty=LEFT) as home:
        await home.ask("a")
        await home.pool.pause(home.agent)
        talk = home.pool.conversation(home.agent, "a")
        with pytest.raises(PoolPaused):
            await talk.forget()
        await home.pool.resume(home.agent)
        await talk.forget()
        assert (await home.ask("a")).context == "new"
