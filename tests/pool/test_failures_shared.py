"""Shared, and told to nobody: how other pools failed between tasks, loops and processes."""

from __future__ import annotations

import asyncio
import os

import pytest

from session_pool import (
    AcquireTimeout,
    AgentPolicy,
    ContextLost,
    Conversation,
    PoolClosed,
    RemoteRejected,
    SessionPool,
)
from session_pool.emulator import Emulator
from session_pool.events import (
    ConversationReplaced,
    LeaseEnded,
    SessionRetired,
    StoreAway,
    StoreBack,
    TaskRestarted,
)
from tests.pool.house import (
    COLD,
    LEFT,
    OTHER_RID,
    conserve,
    distant_store,
    house,
    outcome,
    spin,
)

pytestmark = pytest.mark.looptime

DAY_S = 86_400.0


# ------------------------------------------------------------------------------ shared


@pytest.mark.parametrize("distant", [False, True])
async def test_openai_agents_pr3821_two_first_turns_make_one_conversation(distant: bool) -> None:
    given = {"store": distant_store()} if distant else {}
    async with house(pool=given, create_latency_s=1.0, exchange_latency_s=1.0) as home:
        first, second = await asyncio.gather(home.ask("a", "first"), home.ask("a", "second"))
        assert first.session_rid == second.session_rid
        assert [first.context, second.context] == ["new", "kept"]
        assert home.emu.requests("create") == 1


async def test_openai_agents_pr3821_the_creator_fails_and_a_waiter_takes_over() -> None:
    async with house(create_latency_s=1.0, faults=["create:1:hang_before"]) as home:
        first = asyncio.create_task(home.ask("a", "first"))
        await spin(5)
        second = asyncio.create_task(home.ask("a", "second"))
        await asyncio.sleep(0.5)
        first.cancel()
        assert isinstance(await outcome(first), asyncio.CancelledError)
        assert (await second).context == "new"
        assert home.stats.unsettled == 1
        assert home.stats.created == 1


async def test_agenta_6530_one_store_error_does_not_end_the_sweeper_or_the_owner() -> None:
    store = distant_store()
    async with house(
        policy=AgentPolicy(min_idle=2),
        pool={"store": store},
        lifetime_s=7200.0,
    ) as home:
        await home.pool.ready(10)
        lease = await home.lease()
        store.fail("due", "before")
        store.fail("renew", "before")
        store.fail("put", "before")
        await lease.blocking_continue("the owner goes on")
        await asyncio.sleep(2 * 7200)
        assert store.mishaps_left == 0
        assert not home.happened(TaskRestarted)
        assert not home.happened(LeaseEnded)
        assert len(home.happened(StoreAway)) == len(home.happened(StoreBack)) > 0
        assert home.stats.idle == 2
        async with home.pool.acquire(home.agent, timeout=0) as other:
            assert other.remaining_s() > 300
        await lease.release()


def test_gunicorn_1953_a_pool_made_before_a_fork_says_so() -> None:
    async def parent() -> int:
        async with Emulator() as emu:
            pool = SessionPool(url=emu.url, token=emu.token, policy=COLD)
            await pool.open()
            reading, writing = os.pipe()
            if (child := os.fork()) == 0:
                told = b"nothing"
                try:
                    pool.acquire(emu.agent_rid)
                except PoolClosed as error:
                    told = str(error).encode()
                os.write(writing, told)
                os._exit(0)
            os.waitpid(child, 0)  # noqa: ASYNC222  # the child does one thing and is gone
            os.close(writing)
            with os.fdopen(reading, "rb") as pipe:
                assert b"before a fork" in pipe.read()
            async with pool.acquire(emu.agent_rid) as lease:  # and the parent's goes on
                lease.mark_unused()
            await pool.aclose()
            conserve(pool.stats())
            return pool.stats().created

    assert asyncio.run(parent()) == 1


def test_redis_py_3351_a_pool_in_another_event_loop_says_so() -> None:
    async def elsewhere(pool: SessionPool, agent: str, talk: Conversation) -> None:
        for use in (
            lambda: pool.acquire(agent),
            lambda: pool.conversation(agent, "a"),
        ):
            with pytest.raises(PoolClosed, match="another event loop"):
                use()
        for call in (pool.aclose(), talk.ask("x"), talk.start_over(), talk.forget()):
            with pytest.raises(PoolClosed, match="this pool was opened in another event loop"):
                await call

    async def main() -> None:
        async with (
            Emulator() as emu,
            SessionPool(url=emu.url, token=emu.token, policy=COLD) as pool,
        ):
            talk = pool.conversation(OTHER_RID, "a")
            await asyncio.to_thread(asyncio.run, elsewhere(pool, emu.agent_rid, talk))
            assert pool.stats().created == 0
            async with pool.acquire(emu.agent_rid) as lease:
                lease.mark_unused()

    asyncio.run(main())


# ------------------------------------------------------------------------------ told nobody


async def test_hermes_agent_43008_a_replaced_conversation_is_announced_everywhere() -> None:
    async with house(lifetime_s=3600.0) as home:
        before = await home.ask("a")
        await asyncio.sleep(3700)
        async with home.pool.acquire(home.agent, conversation="a") as lease:
            assert lease.is_new
            assert (lease.generation, lease.replaces) == (2, before.session_rid)
            assert lease.replace_reason == "gone"
        after = await home.ask("a")
        assert (after.context, after.generation) == ("lost", 2)
        assert after.replaces == before.session_rid
        (event,) = home.happened(ConversationReplaced)
        assert (event.replaces, event.reason, event.lost) == (before.session_rid, "gone", True)
        assert (await home.ask("a")).context == "kept"


async def test_hermes_agent_43008_who_asks_for_it_is_stopped() -> None:
    policy = AgentPolicy(min_idle=0, context_lost="raise")
    async with house(policy=policy, lifetime_s=3600.0) as home:
        await home.ask("a")
        await asyncio.sleep(3700)
        talk = home.pool.conversation(home.agent, "a")
        for _ in range(2):
            with pytest.raises(ContextLost, match="start_over"):
                await home.ask("a")
        await talk.start_over()
        assert (await home.ask("a")).context == "new"
        assert (await home.ask("a")).context == "kept"


async def test_agentcore_48_nothing_of_the_pool_keeps_a_session_alive_for_ever() -> None:
    async with house(lifetime_s=7200.0, extended_by=("exchange", "get", "content")) as home:
        await home.ask("a")
        async with home.pool.acquire(home.agent) as lease:
            lease.mark_unused()
        requests = home.emu.audit().requests
        await asyncio.sleep(1.9 * 7200)
        looks = home.emu.audit().requests - requests
        assert looks <= 12  # of the idle one; a parked conversation is left in peace
        (talked,) = [it for it in home.emu.sessions.values() if it.marks]
        assert not home.emu.is_alive(talked.rid)
        await asyncio.sleep(DAY_S)
        assert home.stats.idle == home.stats.parked == 0


async def test_agentcore_498_who_holds_what_can_be_seen() -> None:
    policy = AgentPolicy(min_idle=0, max_leased=2)
    async with house(policy=policy) as home:
        oldest = await home.pool.acquire(home.agent)
        await asyncio.sleep(3600)
        other = await home.pool.acquire(home.agent)
        with pytest.raises(AcquireTimeout) as caught:
            await home.lease(timeout=1)
        assert [held.rsplit(", ", 1)[1] for held in caught.value.holders] == [
            "held for 3601 s",
            "held for 1 s",
        ]
        assert all(__file__ in held for held in caught.value.holders)
        assert (caught.value.phase, caught.value.capped_by) == ("line", "max_leased")
        await oldest.release()
        await other.release()


async def test_multica_6402_a_conversation_that_outgrew_its_context_is_not_resumed() -> None:
    async with house(context_limit=2, dirty=LEFT) as home:
        first = await home.ask("a")
        await home.ask("a")
        with pytest.raises(RemoteRejected) as caught:
            await home.ask("a", "one too many")
        assert caught.value.error_name == "ContextSizeExceededLimit"
        assert caught.value.__class__.retryable is False
        await spin(2)
        (retired,) = home.happened(SessionRetired)
        assert retired.reason == "context_size"
        again = await home.ask("a", "shorter")
        assert (again.context, again.replaces) == ("lost", first.session_rid)
        (event,) = home.happened(ConversationReplaced)
        assert event.reason == "context_size"


async def test_open_streams_do_not_hold_up_the_close() -> None:
    async with house(exchange_latency_s=500.0, dirty=LEFT) as home:

        async def listen() -> None:
            async with home.pool.conversation(home.agent, "a").stream("long [[a]]") as stream:
                async for _ in stream:
                    pass

        listening = asyncio.create_task(listen())
        await home.emu.wait_for(lambda: home.emu.in_flight("exchange"))
        await asyncio.sleep(5)
        began = asyncio.get_running_loop().time()
        await home.pool.aclose(timeout=3)
        assert asyncio.get_running_loop().time() - began < 5
        assert isinstance(await outcome(listening), Exception)
