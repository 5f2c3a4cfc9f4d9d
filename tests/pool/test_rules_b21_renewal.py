"""B1, B21: leases on a shared store are renewed, end in time, and tell their holders."""

from __future__ import annotations

import asyncio
import gc
import logging
import warnings

import pytest

from session_pool import Agent, AgentPolicy, LeaseLost, RequestLimits
from session_pool.emulator import AgentSetup
from session_pool.events import LeaseDropped, LeaseEnded
from session_pool.keeper import CLAIM_S
from session_pool.lapse import MARGIN
from session_pool.model import FOREVER
from session_pool.renewer import Renewer
from session_pool.rules import change
from tests.pool.house import (
    COLD,
    LEFT,
    OTHER_RID,
    LocalClock,
    another,
    distant_store,
    house,
    outcome,
    spin,
)
from tests.stores.awaiting import AwaitingStore, When

pytestmark = pytest.mark.looptime

TTL_S = 30.0


def now() -> float:
    return asyncio.get_running_loop().time()


# ------------------------------------------------------------------------------ renewed


async def test_all_leases_of_a_process_are_renewed_in_one_batch_at_a_third() -> None:
    store = distant_store()
    async with house(pool={"store": store}) as home:
        leases = [await home.lease() for _ in range(5)]
        await asyncio.sleep(300)
        assert not any(lease.lost.is_set() for lease in leases)
        assert 29 <= store.calls["renew"] <= 31
        for lease in leases:
            await lease.release()
        assert home.stats.retired + home.stats.retiring == 5
        assert home.stats.quarantined == 0


async def test_each_length_of_lease_has_its_own_batch() -> None:
    store = distant_store()
    agents = {
        "orders": Agent("ri.aip-agents..agent.00000000-0000-4000-8000-00000000000a"),
        "slow": Agent(OTHER_RID, AgentPolicy(min_idle=0, lease_ttl_s=300)),
    }
    async with house(pool={"store": store}, agents=agents, emulated=_emulated(agents)) as home:
        quick = [await home.lease() for _ in range(2)]
        slow = [await home.pool.acquire("slow") for _ in range(2)]
        await asyncio.sleep(299)
        assert 29 + 2 <= store.calls["renew"] <= 31 + 3
        for lease in (*quick, *slow):
            assert not lease.lost.is_set()
            await lease.release()


async def test_nothing_wakes_up_while_nothing_is_held() -> None:
    store = distant_store()
    async with house(pool={"store": store}) as home:
        lease = await home.lease()
        await asyncio.sleep(15)
        await lease.release()
        await asyncio.sleep(TTL_S)
        renewed = store.calls["renew"]
        renewer = home.pool._works.renewal
        assert isinstance(renewer, Renewer)
        assert renewer._wakes_at == FOREVER
        await asyncio.sleep(3600)
        assert store.calls["renew"] == renewed == 1
        async with home.pool.acquire(home.agent) as again:  # and it wakes up in time
            await asyncio.sleep(3 * TTL_S)
            assert not again.lost.is_set()


async def test_a_hit_and_its_release_cost_one_round_trip_each() -> None:
    store = distant_store()
    policy = AgentPolicy(min_idle=1, reuse="anyone", verify_after_s=100_000)
    async with house(policy=policy, pool={"store": store}) as home:
        await home.pool.ready(10)
        lease = await home.lease()
        await asyncio.sleep(5)  # another is made meanwhile, so that one is left to be taken
        await lease.release()
        before = store.calls.copy()
        for _ in range(50):
            async with home.pool.acquire(home.agent):
                pass
        assert store.calls - before == {"take": 50, "put": 50}


@pytest.mark.parametrize("when", ["before", "after"])
async def test_redisson_5698_a_renewal_that_is_missed_is_made_up_for(when: When) -> None:
    store = distant_store()
    async with house(pool={"store": store}) as home:
        lease = await home.lease()
        store.fail("renew", when, times=8)
        await asyncio.sleep(10 * TTL_S)
        assert store.mishaps_left == 0
        await lease.blocking_continue("still mine")
        assert not home.happened(LeaseEnded)
        await lease.release()


async def test_redisson_5698_there_are_never_two_holders() -> None:
    """The holder knows that it has lost the session before anybody else can have it."""
    store = distant_store()
    policy = AgentPolicy(min_idle=0, max_leased=1, exchange_timeout_s=60.0)
    async with house(policy=policy, pool={"store": store}, dirty=LEFT, exact=False) as home:
        lease = await home.lease(conversation="a")
        store.away = True  # for this process only
        async with another(home, AwaitingStore(LocalClock(), shared=store), policy=policy) as pool:
            taking = asyncio.create_task(
                pool._acquiring.of_conversation(pool._desk(home.agent), "a", 300)
            )
            while not taking.done():
                assert lease.lost.is_set() or lease.ends >= now()
                await asyncio.sleep(0.1)
            assert lease.lost.is_set()
            theirs = await taking
            assert theirs.rid == lease.rid
            assert theirs.fence > lease.fence
            store.away = False
            await lease.release()  # google/adk-python#4751: what comes late changes nothing
            await asyncio.sleep(60)
            assert not theirs.lost.is_set()
            await theirs.blocking_continue("mine [[a]]")
            await theirs.release()
        await home.until(lambda: home.pool.stats().leased == 0)


# ------------------------------------------------------------------------------ lost


@pytest.mark.parametrize("latency_s", [0.0, 0.5])
async def test_a_holder_has_stopped_before_the_lease_can_lapse(
    latency_s: float, caplog: pytest.LogCaptureFixture
) -> None:
    store = distant_store()
    async with house(pool={"store": store}) as home:
        store.latency_s = latency_s
        lease = await home.lease()
        (entry,) = await store.inner.find(home.pool._desks.of(home.agent).key)
        store.away = True
        with caplog.at_level(logging.WARNING, "session_pool"):
            async with asyncio.timeout(60):
                await lease.lost.wait()
        assert now() <= entry.lapses - MARGIN * TTL_S + 1e-6
        assert [it for it in caplog.records if "LeaseEnded" in it.message]
        with pytest.raises(LeaseLost):
            await lease.blocking_continue("no")
        assert home.emu.requests("exchange") == 0
        store.away, store.latency_s = False, 0.0
        await home.until(lambda: home.happened(LeaseEnded))
        await home.until(lambda: home.pool.stats().quarantined == 1)


async def test_a_process_frozen_past_its_lease_refuses_before_it_sends() -> None:
    clock = LocalClock()
    store = AwaitingStore(clock)
    async with house(pool={"store": store}, dirty=LEFT) as home:
        home.pool._works.clock = clock
        lease = await home.lease(conversation="a")
        await lease.blocking_continue("before [[a]]")
        exchanges = home.emu.requests("exchange")
        clock.ahead_s += 100.0  # SIGSTOP, and SIGCONT: no timer of this process ran meanwhile
        with pytest.raises(LeaseLost):
            await lease.blocking_continue("after [[a]]")
        stream = lease.streaming_continue("after [[a]]")
        with pytest.raises(LeaseLost):
            await anext(stream)
        for use in (lease.touch, lease.renew, lease.start_over):
            with pytest.raises(LeaseLost):
                await use()
        assert lease.lost.is_set()
        assert home.emu.requests("exchange") == exchanges


async def test_a_process_frozen_while_an_exchange_stands_in_line_does_not_send_it() -> None:
    clock = LocalClock()
    store = AwaitingStore(clock)
    limits = RequestLimits(concurrent_requests=1)
    given = {"store": store, "limits": limits}
    async with house(pool=given, exchange_latency_s=5.0, dirty=LEFT) as home:
        home.pool._works.clock = clock
        first, second = await home.lease(), await home.lease()
        busy = asyncio.create_task(first.blocking_continue("long"))
        await home.emu.wait_for(lambda: home.emu.in_flight("exchange"))
        waits = asyncio.create_task(second.blocking_continue("in line"))
        await asyncio.sleep(1)
        clock.ahead_s += 100.0
        assert isinstance(await outcome(waits), LeaseLost)
        assert (await busy).text  # it was sent, and its answer is not kept from who asked
        assert first.lost.is_set()
        assert home.emu.requests("exchange") == 1


async def test_what_another_took_away_is_told_by_the_next_renewal() -> None:
    store = distant_store()
    async with house(pool={"store": store}) as home:
        lease = await home.lease()
        key = home.pool._desks.of(home.agent).key
        (entry,) = await store.inner.find(key)
        store.inner.put_nowait(
            change(key, entry, "theirs", "quarantined", facts=entry.facts, deadline_in_s=0.25)
        )
        await asyncio.sleep(11)
        assert lease.lost.is_set()
        (event,) = home.happened(LeaseEnded)
        assert "refused" in event.why
        await lease.release()
        await home.until(lambda: home.pool.stats().leased == 0)


@pytest.mark.parametrize("released", [False, True])
async def test_an_old_leases_end_does_not_touch_the_next_one_of_its_session(released: bool) -> None:
    # Taken away by another process, and handed out again here before the old holder has heard.
    store = distant_store()
    async with house(pool={"store": store}) as home:
        old = await home.lease(conversation="a")
        key = home.pool._desks.of(home.agent).key
        (entry,) = await store.inner.find(key)
        store.inner.put_nowait(change(key, entry, "theirs", "parked", facts=entry.facts))
        new = await asyncio.create_task(home.lease(conversation="a"))
        assert new.fence > old.fence
        assert old.lost.is_set()
        if released:
            await old.release()
        else:
            with pytest.raises(LeaseLost):
                await old.touch()
        await asyncio.sleep(3 * TTL_S)
        assert not new.lost.is_set()
        await new.touch()
        await new.release()


async def test_a_lease_that_is_released_while_it_is_renewed_is_not_lost() -> None:
    store = distant_store()
    async with house(pool={"store": store}) as home:
        lease = await home.lease()
        await asyncio.sleep(9.9)
        store.latency_s = 0.2
        await asyncio.sleep(0.2)
        assert store.calls["renew"] == 1
        await lease.release()
        await asyncio.sleep(1)
        assert not lease.lost.is_set()
        assert not home.happened(LeaseEnded)
        store.latency_s = 0.0


async def test_a_dropped_lease_is_not_renewed_and_comes_back() -> None:
    store = distant_store()
    async with house(pool={"store": store}) as home:
        lease = await home.lease()
        await asyncio.sleep(35)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del lease
            gc.collect()
            await spin(10)
        assert [it.category for it in caught] == [ResourceWarning]
        (dropped,) = home.happened(LeaseDropped)
        renewed = store.calls["renew"]
        await asyncio.sleep(60)
        assert store.calls["renew"] == renewed
        assert home.stats.leased == 0
        assert dropped.where


# ------------------------------------------------------------------------------ by hand


@pytest.mark.parametrize("when", ["before", "after"])
async def test_renewing_by_hand_outlasts_a_store_that_blinks(when: When) -> None:
    store = distant_store()
    async with house(pool={"store": store}) as home:
        lease = await home.lease()
        store.fail("renew", when, times=2)
        await lease.renew()
        assert store.mishaps_left == 0
        await lease.release()


async def test_renewing_by_hand_ends_with_the_lease_if_the_store_stays_away() -> None:
    store = distant_store()
    async with house(pool={"store": store}) as home:
        lease = await home.lease()
        began, store.away = now(), True
        with pytest.raises(LeaseLost):
            await lease.renew()
        assert now() - began <= TTL_S
        store.away = False
        await asyncio.sleep(5)


# ------------------------------------------------------------------------------ a dead holder


async def test_mcp_context_forge_5485_who_waits_for_a_dead_holder_waits_one_ttl() -> None:
    store = distant_store()
    policy = AgentPolicy(min_idle=0, max_leased=1, exchange_timeout_s=60.0)
    async with house(policy=policy, pool={"store": store}, exact=False) as home:
        lease = await home.lease()
        store.away = True  # killed: it is heard of no more
        async with another(home, AwaitingStore(LocalClock(), shared=store), policy=policy) as pool:
            began = now()
            async with pool.acquire(home.agent, timeout=120) as theirs:
                assert now() - began <= TTL_S + 5.0 + 1.0  # the sweep, and a creation
                theirs.mark_unused()
        assert lease.lost.is_set()
        store.away = False
        await home.until(lambda: home.pool.stats().leased == 0)


async def test_what_a_dead_process_had_claimed_of_upkeep_is_soon_looked_after() -> None:
    store = distant_store()
    policy = AgentPolicy(min_idle=0, exchange_timeout_s=10.0)
    patience_s = policy.acquire_timeout_s or FOREVER
    async with house(policy=policy, pool={"store": store}) as home:
        lease = await home.lease(conversation="a")
        await lease.blocking_continue("first [[a]]")
        store.away = True  # nobody renews, and nobody looks after what falls due
        await asyncio.sleep(TTL_S + 1)
        store.away = False
        # Another process claims it as its pool would, and does not live to do anything.
        claimed = await store.inner.due("dead", limit=100, for_s=CLAIM_S)
        assert [entry.state for _, entry in claimed.entries] == ["leased"]
        began = now()
        await home.ask("a")
        assert now() - began < patience_s / 2


def _emulated(agents: dict[str, Agent]) -> dict[str, AgentSetup]:
    return {agent.rid: AgentSetup() for agent in agents.values()}


assert COLD.lease_ttl_s == TTL_S
