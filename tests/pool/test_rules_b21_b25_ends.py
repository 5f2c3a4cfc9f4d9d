"""B21, B25 and B28: how leases end by themselves, how a pool closes, what a restart finds."""

from __future__ import annotations

import asyncio
import gc
import sys
import warnings

import pytest

from session_pool import (
    AgentPolicy,
    AlreadyHeld,
    LeaseLost,
)
from session_pool.events import LeaseDropped
from session_pool.holding import _dropped
from tests.pool.house import (
    House,
    distant_store,
    house,
    spin,
)

pytestmark = pytest.mark.looptime


def now() -> float:
    """Virtual seconds."""
    return asyncio.get_running_loop().time()


# ------------------------------------------------------------------------------ B21


async def _drop(home: House, *, read: bool) -> int:
    lease = await home.pool.acquire(home.agent)
    line = _line_of_this() - 1
    if read:
        assert lease.rid
    return line


def _line_of_this() -> int:
    return sys._getframe(1).f_lineno


@pytest.mark.parametrize("read", [False, True])
async def test_a_lease_dropped_without_release_is_told_with_its_line(read: bool) -> None:
    async with house() as home:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            line = await _drop(home, read=read)
            gc.collect()
        (warning,) = [it for it in caught if issubclass(it.category, ResourceWarning)]
        assert f"{__file__}:{line}" in str(warning.message)
        await asyncio.sleep(1)
        (event,) = home.happened(LeaseDropped)
        assert event.where == f"{__file__}:{line}"
        assert home.stats.leased == 0
        assert (home.stats.idle, home.stats.quarantined) == ((0, 1) if read else (1, 0))


async def test_a_dropped_lease_of_a_conversation_frees_the_conversation() -> None:
    async with house() as home:

        async def drop() -> None:
            await home.lease(conversation="a")

        with pytest.warns(ResourceWarning, match="dropped without release"):
            await drop()  # the last reference goes as it returns
        await spin(2)  # it goes back in the pool's own turn, whatever thread collected it
        assert (await home.ask("a", timeout=5)).context == "new"


async def test_a_lease_that_is_collected_late_takes_nothing_from_who_has_its_session_now() -> None:
    """It had lapsed and its session was handed out here again, before the loop had its turn."""
    async with house() as home:
        lease = await home.lease(conversation="a")
        entry, known = lease.known_as().entry, lease._known(drops=True)
        put = lease._ended("used", broken=True)
        await lease.release()
        again = await home.lease(conversation="a")
        assert again.token[0] == entry.id
        desk = again.desk
        _dropped(home.pool._works, desk, entry, put, "there", 0.0, known)
        (held,) = desk.leases.values()
        assert held() is again
        with pytest.raises(AlreadyHeld):
            await home.lease(conversation="a", timeout=0)
        await again.release()
        assert (desk.leases, desk.talking) == ({}, {})


async def test_on_memory_a_lease_has_no_end() -> None:
    policy = AgentPolicy(min_idle=0, lease_ttl_s=30)
    async with house(policy=policy) as home:
        lease = await home.lease()
        await asyncio.sleep(3600)
        await lease.renew()
        await lease.blocking_continue("still mine")
        assert not lease.lost.is_set()
        await lease.release()


async def test_a_store_lapses_leases_and_renewal_of_what_has_lapsed_is_refused() -> None:
    policy = AgentPolicy(min_idle=0, lease_ttl_s=30, acquire_timeout_s=None)
    store = distant_store()
    async with house(policy=policy, pool={"store": store}) as home:
        lease = await home.lease(conversation="a")
        await asyncio.sleep(25)
        await lease.renew()
        store.away = True  # so that the pool cannot renew it by itself
        await asyncio.sleep(25)
        assert not lease.lost.is_set()
        await asyncio.sleep(15)
        store.away = False
        assert lease.lost.is_set()
        with pytest.raises(LeaseLost):
            await lease.renew()
        with pytest.raises(LeaseLost):
            await lease.blocking_continue("too late [[a]]")
        await lease.release()
        lapsed = now()
        assert (await home.ask("a")).context == "new"
        assert now() - lapsed < 620  # nobody can know of an exchange by others: time ends it


async def test_release_twice_is_harmless_and_a_released_lease_refuses() -> None:
    async with house() as home:
        lease = await home.lease()
        await lease.release(unused=True)
        await lease.release()
        await lease.release(discard=True)
        assert (home.stats.idle, home.stats.leased) == (1, 0)
        for use in (lease.touch, lease.renew, lease.start_over):
            with pytest.raises(LeaseLost):
                await use()
        with pytest.raises(LeaseLost):
            await lease.blocking_continue("x")
        with pytest.raises(LeaseLost):
            [piece async for piece in lease.streaming_continue("x")]


async def test_a_late_release_does_not_touch_the_next_holders_lease() -> None:
    async with house(policy=AgentPolicy(min_idle=0, max_leased=1)) as home:
        first = await home.lease()
        await first.release(unused=True)
        second = await home.lease()
        await first.release(discard=True)
        assert home.stats.leased == 1
        await second.blocking_continue("mine")
        await second.release()
