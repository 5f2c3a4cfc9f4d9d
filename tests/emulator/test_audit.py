"""The audit: each counter stays still while promises are kept, and counts when one is broken."""

from __future__ import annotations

import asyncio
from dataclasses import FrozenInstanceError

import aiohttp
import pytest

from tests.emulator.talk import running

pytestmark = pytest.mark.looptime


async def test_a_well_behaved_client_breaks_nothing() -> None:
    async with running() as talk:
        first, second = await talk.new(), await talk.new()
        for turn in range(3):
            await talk.blocking(first, f"turn {turn} [[a]]")
            await talk.stream(second, f"turn {turn} [[b]]")
        await talk.delete(first)
        await talk.blocking(await talk.new(), "turn 4 [[a]]")
        audit = talk.emu.audit()
    assert audit.sessions_created == 3
    assert audit.sessions_deleted == 1
    assert audit.sessions_alive == 2
    assert audit.exchanges == audit.exchanges_recorded == 7
    assert audit.exchanges_on_dead_sessions == 0
    assert audit.overlapping_exchanges == 0
    assert audit.sessions_with_two_marks == 0
    assert audit.turns_that_lost_a_living_session == 0
    assert audit.double_begun_texts == 0
    assert audit.max_creates_in_flight == 1
    assert audit.requests == 11
    assert audit.requests_by_operation == {
        "create": 3,
        "blocking_continue": 4,
        "streaming_continue": 3,
        "delete": 1,
    }
    assert audit.errors_by_name == {}
    assert audit.answers_lost == audit.clients_gone == audit.throttled == 0
    with pytest.raises(FrozenInstanceError):
        audit.requests = 0  # type: ignore[misc]  # that it cannot be done is the point


async def test_continues_on_dead_sessions_count_if_they_are_the_owners() -> None:
    async with running(lifetime_s=100) as talk:
        expired, deleted, killed = await talk.new(), await talk.new(), await talk.new()
        await talk.delete(deleted)
        talk.emu.expire(killed)
        await talk.blocking(deleted)
        await talk.blocking(killed)
        await asyncio.sleep(100)
        await talk.blocking(expired)
        assert talk.emu.audit().exchanges_on_dead_sessions == 3
        await talk.by("stranger").blocking(expired)
        await talk.blocking("ri.aip-agents..session.unheard-of")
        assert talk.emu.audit().exchanges_on_dead_sessions == 3
        assert talk.emu.audit().exchanges == 0


@pytest.mark.parametrize("mode", ["reject", "interleave", "serialise"])
async def test_overlapping_exchanges_count_in_every_mode(mode: str) -> None:
    async with running(concurrent_continue=mode, exchange_latency_s=1) as talk:
        session = await talk.new()
        await asyncio.gather(talk.blocking(session, "a"), talk.blocking(session, "b"))
        await talk.blocking(session, "c")
        assert talk.emu.audit().overlapping_exchanges == 1


async def test_a_session_that_sees_two_conversations_counts_once() -> None:
    async with running() as talk:
        session = await talk.new()
        await talk.blocking(session, "x [[a]]")
        await talk.blocking(session, "unmarked")
        assert talk.emu.audit().sessions_with_two_marks == 0
        await talk.blocking(session, "y [[b]]")
        await talk.blocking(session, "z [[c]]")
        assert talk.emu.audit().sessions_with_two_marks == 1
        assert talk.emu.sessions[session].marks == ["a", "b", "c"]


async def test_a_turn_that_left_a_living_session_counts() -> None:
    async with running(lifetime_s=100) as talk:
        first, second, third = await talk.new(), await talk.new(), await talk.new()
        await talk.blocking(first, "one [[a]]")
        await talk.blocking(second, "two [[a]]")
        assert talk.emu.audit().turns_that_lost_a_living_session == 1
        talk.emu.expire(second)
        await talk.blocking(third, "three [[a]]")
        assert talk.emu.audit().turns_that_lost_a_living_session == 1
        await asyncio.sleep(100)
        await talk.blocking(await talk.new(), "four [[a]]")
        await talk.by("other").blocking(await talk.by("other").new(), "five [[a]]")
        assert talk.emu.audit().turns_that_lost_a_living_session == 1


async def test_a_text_begun_twice_counts_and_one_refused_before_does_not() -> None:
    async with running(faults=["exchange:1:503", "exchange:2:lost_during"]) as talk:
        session, other = await talk.new(), await talk.new()
        assert (await talk.blocking(session, "pay [[a]]")).status == 503
        with pytest.raises(aiohttp.ClientError):
            await talk.blocking(session, "pay [[a]]")
        assert talk.emu.audit().double_begun_texts == 0
        await talk.blocking(other, "pay [[a]]")
        assert talk.emu.audit().double_begun_texts == 1
        await talk.blocking(other, "pay [[b]]")
        assert talk.emu.audit().double_begun_texts == 1


async def test_creations_at_once_are_counted_at_their_most() -> None:
    async with running(create_latency_s=1) as talk:
        await asyncio.gather(*(talk.create() for _ in range(5)))
        await talk.create()
        audit = talk.emu.audit()
        assert audit.max_creates_in_flight == 5
        assert audit.max_in_flight == {"create": 5}


async def test_a_creation_whose_client_has_gone_is_in_flight_until_the_server_is_done() -> None:
    async with running(create_latency_s=10) as talk:
        call = asyncio.create_task(talk.create())
        await talk.emu.wait_for(lambda: talk.emu.in_flight("create") == 1)
        call.cancel()
        await asyncio.wait([call])
        await talk.create()
        assert talk.emu.audit().max_creates_in_flight == 2
        assert talk.emu.audit().clients_gone == 1
        assert len(talk.emu.sessions) == 2


async def test_calls_are_remembered_and_only_so_many() -> None:
    async with running(calls_kept=2) as talk:
        session = await talk.new()
        await talk.get(session)
        await talk.get("ri.aip-agents..session.none")
        last = talk.emu.calls[-1]
        assert [call.op for call in talk.emu.calls] == ["get", "get"]
        assert (last.status, last.error, last.outcome) == (404, "SessionNotFound", "answered")
        assert last.agent_rid == talk.agent
        assert talk.emu.requests("get") == 2
        assert talk.emu.requests("api") == 3
