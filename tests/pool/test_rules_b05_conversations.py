"""B5: the same conversation, the same session, and every loss announced."""

from __future__ import annotations

import asyncio

import pytest

from session_pool import (
    AcquireTimeout,
    AgentPolicy,
    ContextLost,
    Lease,
    VersionConflict,
)
from session_pool.events import ConversationReplaced
from tests.pool.house import LEFT, House, house, outcome, spin

pytestmark = pytest.mark.looptime

HOUR_S = 3600.0


async def test_it_gets_its_own_session_while_that_lives() -> None:
    async with house() as home:
        replies = [await home.ask("a") for _ in range(4)]
        assert len({reply.session_rid for reply in replies}) == 1
        assert [reply.context for reply in replies] == ["new", "kept", "kept", "kept"]
        assert {(reply.generation, reply.replaces) for reply in replies} == {(1, None)}


async def test_of_two_acquires_one_gets_it_and_the_other_waits_for_that_same_one() -> None:
    async with house(create_latency_s=1.0) as home:
        first = await home.lease(conversation="a")
        second = asyncio.create_task(home.lease(conversation="a"))
        await asyncio.sleep(50)
        assert not second.done()
        rid = first.rid
        await first.blocking_continue("one [[a]]")
        await first.release()
        lease = await second
        assert (lease.rid, lease.is_new) == (rid, False)
        assert lease.fence > first.fence
        await lease.release()
        assert home.emu.requests("create") == 1


async def test_while_it_is_quarantined_they_wait_for_the_verdict() -> None:
    async with house(exchange_latency_s=20.0) as home:
        asking = asyncio.create_task(home.ask("a", "long"))
        await asyncio.sleep(5)
        asking.cancel()
        await outcome(asking)
        assert home.stats.quarantined == 1
        waiting = [asyncio.create_task(home.ask("a", f"next {n}")) for n in range(3)]
        await asyncio.sleep(14)
        assert home.stats.created == 1
        assert not home.emu.in_flight("create")
        replies = [await task for task in waiting]
        assert [reply.context for reply in replies] == ["kept"] * 3
        assert [reply.text[:2] for reply in replies] == ["#2", "#3", "#4"]


async def test_a_timeout_while_it_is_quarantined_says_so() -> None:
    async with house(exchange_latency_s=100.0) as home:
        asking = asyncio.create_task(home.ask("a", "long"))
        await asyncio.sleep(5)
        asking.cancel()
        await outcome(asking)
        with pytest.raises(AcquireTimeout) as caught:
            await home.lease(conversation="a", timeout=10)
        assert caught.value.phase == "conversation"


async def test_generations_count_and_reasons_are_named() -> None:
    policy = AgentPolicy(min_idle=0, park_timeout_s=600)
    async with house(policy=policy, dirty=LEFT) as home:
        rids = [(await home.ask("a")).session_rid]
        await asyncio.sleep(700)
        async with home.pool.acquire(home.agent, conversation="a") as lease:
            assert (lease.generation, lease.replaces) == (2, rids[0])
            assert lease.replace_reason == "park_timeout"
            await lease.blocking_continue("said [[a]]")
            rids.append(lease.rid)
        await home.pool.conversation(home.agent, "a").start_over()
        async with home.pool.acquire(home.agent, conversation="a") as lease:
            assert (lease.generation, lease.replaces) == (3, rids[1])
            assert lease.replace_reason == "start_over"
            assert not lease.context_is_lost


async def test_a_loss_is_a_warning_and_an_event(caplog: pytest.LogCaptureFixture) -> None:
    async with house(lifetime_s=HOUR_S) as home:
        old = await home.ask("a-very-private-name")
        await asyncio.sleep(HOUR_S + 100)
        with caplog.at_level("WARNING", logger="session_pool"):
            new = await home.ask("a-very-private-name")
        (event,) = home.happened(ConversationReplaced)
        assert (event.session_rid, event.replaces) == (new.session_rid, old.session_rid)
        assert (event.generation, event.reason, event.lost) == (2, "gone", True)
        warned = [it for it in caplog.records if "ConversationReplaced" in it.message]
        assert len(warned) == 1
        assert "a-very-private-name" not in caplog.text


async def test_a_session_nobody_talked_in_is_no_loss() -> None:
    async with house(lifetime_s=HOUR_S) as home:
        async with home.pool.acquire(home.agent, conversation="a"):
            pass
        await asyncio.sleep(HOUR_S + 100)
        reply = await home.ask("a")
        assert (reply.context, reply.generation) == ("new", 2)


async def test_context_lost_raise_stops_each_exchange_until_start_over() -> None:
    policy = AgentPolicy(min_idle=0, context_lost="raise")
    async with house(policy=policy, lifetime_s=HOUR_S) as home:
        await home.ask("a")
        await asyncio.sleep(HOUR_S + 100)
        async with home.pool.acquire(home.agent, conversation="a") as lease:
            rid = lease.rid
            with pytest.raises(ContextLost, match="gone"):
                await lease.blocking_continue("x [[a]]")
            with pytest.raises(ContextLost):
                [piece async for piece in lease.streaming_continue("x [[a]]")]
        with pytest.raises(ContextLost):
            async with home.pool.conversation(home.agent, "a").stream("x [[a]]") as stream:
                [piece async for piece in stream]
        async with home.pool.acquire(home.agent, conversation="a") as lease:
            await lease.start_over()
            assert lease.rid == rid  # nobody talked in it: it will do
            await lease.blocking_continue("x [[a]]")
        assert (await home.ask("a")).context == "kept"
        assert home.emu.audit().exchanges == 3


async def test_a_loss_stays_one_through_however_many_sessions() -> None:
    async with house(lifetime_s=HOUR_S) as home:
        await home.ask("a")
        for _ in range(3):
            await asyncio.sleep(HOUR_S + 100)
            async with home.pool.acquire(home.agent, conversation="a") as lease:
                assert lease.context_is_lost
        assert (await home.ask("a")).context == "lost"


async def test_what_was_is_remembered_for_remember_s() -> None:
    policy = AgentPolicy(min_idle=0, park_timeout_s=60, remember_s=1000)
    async with house(policy=policy, dirty=LEFT) as home:
        await home.ask("a")
        await home.ask("b")
        await asyncio.sleep(900)
        assert (await home.ask("a")).context == "lost"
        await asyncio.sleep(300)
        reply = await home.ask("b")
        assert (reply.context, reply.generation, reply.replaces) == ("new", 1, None)


async def test_with_nothing_remembered_nothing_is_announced() -> None:
    policy = AgentPolicy(min_idle=0, park_timeout_s=60, remember_s=0)
    async with house(policy=policy, dirty=LEFT) as home:
        await home.ask("a")
        await asyncio.sleep(120)
        assert (await home.ask("a")).context == "new"


async def test_max_parked_counts_memories_and_the_oldest_leaves_first() -> None:
    policy = AgentPolicy(min_idle=0, max_parked=3)
    async with house(policy=policy, dirty=LEFT) as home:
        for name in "abcde":
            await home.ask(name)
            await asyncio.sleep(10)
        await asyncio.sleep(5)
        assert home.stats.parked <= 3
        assert (await home.ask("e")).context == "kept"
        await asyncio.sleep(5)
        assert (await home.ask("a")).context in ("lost", "new")


async def test_another_version_than_its_sessions_is_a_conflict() -> None:
    async with house() as home:
        await home.ask("a")
        home.emu.publish(home.emu.agent_rid)
        with pytest.raises(VersionConflict, match="agent_version"):
            await home.lease(conversation="a", agent_version="2.0")
        async with home.pool.acquire(home.agent, conversation="a", agent_version="1.0") as lease:
            assert lease.agent_version == "1.0"
        assert (await home.ask("a")).context == "kept"


async def test_who_waits_for_a_conversation_of_another_version_is_told_too() -> None:
    async with house(agents=None) as home:
        home.emu.publish(home.emu.agent_rid)
        held = await home.lease(conversation="a", agent_version="1.0")
        waiting = asyncio.create_task(home.lease(conversation="a", agent_version="2.0"))
        await spin(5)
        await held.release()
        assert isinstance(await outcome(waiting), VersionConflict)


async def test_a_conversation_keeps_its_version_and_new_ones_get_the_latest() -> None:
    async with house() as home:
        await home.ask("a")
        home.emu.publish(home.emu.agent_rid)
        await home.ask("b")
        async with home.pool.acquire(home.agent, conversation="b") as lease:
            assert lease.agent_version == "2.0"
        async with home.pool.acquire(home.agent, conversation="a") as lease:
            assert lease.agent_version == "1.0"


async def test_start_over_with_a_living_session_takes_a_new_one() -> None:
    async with house(dirty=LEFT) as home:
        first = await home.ask("a")
        await home.pool.conversation(home.agent, "a").start_over()
        again = await home.ask("a")
        assert again.session_rid != first.session_rid
        assert (again.context, again.generation) == ("new", 2)
        assert not home.stats.leased


async def test_forget_drops_binding_and_memory() -> None:
    async with house(dirty=LEFT) as home:
        first = await home.ask("a")
        talk = home.pool.conversation(home.agent, "a")
        await talk.forget()
        await talk.forget()  # nothing there: nothing to do
        reply = await home.ask("a")
        assert (reply.context, reply.generation, reply.replaces) == ("new", 1, None)
        assert home.emu.is_alive(first.session_rid)
        await talk.forget(delete_remote=True)
        await asyncio.sleep(1)
        assert not home.emu.is_alive(reply.session_rid)
        assert (await home.ask("a")).context == "new"


async def test_forget_waits_for_the_turn_in_progress() -> None:
    async with house(exchange_latency_s=10.0, dirty=LEFT) as home:
        asking = asyncio.create_task(home.ask("a"))
        await asyncio.sleep(2)
        forgetting = asyncio.create_task(home.pool.conversation(home.agent, "a").forget())
        reply = await asking
        await forgetting
        assert (await home.ask("a")).session_rid != reply.session_rid


async def test_a_tuple_is_a_name_and_not_the_same_as_its_parts_joined() -> None:
    async with house() as home:
        one = await _rid(home, ("slack", "C42"))
        assert await _rid(home, ("slack", "C42")) == one
        assert await _rid(home, "slackC42") != one
        assert await _rid(home, ("slackC42",)) != one


async def _rid(home: House, key: str | tuple[str, ...]) -> str:
    async with home.pool.acquire(home.agent, conversation=key) as lease:
        return lease.rid


async def test_an_agent_of_its_own_has_conversations_of_its_own() -> None:
    async with house() as home:
        other = "ri.aip-agents..agent.00000000-0000-4000-8000-00000000000c"
        one = await home.ask("a")
        two = await home.pool.conversation(other, "a").ask("x [[a]]")
        assert one.session_rid != two.session_rid
        assert two.context == "new"


async def test_who_waits_in_line_is_served_strictly_in_line() -> None:
    async with house() as home:
        held = await home.lease(conversation="a")
        order: list[int] = []

        async def turn(n: int) -> None:
            async with home.pool.acquire(home.agent, conversation="a"):
                order.append(n)
                await asyncio.sleep(1)

        tasks = []
        for n in range(10):
            tasks.append(asyncio.create_task(turn(n)))
            await asyncio.sleep(0.01)
        await held.release()
        await asyncio.gather(*tasks)
        assert order == list(range(10))


async def test_a_lease_says_what_it_is() -> None:
    async with house() as home:
        lease: Lease = await home.lease(conversation="a")
        assert (lease.conversation, lease.principal) == ("a", "default")
        assert (lease.agent_rid, lease.agent_version) == (home.emu.agent_rid, "1.0")
        assert (lease.is_new, lease.generation, lease.replaces) == (True, 1, None)
        assert lease.session.rid == lease.rid
        assert len(lease.lease_id) >= 12
        assert not lease.lost.is_set()
        await lease.release()
