"""B7, B23, B27: the store is away or silent, and somebody asks or looks."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

import pytest

from session_pool import (
    AcquireTimeout,
    AgentPolicy,
    SessionPool,
    StoreUnavailable,
)
from session_pool.emulator import Emulator
from session_pool.events import (
    StoreAway,
    StoreBack,
    TaskRestarted,
)
from tests.pool.house import (
    COLD,
    LocalClock,
    another,
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
