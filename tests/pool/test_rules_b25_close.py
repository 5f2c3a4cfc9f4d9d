"""B25, B28: what becomes of everything as the pool closes."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from session_pool import (
    AgentPolicy,
    ClientCredentials,
    Lease,
    LeaseLost,
    PoolClosed,
    SessionPool,
)
from session_pool.emulator import Emulator
from session_pool.events import SessionDeleted
from tests.pool.house import (
    COLD,
    audit_is_clean,
    conserve,
    distant_store,
    house,
    outcome,
)

pytestmark = pytest.mark.looptime


def now() -> float:
    """Virtual seconds."""
    return asyncio.get_running_loop().time()


# ------------------------------------------------------------------------------ B25: close


async def test_close_deletes_the_never_used_and_leaves_the_used() -> None:
    async with house(policy=AgentPolicy(min_idle=3)) as home:
        await home.pool.ready(10)
        talked = await home.ask("a")
        await home.pool.aclose()
        assert [rid for rid in home.emu.sessions if home.emu.is_alive(rid)] == [talked.session_rid]
        await asyncio.sleep(0)
        assert len(home.happened(SessionDeleted)) == home.emu.requests("delete") >= 3
        stats = home.pool.stats()
        conserve(stats)
        assert stats.idle == stats.retiring == 0


async def test_close_gives_leases_until_the_deadline() -> None:
    async with house(exchange_latency_s=4.0) as home:
        lease = await home.lease(conversation="a")
        talking = asyncio.create_task(lease.blocking_continue("to the end [[a]]"))
        await home.emu.wait_for(lambda: home.emu.in_flight("exchange"))
        closing = asyncio.create_task(home.pool.aclose(timeout=10))
        assert (await talking).text.startswith("#1")
        await lease.release()
        await closing
        assert 4 <= now() < 5
        assert home.pool.stats().parked == 1


async def test_leases_held_past_the_deadline_are_lost() -> None:
    async with house(exchange_latency_s=400.0) as home:
        lease = await home.lease(conversation="a")
        held = await home.lease()
        talking = asyncio.create_task(lease.blocking_continue("too long [[a]]"))
        await home.emu.wait_for(lambda: home.emu.in_flight("exchange"))
        await home.pool.aclose(timeout=10)
        assert 10 <= now() < 12
        assert lease.lost.is_set()
        assert held.lost.is_set()
        assert isinstance(await outcome(talking), Exception)
        with pytest.raises(LeaseLost):
            await held.blocking_continue("x")
        await held.release()
        await lease.release()
        stats = home.pool.stats()
        conserve(stats)
        assert stats.leased == 0
        assert stats.quarantined >= 1


async def test_close_refuses_newcomers_and_fails_waiters() -> None:
    async with house(policy=AgentPolicy(min_idle=0, max_leased=1)) as home:
        held = await home.lease()
        waiting = [asyncio.create_task(home.lease()) for _ in range(3)]
        talking = asyncio.create_task(home.ask("a"))
        await asyncio.sleep(1)
        closing = asyncio.create_task(home.pool.aclose(timeout=10))
        await asyncio.sleep(0.1)
        for task in (*waiting, talking):
            assert task.done()
            assert isinstance(await outcome(task), PoolClosed)
        with pytest.raises(PoolClosed):
            home.pool.acquire(home.agent)
        with pytest.raises(PoolClosed):
            home.pool.conversation(home.agent, "a")
        await held.release()
        await closing


@pytest.mark.parametrize("after_s", [0.0, 0.001, 0.003, 0.005])
async def test_close_takes_back_what_is_being_granted(after_s: float) -> None:
    # Its answer comes when the pool is closed: nobody would renew such a lease, or hear of its end.
    store = distant_store()
    store.durable, store.latency_s = True, 0.003
    async with house(pool={"store": store}) as home:
        await (await home.lease()).release(unused=True)
        asked = asyncio.create_task(outcome(home.lease()))
        await asyncio.sleep(after_s)
        await home.pool.aclose(timeout=1)
        refused = await asked
        assert isinstance(refused, PoolClosed), refused
        assert "the pool is closed" in str(refused)
        counts, _ = await store.inner.read(home.pool._desks.of(home.agent).key)
        assert (counts.of("leased"), counts.of("idle"), counts.waiting) == (0, 1, 0)


async def test_close_takes_back_what_is_being_confirmed() -> None:
    store = distant_store()
    store.durable = True
    async with house(pool={"store": store}, lifetime_s=3600.0) as home:
        await home.ask("a")
        await asyncio.sleep(3590)  # so near its end that one GET decides
        home.emu.hold("get")
        asked = asyncio.create_task(outcome(home.lease(conversation="a")))
        await home.emu.wait_for(lambda: home.emu.in_flight("get"))
        await home.pool.aclose(timeout=1)
        refused = await asked
        assert isinstance(refused, PoolClosed), refused
        assert "the pool is closed" in str(refused)
        counts, _ = await store.inner.read(home.pool._desks.of(home.agent).key)
        assert (counts.of("leased"), counts.of("parked")) == (0, 1)


@pytest.mark.parametrize("latency_s", [3.0, 300.0])
async def test_close_settles_creations_in_flight(latency_s: float) -> None:
    policy = AgentPolicy(min_idle=4, create_timeout_s=1000)
    async with house(policy=policy, create_latency_s=latency_s) as home:
        await home.emu.wait_for(lambda: home.emu.in_flight("create") == 4)
        await home.pool.aclose(timeout=10)
        stats = home.pool.stats()
        conserve(stats)
        assert stats.creating == 0
        if latency_s < 10:
            assert (stats.created, stats.unsettled) == (4, 0)
            assert not any(home.emu.is_alive(rid) for rid in home.emu.sessions)
        else:
            assert (stats.created, stats.unsettled) == (0, 4)  # counted, since they may exist
            await asyncio.sleep(latency_s)


@pytest.mark.parametrize("fault", ["create:*:503:retry_after_s=600", "create:*:lost_before"])
async def test_close_does_not_wait_for_creations_that_rest(fault: str) -> None:
    async with house(policy=AgentPolicy(min_idle=3), faults=[fault]) as home:
        # Far enough into the pauses that an attempt is not always about to be made.
        await asyncio.sleep(120)
        assert home.stats.creating == 3
        begun, asked = now(), home.emu.requests("create")
        await home.pool.aclose(timeout=10)
        assert now() - begun < 1
        stats = home.pool.stats()
        conserve(stats)
        assert (stats.creating, stats.created) == (0, 0)
        assert home.emu.requests("create") - asked <= 1


async def test_close_twice_and_at_once_is_harmless() -> None:
    async with house() as home:
        held = await home.lease()
        both = [asyncio.create_task(home.pool.aclose(timeout=5)) for _ in range(2)]
        await asyncio.sleep(1)
        await held.release()
        await asyncio.gather(*both)
        await home.pool.aclose()


@pytest.mark.parametrize("scope", [False, True])
async def test_a_close_that_is_cancelled_goes_on_by_itself(scope: bool) -> None:
    async with house(policy=AgentPolicy(min_idle=2)) as home:
        await home.pool.ready(10)
        held = await home.lease()
        if scope:
            with anyio.move_on_after(2) as cancelled:
                await home.pool.aclose(timeout=10)
            assert cancelled.cancelled_caught
        else:
            closing = asyncio.create_task(home.pool.aclose(timeout=10))
            await asyncio.sleep(2)
            closing.cancel()
            assert isinstance(await outcome(closing), asyncio.CancelledError)
        with pytest.raises(PoolClosed):
            home.pool.acquire(home.agent)
        await held.release()
        await home.pool.aclose()
        assert not [rid for rid in home.emu.sessions if home.emu.is_alive(rid)][1:]


async def test_close_while_the_remote_is_away_ends() -> None:
    async with house(policy=AgentPolicy(min_idle=2)) as home:
        await home.pool.ready(10)
        async with home.emu.outage():
            await home.pool.aclose(timeout=5)
        assert now() < 20
        conserve(home.pool.stats())


async def test_close_while_the_remote_hangs_ends() -> None:
    async with house(policy=AgentPolicy(min_idle=2)) as home:
        await home.pool.ready(10)
        home.emu.inject("delete:*:hang_before")
        await home.pool.aclose(timeout=5)
        assert now() < 20
        conserve(home.pool.stats())


async def test_close_while_the_store_is_away_ends() -> None:
    store = distant_store()
    async with Emulator() as emu:
        pool = SessionPool(url=emu.url, token=emu.token, policy=COLD, store=store)
        await pool.open()
        lease = await pool.acquire(emu.agent_rid)
        store.away = True
        await pool.aclose(timeout=5)
        assert now() < 20
        await lease.release()
        audit_is_clean(emu)


async def test_close_ends_subscriptions_and_what_was_never_opened_can_be_closed() -> None:
    async with Emulator() as emu:
        pool = SessionPool(url=emu.url, token=emu.token)
        await pool.aclose()
        with pytest.raises(PoolClosed):
            pool.acquire(emu.agent_rid)
    async with house() as home:
        subscription = home.pool.subscribe()
        await home.pool.aclose()
        assert [event async for event in subscription] == []
        async with asyncio.timeout(1):  # and who comes too late does not wait for ever
            assert [event async for event in home.pool.subscribe()] == []


async def test_a_service_users_pool_closes_with_its_renewal() -> None:
    async with Emulator() as remote:
        auth = ClientCredentials(remote.client_id, remote.client_secret)
    async with house(pool={"token": None, "auth": auth}) as home:
        lease = await home.lease()
        assert isinstance(lease, Lease)
        await lease.release()
        await asyncio.sleep(4 * 3600)
        assert home.emu.requests("token") >= 4


# ------------------------------------------------------------------------------ B28


async def test_on_memory_a_restart_knows_nothing_and_takes_nothing() -> None:
    async with Emulator() as emu:
        rids = set()
        for _ in range(2):
            async with SessionPool(url=emu.url, token=emu.token, policy=COLD) as pool:
                reply = await pool.conversation(emu.agent_rid, "a").ask("x")
                assert (reply.context, reply.replaces) == ("new", None)
                rids.add(reply.session_rid)
            conserve(pool.stats())
            assert pool.stats().created == 1
        assert len(rids) == 2


@pytest.mark.parametrize("how", ["handle", "acquire"])
async def test_the_first_conversation_on_memory_warns_once_with_the_cure(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with house() as home:
        await (await home.lease()).release()
        assert "memory://" not in caplog.text
        for key in "ab":
            if how == "handle":
                await home.ask(key)
            else:
                await (await home.lease(conversation=key)).release()
        warned = [it for it in caplog.records if "memory://" in it.message]
        assert [it.levelname for it in warned] == ["WARNING"]
        assert 'store="sqlite:///pool.db"' in warned[0].message
        assert len(warned[0].message.splitlines()) == 1


async def test_a_pool_is_opened_once() -> None:
    async with house() as home:
        with pytest.raises(PoolClosed, match="opened once"):
            await home.pool.open()
