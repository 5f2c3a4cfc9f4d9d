"""B7, B23, B27: the store is away, silent, or another than it was, and comes back."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import Any

import pytest

from session_pool import (
    AcquireTimeout,
    AgentPolicy,
    LeaseLost,
    PoolClosed,
    SessionPool,
    StaticToken,
    StoreMismatch,
    StoreUnavailable,
)
from session_pool.emulator import Emulator
from session_pool.events import (
    LeaseEnded,
    SessionRetired,
    StoreAway,
    StoreBack,
    StoreForgot,
    TaskRestarted,
)
from session_pool.model import PoolKey
from session_pool.space import Put
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

CREATE_S = 1.0


def now() -> float:
    return asyncio.get_running_loop().time()


def key_of(home: House) -> PoolKey:
    return home.pool._desks.of(home.agent).key


# ------------------------------------------------------------------------------ asking


@pytest.mark.parametrize("timeout", [0.5, 5.0, 70.0])
async def test_an_acquire_fails_within_its_timeout_and_says_why(timeout: float) -> None:
    store = distant_store()
    async with house(pool={"store": store}) as home:
        store.away, began = True, now()
        with pytest.raises(StoreUnavailable, match="the store cannot be reached") as caught:
            await home.lease(timeout=timeout)
        assert timeout - 1.0 <= now() - began <= timeout
        assert isinstance(caught.value.__cause__, StoreUnavailable)
        assert caught.value.retryable
        store.away = False
        await (await home.lease()).release()


async def test_who_does_not_wait_fails_at_once() -> None:
    store = distant_store()
    async with house(pool={"store": store}) as home:
        store.away, began, asked = True, now(), store.calls["take"]
        with pytest.raises(StoreUnavailable):
            await home.lease(timeout=0)
        assert now() == began
        assert store.calls["take"] == asked + 1
        store.away = False


@pytest.mark.parametrize("timeout", [0.0, 0.2, 5.0])
async def test_a_store_that_is_silent_keeps_nobody_beyond_the_timeout(timeout: float) -> None:
    store = distant_store()
    async with house(pool={"store": store}) as home:
        store.hang()
        began = now()
        with pytest.raises(StoreUnavailable):
            await home.lease(timeout=timeout)
        assert now() - began == pytest.approx(timeout or 1.0)
        store.answer()
        await spin(20)
        assert home.pool.stats().leased == home.pool.stats().waiting == 0


async def test_who_has_less_time_than_the_store_takes_is_told_so() -> None:
    """Nobody sends for the administrator of a store that is there."""
    store = distant_store()
    async with house(pool={"store": store}) as home:
        store.latency_s, began = 0.1, now()
        with pytest.raises(StoreUnavailable, match="the store did not answer in time"):
            await home.lease(timeout=0.05)
        assert now() - began == pytest.approx(0.05)
        assert home.stats.timeouts == 1
        await (await home.lease(timeout=5)).release()
        store.latency_s = 0.0


@pytest.mark.parametrize("latency_s", [0.0, 0.01, 0.2])
async def test_the_last_look_is_over_when_the_time_is_up(latency_s: float) -> None:
    store = distant_store()
    policy = AgentPolicy(min_idle=0, max_leased=1)
    async with house(policy=policy, pool={"store": store}) as home:
        lease = await home.lease()
        store.latency_s, began = latency_s, now()
        with pytest.raises(AcquireTimeout) as caught:
            await home.lease(timeout=3)
        assert 3 - 0.05 - 4 * latency_s <= now() - began <= 3
        assert (caught.value.phase, caught.value.capped_by) == ("line", "max_leased")
        store.latency_s = 0.0
        await lease.release()


async def test_a_store_that_becomes_silent_does_not_lengthen_the_wait_in_line() -> None:
    store = distant_store()
    policy = AgentPolicy(min_idle=0, max_leased=1)
    async with house(policy=policy, pool={"store": store}) as home:
        lease = await home.lease()
        began = now()
        waiting = asyncio.create_task(home.lease(timeout=20))
        await asyncio.sleep(1)
        store.hang()
        assert isinstance(await outcome(waiting), AcquireTimeout | StoreUnavailable)
        assert now() - began <= 20
        store.answer()
        await lease.release()
        await home.until(lambda: home.pool.stats().waiting == 0)


async def test_a_short_absence_is_not_noticed_by_who_can_wait() -> None:
    store = distant_store()
    async with house(pool={"store": store}, create_latency_s=CREATE_S) as home:
        store.away = True
        waiting = [asyncio.create_task(home.lease()) for _ in range(3)]
        await asyncio.sleep(20)
        store.away, back = False, now()
        for lease in await asyncio.gather(*waiting):
            await lease.release()
        assert now() - back <= CREATE_S + 1.0
        assert home.emu.requests("create") == 3


async def test_g7_a_thousand_waiters_are_served_within_a_second_of_its_return() -> None:
    store = distant_store()
    policy = AgentPolicy(min_idle=0, reuse="anyone", acquire_timeout_s=120)
    async with house(policy=policy, pool={"store": store}, create_latency_s=CREATE_S) as home:
        served: list[float] = []

        async def one() -> None:
            async with home.pool.acquire(home.agent):
                served.append(now())
                await asyncio.sleep(0.01)

        store.away = True
        waiters = [asyncio.create_task(one()) for _ in range(1000)]
        await asyncio.sleep(60)
        store.away, back = False, now()
        await asyncio.gather(*waiters)
        assert served[0] - back <= CREATE_S + 1.0
        assert len(served) == 1000
        assert home.emu.requests("create") <= 2 * policy.max_creating


async def test_it_is_told_once_as_it_goes_and_once_as_it_is_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = distant_store()
    policy = AgentPolicy(min_idle=3)
    async with house(policy=policy, pool={"store": store}, create_latency_s=CREATE_S) as home:
        await asyncio.sleep(0.5)
        with caplog.at_level(logging.INFO, "session_pool"):
            store.away = True
            lost = asyncio.create_task(home.lease(timeout=30))
            await asyncio.sleep(600)
            store.away = False
            assert isinstance(await outcome(lost), StoreUnavailable)
            await home.pool.ready(10)  # what was under way when it went has arrived
        assert home.stats.created == home.emu.requests("create") == 3
        told = Counter(it.levelname for it in caplog.records if it.name.startswith("session_pool"))
        assert told == {"WARNING": 1, "INFO": 1}
        assert [len(home.happened(kind)) for kind in (StoreAway, StoreBack)] == [1, 1]
        assert 595 < home.happened(StoreBack)[0].away_s < 605
        assert not home.happened(TaskRestarted)


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


# ------------------------------------------------------------------------------ another epoch


async def test_no_store_has_forgotten_anything_as_a_pool_opens(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with house(pool={"store": distant_store()}) as home:
        await (await home.lease()).release()
        await asyncio.sleep(60)
        assert not home.happened(StoreForgot)
    assert "StoreForgot" not in caplog.text


async def test_a_wiped_store_is_told_what_is_held_and_the_leases_go_on() -> None:
    store = distant_store()
    async with house(pool={"store": store}, exact=False) as home:
        free, bound = await home.lease(), await home.lease(conversation="a")
        await bound.blocking_continue("before [[a]]")
        fences = free.fence, bound.fence
        store.wipe()
        await asyncio.sleep(0.1)
        assert free.fence > fences[0]
        assert bound.fence > fences[1]
        await bound.blocking_continue("after [[a]]")
        await asyncio.sleep(120)  # they are renewed under the new fences
        assert not home.happened(LeaseEnded)
        (event,) = home.happened(StoreForgot)
        assert (event.held, event.lost) == (2, 0)
        assert home.stats.adopted == 2
        await free.release()
        await bound.release()
        assert (await home.ask("a")).context == "kept"


@pytest.mark.parametrize("used", [True, False])
async def test_what_an_older_state_calls_fresh_is_looked_at(used: bool) -> None:
    """B4: the store comes back as it was before a session was used, and that session lies ready."""
    store, before = distant_store(), AwaitingStore(LocalClock())
    async with house(pool={"store": store}, exact=False) as home:
        lease = await home.lease()
        (entry,) = await store.inner.find(key_of(home))
        older = Put(
            key_of(home), entry.id, "older", "idle", facts=entry.facts, rid=entry.rid,
            agent_version=entry.agent_version, pinned=False, expires_in_s=lease.remaining_s(),
            fresh_in_s=3600.0, tally=(("created", 1),),
        )  # fmt: skip
        await before.put(older)
        if used:
            await lease.blocking_continue("what nobody else may read [[a]]")
        rid = entry.rid
        await lease.release(unused=not used)
        store.wipe(before.inner)
        await asyncio.sleep(60)
        assert home.happened(StoreForgot)
        async with home.pool.acquire(home.agent) as other:
            assert (other._entry.rid == rid) is not used
        looks = home.emu.requests("get")
        assert looks >= 1
        retired = [event for event in home.happened(SessionRetired) if event.session_rid == rid]
        assert ("mislabelled" in [event.reason for event in retired]) is used


async def test_a_lease_whose_session_another_has_after_the_wipe_is_lost() -> None:
    store = distant_store()
    async with house(pool={"store": store}, exact=False, dirty=LEFT) as home:
        lease = await home.lease(conversation="a")
        (entry,) = await store.inner.find(key_of(home))
        other = AwaitingStore(LocalClock())
        theirs = entry._replace(holder="them", lease="theirs")
        await other.register("them", [lease.known_as()._replace(entry=theirs)], 300.0)
        store.wipe(other.inner)
        await asyncio.sleep(1)
        assert lease.lost.is_set()
        with pytest.raises(LeaseLost):
            await lease.blocking_continue("mine? [[a]]")
        (event,) = home.happened(StoreForgot)
        assert (event.held, event.lost) == (1, 1)
        await home.until(lambda: home.pool.stats().leased == 0)


async def test_who_waits_asks_the_new_epoch_and_is_served() -> None:
    store = distant_store()
    policy = AgentPolicy(min_idle=0, max_leased=2)
    async with house(policy=policy, pool={"store": store}, exact=False) as home:
        held = [await home.lease() for _ in range(2)]
        waiting = asyncio.create_task(home.lease())
        await asyncio.sleep(1)
        store.wipe()
        await asyncio.sleep(1)
        for lease in held:
            await lease.release()
        await (await waiting).release()
        assert home.emu.requests("create") == 3


async def test_the_notes_of_another_epoch_are_read_again() -> None:
    store = distant_store()
    async with house(pool={"store": store}, exact=False) as home:
        home.emu.inject("create:1:AgentNotFound")
        await outcome(home.lease(timeout=1))
        desk = home.pool._desks.of(home.agent)
        assert desk.failing(now()) is not None
        store.wipe()
        await spin(20)
        assert desk.failing(now()) is None
        await (await home.lease()).release()


@pytest.mark.parametrize("known", [False, True])
async def test_what_is_released_to_a_store_that_has_forgotten_it_is_kept(known: bool) -> None:
    """Its conversation goes on, whether the release finds out or was on its way."""
    store = distant_store()
    async with house(pool={"store": store}, exact=False) as home:
        lease = await home.lease(conversation="a")
        await lease.blocking_continue("before [[a]]")
        if known:
            store.wipe()
            await lease.release()
        else:
            store.latency_s = 0.5
            releasing = asyncio.create_task(lease.release())
            await asyncio.sleep(0.1)
            store.wipe()
            await releasing
            store.latency_s = 0.0
        await asyncio.sleep(5)
        assert (await home.ask("a")).context == "kept"
        assert home.emu.requests("create") == 1


async def test_a_record_made_as_the_store_is_wiped_does_not_lose_the_lease() -> None:
    store = distant_store()
    async with house(pool={"store": store}, exact=False) as home:
        lease = await home.lease(conversation="a")
        store.latency_s = 0.5
        asking = asyncio.create_task(lease.blocking_continue("during [[a]]"))
        await asyncio.sleep(0.1)
        store.wipe()
        assert (await asking).text
        assert not lease.lost.is_set()
        store.latency_s = 0.0
        await lease.release()
        await asyncio.sleep(2)
        assert (await home.ask("a")).context == "kept"


async def test_a_creation_under_way_at_the_wipe_is_not_lost() -> None:
    store = distant_store()
    async with house(pool={"store": store}, create_latency_s=5.0, exact=False) as home:
        waiting = asyncio.create_task(home.lease())
        await asyncio.sleep(4)
        store.wipe()
        await (await waiting).release()
        await asyncio.sleep(10)
        alive = [it for it in home.emu.sessions.values() if home.emu.is_alive(it.rid)]
        assert len(alive) == home.stats.idle + home.stats.retiring + home.stats.retired


async def test_a_wipe_while_the_store_is_away_is_found_on_its_return() -> None:
    store = distant_store()
    async with house(pool={"store": store}, exact=False) as home:
        lease = await home.lease(conversation="a")
        store.away = True
        await asyncio.sleep(5)
        store.wipe()
        await asyncio.sleep(5)
        store.away = False
        await asyncio.sleep(2)
        assert lease.fence == 2
        assert not lease.lost.is_set()
        await lease.release()


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


# ------------------------------------------------------------------------------ looking


async def test_statistics_follow_what_other_processes_do_while_somebody_looks() -> None:
    store = distant_store()
    async with house(pool={"store": store}, exact=False) as home:
        assert home.pool.stats().leased == 0
        async with another(home, AwaitingStore(LocalClock(), shared=store)) as pool:
            async with pool.acquire(home.agent):
                home.pool.stats()
                await asyncio.sleep(5.1)
                assert home.pool.stats().leased == 1
            await asyncio.sleep(5.1)
            assert home.pool.stats().leased == 0


async def test_nobody_looks_and_nothing_is_read() -> None:
    store = distant_store()
    async with (
        Emulator() as emu,
        SessionPool(url=emu.url, token=emu.token, policy=COLD, store=store) as pool,
    ):
        await (await pool.acquire(emu.agent_rid)).release()
        pool.stats()
        await asyncio.sleep(120)
        reads = store.calls["read"]
        await asyncio.sleep(3600)
        assert store.calls["read"] == reads
        pool.stats()
        await asyncio.sleep(30)
        assert reads < store.calls["read"] <= reads + 8


# ------------------------------------------------------------------------------ whose sessions


class Known(StaticToken):
    """A token whose owner can be read from it."""

    def __init__(self, token: str, owner: str) -> None:
        super().__init__(token)
        self._owner = owner

    def identity(self) -> str:
        return self._owner


async def test_other_credentials_on_the_same_store_are_refused() -> None:
    store = distant_store()
    async with Emulator() as emu:

        def pool(owner: str) -> SessionPool:
            way = AwaitingStore(LocalClock(), shared=store)
            return SessionPool(url=emu.url, auth=Known(emu.token, owner), store=way, policy=COLD)

        async with pool("alice@example.com"):
            pass
        async with pool("alice@example.com"):
            pass
        other = pool("bob@example.com")
        with pytest.raises(StoreMismatch) as caught:
            await other.open()
        said = str(caught.value)
        assert "namespace" in said
        assert "same token owner" in said
        assert not any(name in said for name in ("alice", "bob", emu.token))
        assert repr(other).endswith("not open>") or "closed" in repr(other)
        tasks = [it.get_name() for it in asyncio.all_tasks()]
        assert not [name for name in tasks if name.startswith("session_pool")]


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_store_that_is_away_at_the_opening_leaves_nothing_open(when: Any) -> None:
    store = distant_store()
    async with Emulator() as emu:
        auth = Known(emu.token, "alice")
        pool = SessionPool(url=emu.url, auth=auth, store=store, policy=COLD)
        store.fail("identify", when)
        with pytest.raises(StoreUnavailable):
            await pool.open()
        with pytest.raises(PoolClosed):
            pool.acquire(emu.agent_rid)
        tasks = [it.get_name() for it in asyncio.all_tasks()]
        assert not [name for name in tasks if name.startswith("session_pool")]
