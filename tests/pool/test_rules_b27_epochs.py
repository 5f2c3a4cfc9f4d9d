"""B7, B23, B27: the store is another than it was, or somebody else's."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from session_pool import (
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
    StoreForgot,
)
from session_pool.model import PoolKey
from session_pool.space import Put
from tests.pool.house import (
    COLD,
    LEFT,
    House,
    LocalClock,
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
