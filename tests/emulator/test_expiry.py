"""How long sessions live, in virtual time (contract 6.2 and 6.3)."""

from __future__ import annotations

import asyncio
from datetime import datetime
from math import inf

import pytest

from tests.emulator.talk import Talk, running

pytestmark = pytest.mark.looptime


async def test_a_session_dies_at_its_estimate_and_not_before() -> None:
    async with running(lifetime_s=100) as talk:
        session = await talk.new()
        await asyncio.sleep(99.9)
        assert (await talk.get(session)).status == 200
        await asyncio.sleep(0.1)
        gone = await talk.get(session)
        assert (gone.status, gone.error) == (404, "SessionNotFound")
        assert (await talk.page()).body["data"] == []
        assert not talk.emu.is_alive(session)


async def test_an_exchange_extends_the_life_and_reading_does_not() -> None:
    async with running(lifetime_s=100) as talk:
        session = await talk.new()
        await asyncio.sleep(60)
        first = await _estimate(talk, session)
        await talk.content(session)
        await talk.say("PUT", talk.at(session, "/updateTitle"), json={"title": "t"})
        assert await _estimate(talk, session) == first
        await talk.blocking(session)
        assert (await _estimate(talk, session) - first).total_seconds() == 60
        await asyncio.sleep(99)
        assert (await talk.get(session)).status == 200


async def test_what_extends_is_a_setting() -> None:
    async with running(lifetime_s=100, extended_by=("get",)) as talk:
        session = await talk.new()
        await asyncio.sleep(60)
        await talk.blocking(session)
        await talk.get(session)
        await asyncio.sleep(60)
        assert (await talk.get(session)).status == 200
        await asyncio.sleep(60)
        await talk.blocking(session)
        await asyncio.sleep(40)
        assert (await talk.get(session)).status == 404


@pytest.mark.parametrize(
    ("error_s", "lived_s"),
    [(-30.0, 69.0), (30.0, 129.0)],
    ids=["early", "late"],
)
async def test_estimates_may_be_wrong_for_all_sessions(error_s: float, lived_s: float) -> None:
    async with running(lifetime_s=100, expiry_error_s=error_s) as talk:
        session = await talk.new()
        await asyncio.sleep(lived_s)
        assert talk.emu.is_alive(session)
        await asyncio.sleep(1)
        assert not talk.emu.is_alive(session)


async def test_sessions_may_live_for_ever() -> None:
    async with running(lifetime_s=inf) as talk:
        session = await talk.new()
        assert (await _estimate(talk, session)).year == 9999
        await asyncio.sleep(1e7)
        assert (await talk.get(session)).status == 200


@pytest.mark.parametrize(
    ("fault", "shown_s", "lived_s"),
    [
        ("create:1:early_expiry", 100, 50),
        ("create:1:early_expiry:by=10", 100, 90),
        ("create:1:late_expiry", 100, 200),
        ("create:1:wrong_estimate", 50, 100),
        ("create:1:wrong_estimate:by=-130", -30, 100),
        ("create:1:expired_at_birth", -60, 0),
    ],
)
async def test_a_fault_may_bend_the_life_of_one_session(
    fault: str, shown_s: float, lived_s: float
) -> None:
    async with running(lifetime_s=100, faults=[fault]) as talk:
        said = await talk.create()
        metadata = said.body["metadata"]
        shown = _instant(metadata["estimatedExpiresTime"]) - _instant(metadata["updatedTime"])
        assert shown.total_seconds() == shown_s
        session = said.body["rid"]
        if lived_s:
            await asyncio.sleep(lived_s - 1)
            assert (await talk.get(session)).status == 200
            await asyncio.sleep(1)
        assert (await talk.get(session)).status == 404
        other = await talk.new()
        await asyncio.sleep(99)
        assert talk.emu.is_alive(other)


async def test_an_indefinite_session_is_one_fault_away() -> None:
    async with running(lifetime_s=100, faults=["create:1:indefinite"]) as talk:
        session = await talk.new()
        await asyncio.sleep(1e6)
        assert (await talk.get(session)).status == 200


async def test_a_fault_of_an_exchange_bends_what_it_extends_by() -> None:
    async with running(lifetime_s=100, faults=["exchange:1:early_expiry:by=70"]) as talk:
        session = await talk.new()
        await talk.blocking(session)
        await asyncio.sleep(31)
        assert not talk.emu.is_alive(session)


@pytest.mark.parametrize(("how", "status"), [("survives", 200), ("dies", 404)])
async def test_a_session_whose_time_comes_while_it_answers(how: str, status: int) -> None:
    async with running(lifetime_s=10, exchange_latency_s=20, expiry_during_exchange=how) as talk:
        session = await talk.new()
        assert (await talk.blocking(session)).status == status
        assert talk.emu.is_alive(session) is (status == 200)


async def test_expired_sessions_may_answer_another_name() -> None:
    async with running(expired_error="Default:PermissionDenied") as talk:
        session = await talk.new()
        talk.emu.expire(session)
        assert (await talk.get(session)).status == 403


async def test_an_early_death_is_at_once_and_everywhere() -> None:
    async with running() as talk:
        session = await talk.new()
        talk.emu.expire(session)
        assert (await talk.get(session)).error == "SessionNotFound"
        assert (await talk.blocking(session)).error == "SessionNotFound"
        assert (await talk.page()).body["data"] == []
        assert talk.emu.audit().sessions_alive == 0


async def test_virtual_time_moves_the_servers_clock() -> None:
    async with running() as talk:
        before = talk.emu.now()
        await asyncio.sleep(3600)
        assert talk.emu.now() - before == pytest.approx(3600, abs=1e-3)
        first, second = talk.emu.sessions, await talk.new()
        assert first[second].created_at.timestamp() == pytest.approx(talk.emu.now(), abs=1e-3)


async def test_an_injected_clock_rules_expiry() -> None:
    now = [1_700_000_000.0]
    async with running(lifetime_s=100, clock=lambda: now[0]) as talk:
        session = await talk.new()
        now[0] += 99
        assert talk.emu.is_alive(session)
        now[0] += 1
        assert not talk.emu.is_alive(session)


async def _estimate(talk: Talk, session: str) -> datetime:
    return _instant((await talk.get(session)).body["metadata"]["estimatedExpiresTime"])


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)
