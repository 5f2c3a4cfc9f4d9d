"""B7, B23, B27: the store is away or silent while leases are held, and as the pool closes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from session_pool import (
    AgentPolicy,
    PoolClosed,
    SessionPool,
    StoreUnavailable,
)
from session_pool.emulator import Emulator
from session_pool.events import (
    LeaseEnded,
)
from session_pool.model import PoolKey
from session_pool.works import TELL_S
from tests.pool.house import (
    COLD,
    LEFT,
    House,
    LocalClock,
    another,
    audit_is_clean,
    distant_store,
    house,
    outcome,
    spin,
)
from tests.stores.awaiting import AwaitingStore

pytestmark = pytest.mark.looptime


def now() -> float:
    return asyncio.get_running_loop().time()


def key_of(home: House) -> PoolKey:
    return home.pool._desks.of(home.agent).key


# ------------------------------------------------------------------------------ holding


async def test_held_leases_stay_of_use_until_they_lapse() -> None:
    store = distant_store()
    async with house(pool={"store": store}) as home:
        lease = await home.lease(conversation="a")
        store.away = True
        for turn in range(3):
            assert (await lease.blocking_continue(f"{turn} [[a]]")).text
        assert lease.is_new is False
        await asyncio.sleep(20)
        store.away = False
        await asyncio.sleep(20)
        assert not lease.lost.is_set()
        await lease.release()
        (entry,) = await store.inner.find(key_of(home))
        assert (entry.state, entry.facts.exchanges) == ("parked", 3)
        assert entry.facts.session is not None
        assert entry.facts.trace_id is None
        assert entry.expires - now() == pytest.approx(entry.facts.lifetime_s, abs=60)


async def test_what_was_done_meanwhile_is_told_as_the_lease_ends() -> None:
    store = distant_store()
    async with house(pool={"store": store}) as home:
        lease = await home.lease(conversation="a")
        await asyncio.sleep(5000)
        store.away = True
        await lease.blocking_continue("unsaid [[a]]")
        store.away = False
        await lease.release()
        await spin(5)
        (entry,) = await store.inner.find(key_of(home))
        assert (entry.state, entry.facts.exchanges) == ("parked", 1)
        assert entry.expires - now() == pytest.approx(entry.facts.lifetime_s, abs=60)


@pytest.mark.parametrize("silent", [False, True])
async def test_a_release_does_not_wait_for_the_store(silent: bool) -> None:
    store = distant_store()
    async with house(pool={"store": store}) as home:
        lease = await home.lease()
        if silent:
            store.hang()
        else:
            store.away = True
        began = now()
        await lease.release(unused=True)
        assert now() - began <= TELL_S
        await asyncio.sleep(10)
        store.away = False
        store.answer()
        await asyncio.sleep(1.5)
        again = await home.lease(timeout=0)  # it has been given back behind the caller's back
        assert again.fence == 2
        await again.release()
        assert home.emu.requests("create") == 1


async def test_a_release_that_was_never_told_lapses_and_nothing_is_lost() -> None:
    store = distant_store()
    async with house(pool={"store": store}, dirty=LEFT) as home:
        lease = await home.lease()
        store.away = True
        await lease.release(unused=True)
        await asyncio.sleep(100)
        store.away = False
        await home.until(lambda: home.pool.stats().leased == 0)
        assert not home.happened(LeaseEnded)
        await (await home.lease()).release()


@pytest.mark.parametrize("released_after_s", [0.0, 10.0, 45.0])
@pytest.mark.parametrize("silent", [False, True])
async def test_whose_exchange_is_over_goes_on_at_once_after_a_long_absence(
    released_after_s: float, silent: bool
) -> None:
    """Its lease lapsed meanwhile, but its holder knows that nothing is going on there (B22)."""
    store = distant_store()
    async with house(pool={"store": store}) as home:
        lease = await home.lease(conversation="a")
        await lease.blocking_continue("before [[a]]")
        if silent:
            store.hang()
        else:
            store.away = True
        await asyncio.sleep(released_after_s)
        assert lease.lost.is_set() is (released_after_s > 30)
        await lease.release()
        await asyncio.sleep(60 - released_after_s)
        store.away, back = False, now()
        store.answer()
        assert (await home.ask("a")).context == "kept"
        assert now() - back <= 2.0
        assert home.emu.requests("create") == 1


async def test_what_its_holder_does_not_know_for_certain_stays_in_quarantine() -> None:
    store = distant_store()
    policy = AgentPolicy(min_idle=0, exchange_timeout_s=120.0)
    async with house(policy=policy, pool={"store": store}) as home:
        lease = await home.lease(conversation="a")
        assert lease.rid  # so somebody else may be talking to it
        store.away = True
        with pytest.raises(ZeroDivisionError):
            async with lease:
                raise ZeroDivisionError
        await asyncio.sleep(60)
        store.away, back = False, now()
        assert (await home.ask("a", timeout=300)).text
        assert now() - back >= 60


async def test_a_lease_without_conversation_is_retired_once_its_holder_is_heard() -> None:
    store = distant_store()
    async with house(pool={"store": store}) as home:
        async with await home.lease() as lease:
            await lease.blocking_continue("before")
            store.away = True
            await asyncio.sleep(45)
        await asyncio.sleep(15)
        store.away, back = False, now()
        await home.until(lambda: home.pool.stats().retired == 1)
        assert now() - back <= 15.0  # statistics are as others left them until they are read


async def test_a_late_word_of_a_lease_changes_nothing_of_what_was_evicted() -> None:
    store = distant_store()
    way = AwaitingStore(LocalClock(), shared=store)
    async with house(pool={"store": store}) as home, another(home, way) as other:
        lease = await home.lease(conversation="a")
        await lease.blocking_continue("before [[a]]")
        rid = lease.rid
        store.away = True
        await lease.release()
        await asyncio.sleep(60)
        await other.evict(rid, force=True)
        store.away = False
        await asyncio.sleep(5)
        (entry,) = await store.inner.find(key_of(home), rid=rid)
        assert entry.facts.reason == "evicted"
        await home.until(lambda: home.pool.stats().leased == 0)


async def test_a_cancelled_waiter_is_withdrawn_as_soon_as_the_store_is_back() -> None:
    store = distant_store()
    policy = AgentPolicy(min_idle=1, reuse="anyone")
    async with house(policy=policy, pool={"store": store}) as home:
        await home.pool.ready(10)
        store.fail("take", "after")  # granted, and nobody knows
        taking = asyncio.create_task(home.lease())
        await spin(2)
        store.away = True
        await asyncio.sleep(1)
        taking.cancel()
        assert isinstance(await outcome(taking), asyncio.CancelledError)
        await asyncio.sleep(10)
        store.away = False
        await asyncio.sleep(1.5)
        counts, _ = await store.inner.read(key_of(home))
        assert counts.of("leased") == counts.waiting == 0
        await (await home.lease(timeout=0)).release()


# ------------------------------------------------------------------------------ closing


@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize("durable", [False, True])
async def test_a_close_ends_in_time_whatever_the_store_does(durable: bool, silent: bool) -> None:
    store = distant_store()
    store.durable = durable
    policy = AgentPolicy(min_idle=0, max_leased=1)
    async with Emulator() as emu:
        pool = SessionPool(url=emu.url, token=emu.token, policy=policy, store=store)
        await pool.open()
        lease = await pool.acquire(emu.agent_rid)
        waiting = asyncio.create_task(outcome(pool.acquire(emu.agent_rid)))
        await asyncio.sleep(1)
        if silent:
            store.hang()
        else:
            store.away = True
        late = asyncio.create_task(outcome(pool.acquire(emu.agent_rid)))
        await asyncio.sleep(1)
        began = now()
        closing = asyncio.create_task(pool.aclose(timeout=5))
        await asyncio.sleep(9)
        store.answer()  # so that its own close ends
        await closing
        assert now() - began <= 10
        assert lease.lost.is_set()
        await lease.release()
        for error in await asyncio.gather(waiting, late):
            assert isinstance(error, PoolClosed | StoreUnavailable)
        audit_is_clean(emu)


@pytest.mark.parametrize("durable", [False, True])
async def test_a_close_does_not_wait_for_a_store_that_is_away(durable: bool) -> None:
    """What it was not told ends by itself; whoever pressed Ctrl-C should not sit there."""
    store = distant_store()
    store.durable = durable
    async with Emulator() as emu:
        given: dict[str, Any] = {"url": emu.url, "token": emu.token, "policy": COLD}
        pool = SessionPool(store=store, **given)
        await pool.open()
        lease = await pool.acquire(emu.agent_rid)
        store.away = True
        await lease.release()
        began = now()
        await pool.aclose(timeout=30)
        assert now() - began <= 3.0


async def test_a_close_does_not_wait_for_creations_that_cannot_be_recorded() -> None:
    store = distant_store()
    store.durable = True
    async with Emulator(create_latency_s=2.0) as emu:
        given: dict[str, Any] = {"url": emu.url, "token": emu.token, "policy": COLD}
        pool = SessionPool(store=store, **given)
        await pool.open()
        waiting = asyncio.create_task(outcome(pool.acquire(emu.agent_rid)))
        await asyncio.sleep(1)
        began = now()
        closing = asyncio.create_task(pool.aclose(timeout=30))
        await asyncio.sleep(0.5)
        store.away = True  # found out by the creation itself
        await closing
        assert now() - began <= 1.0 + 3.0
        assert isinstance(await waiting, PoolClosed)


async def test_a_durable_store_keeps_what_is_idle_and_quarantines_what_was_held() -> None:
    store = distant_store()
    store.durable = True
    policy = AgentPolicy(min_idle=2, exchange_timeout_s=60.0)
    async with Emulator() as emu:
        given: dict[str, Any] = {"url": emu.url, "token": emu.token, "policy": policy}
        pool = SessionPool(store=store, **given)
        await pool.open()
        lease = await pool.acquire(emu.agent_rid, conversation="a")
        assert lease.rid
        await asyncio.sleep(5)
        await pool.aclose(timeout=1)
        assert lease.lost.is_set()
        key = PoolKey(emu.host, "default", emu.agent_rid)
        counts, _ = await store.inner.read(key)
        assert (counts.of("idle"), counts.of("leased"), counts.of("quarantined")) == (2, 0, 1)
        again = AwaitingStore(LocalClock(), shared=store)
        async with SessionPool(store=again, **given) as pool:
            async with pool.acquire(emu.agent_rid, timeout=0) as other:
                assert other.rid != lease.rid
            async with pool.acquire(emu.agent_rid, conversation="a", timeout=120) as same:
                assert same.rid == lease.rid
