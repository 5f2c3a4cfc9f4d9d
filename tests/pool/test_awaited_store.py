"""The pool on a store that is awaited, as a server's is: late answers, lost ones, lost bells."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from session_pool import Lease, LeaseLost, RequestLimits
from session_pool.stores.base import LocalStore
from tests.pool.cancelled_house import AGENT, CREATE_S, House, Kind, house
from tests.pool.house import house as pool_house
from tests.stores.awaiting import AwaitingStore, When, as_store

pytestmark = pytest.mark.looptime


@asynccontextmanager
async def distant(
    latency_s: float = 0.0, **needs: Any
) -> AsyncIterator[tuple[House, AwaitingStore]]:
    """A house on such a store; what the set-up needs of it is over."""
    async with house("awaited", **needs) as here:
        store = here.store
        assert isinstance(store, AwaitingStore)
        store.latency_s = latency_s
        yield here, store
        store.latency_s = 0.0
        assert store.mishaps_left == 0, "a scripted failure did not come to pass"


async def acquire_at(here: House, at_s: float) -> float:
    """Acquire after so many seconds; how long that took."""
    loop = asyncio.get_running_loop()
    await asyncio.sleep(at_s)
    began = loop.time()
    async with here.pool.acquire(AGENT):
        return loop.time() - began


def test_it_is_no_local_store() -> None:
    assert not isinstance(as_store(AwaitingStore(lambda: 0.0)), LocalStore)


class NamingStore(AwaitingStore):
    """Its epoch has a name once it is open, as a server's has."""

    epoch = ""

    async def open(self) -> None:
        await super().open()
        self.epoch = "first"


async def test_a_store_that_is_new_to_this_process_has_forgotten_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = NamingStore(asyncio.get_running_loop().time)
    async with pool_house(pool={"store": store}) as home:
        await (await home.lease()).release()
        assert home.pool._works.epoch == "first"
    assert "StoreForgot" not in caplog.text


@pytest.mark.parametrize("kind", ["local", "awaited"])
async def test_each_waiter_gets_its_own_creation_at_once(kind: Kind) -> None:
    async with house(kind) as here:
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            took = [group.create_task(acquire_at(here, at / 10)) for at in range(8)]
        assert [round(task.result(), 3) for task in took] == [CREATE_S] * 8


@pytest.mark.parametrize("kind", ["local", "awaited"])
async def test_a_change_between_two_waiters_keeps_nobody_from_a_creation(kind: Kind) -> None:
    async with house(kind) as here:
        held = await here.hold()
        first = asyncio.create_task(acquire_at(here, 0.0))
        await asyncio.sleep(0.1)
        await held.touch()  # an answer of the store, while one creation serves the one who waits
        second = asyncio.create_task(acquire_at(here, 0.0))
        assert round(await first, 3) == CREATE_S
        assert round(await second, 3) == CREATE_S


async def test_a_waiter_that_comes_while_a_creation_is_claimed_is_not_forgotten() -> None:
    latency_s = 0.01
    limits = RequestLimits(concurrent_requests=100)  # the share at the start is a third of them
    async with distant(latency_s, limits=limits) as (here, _):
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            took = [group.create_task(acquire_at(here, at / 100)) for at in range(20)]
        # There and back: each claim after the other, and taking, writing it down, fetching it.
        assert max(task.result() for task in took) <= CREATE_S + (20 + 6) * 2 * latency_s


async def test_lost_doorbells_cost_five_seconds_at_most() -> None:
    async with distant(policy={"max_leased": 1}) as (here, store):
        lease = await here.hold()
        store.deaf = True
        waiting = asyncio.create_task(acquire_at(here, 0.0))
        await asyncio.sleep(2.0)
        await lease.release()
        assert await waiting <= 2.0 + CREATE_S + 2 * 5.0
        store.deaf = False


@pytest.mark.parametrize("when", ["before", "after"])
async def test_an_acquire_whose_answer_is_lost_asks_again_and_has_one_session(when: When) -> None:
    async with distant(policy={"min_idle": 1}) as (here, store):
        store.fail("take", when, times=3)
        lease = await here.pool.acquire(AGENT)
        assert store.calls["take"] == 4
        assert (await here.counts()).of("leased") == 1
        await lease.release()
        await asyncio.sleep(CREATE_S)
        assert await acquire_at(here, 0.0) == 0.0


async def test_a_release_never_raises_because_of_the_store() -> None:
    async with distant(policy={"lease_ttl_s": 5.0}) as (here, store):
        lease = await here.pool.acquire(AGENT)
        store.fail("put", "before")
        await lease.release()
        await asyncio.sleep(10.0)  # it lapses instead
        assert (await here.counts()).of("leased") == 0


async def test_a_release_whose_answer_is_lost_has_happened() -> None:
    async with distant() as (here, store):
        lease = await here.pool.acquire(AGENT)
        store.fail("put", "after")
        await lease.release()
        await asyncio.sleep(0.1)
        assert (await here.counts()).of("leased") == 0


async def test_what_was_released_is_given_back_when_the_release_returns() -> None:
    async with distant(0.05) as (here, _):
        lease = await here.pool.acquire(AGENT)
        await lease.release()
        assert (await here.counts()).of("leased") == 0


async def test_a_pool_that_closes_right_after_a_release_has_given_it_back() -> None:
    async with distant(0.05) as (here, _):
        lease = await here.pool.acquire(AGENT)
        with pytest.raises(asyncio.CancelledError):
            await _cancelled_at_once(lease)
        await here.pool.aclose()
        assert (await here.counts()).of("leased") == 0
        here.over = True


async def _cancelled_at_once(lease: Lease) -> None:
    task = asyncio.create_task(lease.release())
    await asyncio.sleep(0)
    task.cancel()
    await task


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_record_whose_answer_is_lost_is_made_once(when: When) -> None:
    async with distant() as (here, store):
        lease = await here.hold("c")
        store.fail("put", when)
        await lease.touch(2)
        (entry,) = await here.store.find(here.key)
        assert entry.facts.exchanges == 2


async def test_a_renewal_of_what_has_lapsed_is_refused_and_tells_the_holder() -> None:
    async with distant(policy={"lease_ttl_s": 5.0}) as (here, store):
        lease = await here.pool.acquire(AGENT)
        store.away = True  # so that nobody can renew it
        await asyncio.sleep(6.0)
        store.away = False
        with pytest.raises(LeaseLost):
            await lease.renew()
        assert lease.lost.is_set()
