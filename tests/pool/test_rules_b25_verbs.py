"""B25: what an operator orders of an agent or a session, against every state of it.

`where` says who gives the order: the one process that there is, on a store of its own or on one
that is awaited, or another process, which knows nothing of what the first one does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final, Literal

import pytest

from session_pool import (
    AcquireTimeout,
    AgentPolicy,
    AgentUnavailable,
    ConfigError,
    Lease,
    LeaseLost,
    PoolClosed,
    PoolPaused,
    SessionPool,
    StoreUnavailable,
)
from session_pool.emulator import Emulator
from session_pool.events import (
    AgentDrained,
    AgentPaused,
    AgentRecycled,
    AgentResumed,
    LeaseEnded,
    SessionDeleted,
    SessionRetired,
)
from session_pool.model import Counts, State
from tests.pool.house import COLD, LEFT, House, another, conserve, distant_store, house, outcome
from tests.stores.awaiting import AwaitingStore

pytestmark = pytest.mark.looptime

Where = Literal["local", "awaited", "there"]
WHERE: Final[tuple[Where, ...]] = ("local", "awaited", "there")

everywhere = pytest.mark.parametrize("where", WHERE)
WARM: Final = AgentPolicy(min_idle=2)
SOON_S: Final = 6.0
"""By then a lost bell, the first look for what was recalled, and a creation are over."""


@asynccontextmanager
async def ordered(
    where: Where, *, policy: AgentPolicy = COLD, **more: Any
) -> AsyncIterator[tuple[House, SessionPool]]:
    """A house, and the pool in which orders are given."""
    if where == "local":
        async with house(policy=policy, **more) as home:
            yield home, home.pool
        return
    store = distant_store()
    async with house(policy=policy, pool={"store": store}, exact=False, **more) as home:
        if where == "awaited":
            yield home, home.pool
        else:
            far = AwaitingStore(store._clock, shared=store)
            async with another(home, far, policy=policy) as pool:
                yield home, pool
            conserve(pool.stats())
        home.pool.stats()
        await asyncio.sleep(SOON_S)  # the first process reads how things stand by now


async def counts(home: House) -> Counts:
    """How the agent stands, as the store says; the account balances."""
    desk = home.pool._desks.of(home.agent)
    found, _ = await home.pool._works.store.read(desk.key)
    there = found.of("idle", "ageing", "leased", "parked", "quarantined", "retiring")
    made = found.tally.get("created", 0) + found.tally.get("adopted", 0)
    assert made == there + found.tally.get("retired", 0), found
    return found


async def state_of(home: House, rid: str) -> State | None:
    """The state of a session, as the store says; None if there is none of it."""
    desk = home.pool._desks.of(home.agent)
    found = await home.pool._works.store.find(desk.key, rid=rid)
    return found[0].state if found else None


def alive(home: House) -> set[str]:
    """The sessions that are there at the remote."""
    return {rid for rid in home.emu.sessions if home.emu.is_alive(rid)}


def reasons(home: House) -> set[str]:
    """Why sessions were retired, as the first process told."""
    return {event.reason for event in home.happened(SessionRetired)}


async def give_back(lease: Lease) -> None:
    """Give a session back that nobody did anything with."""
    lease.mark_unused()
    await lease.release()


# ------------------------------------------------------------------------------ pause and resume


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


# ------------------------------------------------------------------------------ drain


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


# ------------------------------------------------------------------------------ recycle


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


# ------------------------------------------------------------------------------ evict


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


# ------------------------------------------------------------------------------ warm


@everywhere
async def test_warm_makes_as_many_once(where: Where) -> None:
    async with ordered(where) as (home, pool):
        await pool.warm(home.agent, 5)
        assert (await counts(home)).of("idle") == 5
        created = home.emu.requests("create")
        assert created == 5
        await pool.warm(home.agent, 3)
        leases = [await home.lease() for _ in range(5)]
        for lease in leases:
            await lease.release()
        await asyncio.sleep(60)
        assert home.emu.requests("create") == created  # not a standing target
        await pool.warm(home.agent, 0)


@everywhere
async def test_warm_of_several_at_once_makes_the_most_of_them(where: Where) -> None:
    async with ordered(where) as (home, pool):
        await asyncio.gather(*(pool.warm(home.agent, n) for n in (1, 4, 2)))
        assert home.emu.requests("create") == 4


async def test_creations_by_other_processes_count() -> None:
    async with ordered("there") as (home, pool):
        await asyncio.gather(pool.warm(home.agent, 3), home.pool.warm(home.agent, 3))
        assert home.emu.requests("create") == 3
        assert (await counts(home)).of("idle") == 3


@everywhere
async def test_warm_serves_who_waits_as_well(where: Where) -> None:
    async with ordered(where) as (home, pool):

        async def hold() -> Lease:
            return await home.lease()

        holders = [asyncio.create_task(hold()) for _ in range(3)]
        await pool.warm(home.agent, 2)
        assert (await counts(home)).of("idle") >= 2
        for task in holders:
            await (await task).release()


async def test_warm_says_what_cannot_be_meant() -> None:
    async with house(policy=AgentPolicy(min_idle=0, max_idle=3)) as home:
        for n in (4, -1, 1.5, "2", True):
            with pytest.raises(ConfigError, match=r"^n\b"):
                await home.pool.warm(home.agent, n)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="max_idle"):
            await home.pool.warm(home.agent, 4)
        assert home.emu.requests("create") == 0


async def test_warm_of_what_is_paused_is_refused_also_while_it_waits() -> None:
    async with house(create_latency_s=5.0) as home:
        waiting = asyncio.create_task(outcome(home.pool.warm(home.agent, 2)))
        await asyncio.sleep(1)
        await home.pool.pause(home.agent)
        assert isinstance(await waiting, PoolPaused)
        with pytest.raises(PoolPaused):
            await home.pool.warm(home.agent, 1)


async def test_warm_raises_what_ready_raises() -> None:
    async with house() as home:
        home.emu.inject("create:*:503")
        with pytest.raises(AcquireTimeout) as caught:
            await home.pool.warm(home.agent, 1, timeout=20)
        assert caught.value.phase == "creation"
        assert caught.value.__cause__ is not None
        home.emu.clear_faults()
        home.emu.deny("create")
        with pytest.raises(AgentUnavailable):
            await home.pool.warm(home.agent, 1)


@everywhere
@pytest.mark.parametrize("timeout_s", [0.0, 2.0])
async def test_warm_that_runs_out_of_time_does_not_blame_the_store(
    where: Where, timeout_s: float
) -> None:
    async with ordered(where, create_latency_s=5.0) as (home, pool):
        with pytest.raises(AcquireTimeout) as caught:
            await pool.warm(home.agent, 1, timeout=timeout_s)
        assert caught.value.waited_s == pytest.approx(timeout_s, abs=0.1)
        await pool.warm(home.agent, 1)
        await pool.warm(home.agent, 1, timeout=0)
        assert home.emu.requests("create") == 1


# ------------------------------------------------------------------------------ all of them

Verb = Callable[[SessionPool, str], Coroutine[Any, Any, None]]
VERBS: Final[dict[str, Verb]] = {
    "pause": lambda pool, agent: pool.pause(agent),
    "resume": lambda pool, agent: pool.resume(agent),
    "drain": lambda pool, agent: pool.drain(agent),
    "recycle": lambda pool, agent: pool.recycle(agent),
    "warm": lambda pool, agent: pool.warm(agent, 1),
}
each = pytest.mark.parametrize("verb", VERBS)


@each
async def test_an_agent_that_nobody_knows_is_refused(verb: str) -> None:
    async with house() as home:
        with pytest.raises(ConfigError, match="neither a listed name"):
            await VERBS[verb](home.pool, "nobody")


@pytest.mark.parametrize("verb", [*VERBS, "evict"])
async def test_before_it_is_open_after_it_is_closed_and_in_another_loop(verb: str) -> None:
    async with Emulator() as emu:
        pool = SessionPool(url=emu.url, token=emu.token, policy=COLD)

        async def order() -> None:
            if verb == "evict":
                await pool.evict("ri.aip-agents..session.1")
            else:
                await VERBS[verb](pool, emu.agent_rid)

        def elsewhere() -> None:
            with pytest.raises(PoolClosed, match="another event loop"):
                asyncio.run(order())

        with pytest.raises(PoolClosed):
            await order()
        async with pool:
            await asyncio.get_running_loop().run_in_executor(None, elsewhere)
        with pytest.raises(PoolClosed):
            await order()


@pytest.mark.parametrize("verb", [*VERBS, "evict"])
async def test_a_store_that_is_away_bounds_each(verb: str) -> None:
    store = distant_store()
    policy = AgentPolicy(min_idle=0, acquire_timeout_s=20)
    async with house(policy=policy, pool={"store": store}, exact=False) as home:
        await home.pool.warm(home.agent, 1)
        rid = min(alive(home))
        store.away = True
        began = asyncio.get_running_loop().time()
        pool, agent = home.pool, home.agent
        match verb:
            case "evict":
                order = pool.evict(rid)
            case "warm":
                order = pool.warm(agent, 2, timeout=20)
            case _:
                order = VERBS[verb](pool, agent)
        with pytest.raises(StoreUnavailable):
            await order
        assert asyncio.get_running_loop().time() - began <= 21
        store.away = False
        await asyncio.sleep(5)
        if verb == "evict":
            await outcome(home.pool.evict(rid))
        else:
            await VERBS[verb](home.pool, home.agent)
        await home.pool.resume(home.agent)
        await (await home.lease()).release()


async def test_ready_ends_when_the_pool_closes() -> None:
    async with house(policy=WARM, create_latency_s=5.0) as home:
        waiting = asyncio.create_task(outcome(home.pool.ready()))
        warming = asyncio.create_task(outcome(home.pool.warm(home.agent, 3)))
        await asyncio.sleep(1)
        await home.pool.aclose()
        assert isinstance(await waiting, PoolClosed)
        assert isinstance(await warming, PoolClosed)


async def test_two_may_wait_until_it_is_ready() -> None:
    async with house(policy=WARM) as home:
        await asyncio.gather(home.pool.ready(10), home.pool.ready(10))
        assert home.stats.idle == 2
