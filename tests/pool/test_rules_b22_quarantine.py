"""B22: a session whose exchange may be going on is handed to nobody; each way out of that."""

from __future__ import annotations

import asyncio

import pytest

from session_pool import AgentPolicy, Lease, RequestLimits
from session_pool.events import QuarantineEnded, SessionDied, SessionQuarantined, SessionRetired
from tests.pool.house import House, house, outcome, spin

pytestmark = pytest.mark.looptime

PATIENT = AgentPolicy(min_idle=0, acquire_timeout_s=None, exchange_timeout_s=600)


def now() -> float:
    """Virtual seconds."""
    return asyncio.get_running_loop().time()


async def _cut_off(home: House, key: str | None = "a", *, after_s: float = 5.0) -> str:
    """An exchange is begun and its caller cancelled; the session's RID."""
    lease = await home.lease(conversation=key)
    rid = lease.rid

    async def talk() -> None:
        async with lease:
            await lease.blocking_continue(f"cut off [[{key or 'nobody'}]]")

    talking = asyncio.create_task(talk())
    await asyncio.sleep(after_s)
    talking.cancel()
    assert isinstance(await outcome(talking), asyncio.CancelledError)
    stats = home.stats
    assert (stats.quarantined, stats.leased, stats.parked, stats.idle) == (1, 0, 0, 0)
    return rid


async def _out(home: House, within_s: float) -> float:
    """Wait until nothing is in quarantine; how long that took."""
    began = now()
    await home.until(lambda: home.stats.quarantined == 0, within_s=within_s)
    await spin(3)
    return now() - began


async def test_the_trace_is_complete_and_a_conversation_goes_on() -> None:
    async with house(policy=PATIENT, exchange_latency_s=40.0) as home:
        rid = await _cut_off(home)
        assert 35 <= await _out(home, 90) <= 60
        assert home.stats.parked == 1
        assert [event.outcome for event in home.happened(QuarantineEnded)] == ["parked"]
        async with home.pool.acquire(home.agent, conversation="a", timeout=0) as lease:
            assert (lease.rid, lease.is_new) == (rid, False)


async def test_the_trace_is_complete_and_an_anonymous_one_is_retired() -> None:
    async with house(policy=PATIENT, exchange_latency_s=40.0) as home:
        rid = await _cut_off(home, None)
        await _out(home, 90)
        await asyncio.sleep(1)
        assert (home.stats.idle, home.stats.retired) == (0, 1)
        assert [event.session_rid for event in home.happened(SessionRetired)] == [rid]


async def test_the_life_that_the_exchange_gave_is_learnt() -> None:
    async with house(policy=PATIENT, exchange_latency_s=40.0, lifetime_s=3600.0) as home:
        await home.ask("a")
        await asyncio.sleep(2000)
        await _cut_off(home)
        await _out(home, 90)
        async with home.pool.acquire(home.agent, conversation="a") as lease:
            assert 3500 < lease.remaining_s() <= 3600


async def test_its_messages_grew_though_no_trace_tells() -> None:
    async with house(policy=PATIENT, exchange_latency_s=10.0) as home:
        home.emu.inject("trace:*:403")
        await _cut_off(home)
        await asyncio.sleep(30)
        took = await _out(home, 700)
        assert took < 60, took


async def test_cancel_was_accepted() -> None:
    async with house(policy=PATIENT, exchange_latency_s=300.0) as home:
        lease = await home.lease(conversation="a")
        stream = lease.streaming_continue("long [[a]]")
        pieces = aiter(stream)
        await anext(pieces)
        assert await lease.cancel() is None
        await stream.aclose()
        await lease.release()
        assert (home.stats.parked, home.stats.quarantined) == (1, 0)
        assert home.emu.requests("trace") == 0
        await home.ask("a")


async def test_the_trace_is_unknown_doubt_s_after_it_was_sent() -> None:
    """Cut off on the way there: nothing began, and after doubt_s that is believed."""
    async with house(policy=PATIENT) as home:
        async with home.emu.hold("exchange"):
            await _cut_off(home, after_s=1.0)
            took = await _out(home, 60)
        assert 28 <= took <= 32
        assert home.stats.parked == 1
        async with home.pool.acquire(home.agent, conversation="a", timeout=0) as lease:
            assert lease.is_new


async def test_a_trace_that_is_never_complete_ends_by_time() -> None:
    policy = AgentPolicy(min_idle=0, exchange_timeout_s=300)
    async with house(policy=policy, exchange_latency_s=5000.0) as home:
        await _cut_off(home)
        took = await _out(home, 400)
        assert 290 <= took <= 305
        assert home.stats.parked == 1


async def test_it_is_found_dead() -> None:
    async with house(policy=PATIENT, exchange_latency_s=40.0) as home:
        rid = await _cut_off(home)
        home.emu.expire(rid)
        await _out(home, 60)
        assert [event.session_rid for event in home.happened(SessionDied)] == [rid]
        assert home.stats.retired == 1
        reply = await home.ask("a")
        assert (reply.context, reply.replaces) == ("new", rid)


async def test_nobody_can_be_asked_and_time_ends_it() -> None:
    policy = AgentPolicy(min_idle=0, exchange_timeout_s=300, acquire_timeout_s=None)
    async with house(policy=policy, exchange_latency_s=40.0) as home:
        await _cut_off(home)
        home.emu.inject("trace:*:500", "get:*:500")
        took = await _out(home, 400)
        assert took <= 305
        home.emu.clear_faults()
        assert (await home.ask("a")).context in ("kept", "new")


async def test_looks_grow_rarer() -> None:
    async with house(policy=PATIENT, exchange_latency_s=500.0) as home:
        await _cut_off(home)
        await _out(home, 620)
        assert home.emu.requests("trace") <= 25


async def test_no_exchange_can_have_started_then_at_once() -> None:
    async with house() as home:
        with pytest.raises(ZeroDivisionError):
            async with home.pool.acquire(home.agent, conversation="a"):
                raise ZeroDivisionError
        assert (home.stats.parked, home.stats.quarantined) == (1, 0)


async def test_before_it_was_sent_no_exchange_can_have_started() -> None:
    """It waits for its turn in the budget; cancelled there, the session is free at once."""
    async with house(
        policy=PATIENT,
        pool={"limits": RequestLimits(concurrent_requests=1)},
        exchange_latency_s=20.0,
    ) as home:
        busy = asyncio.create_task(home.ask("b"))
        lease = await home.lease(conversation="a")
        await home.emu.wait_for(lambda: home.emu.in_flight("exchange"))
        talking = asyncio.create_task(lease.blocking_continue("never sent [[a]]"))
        await asyncio.sleep(1)
        talking.cancel()
        await outcome(talking)
        await lease.release()
        assert (home.stats.parked, home.stats.quarantined) == (1, 0)
        await busy


async def _breaks(lease: Lease, say: str = "") -> None:
    async with lease:
        if say:
            await lease.blocking_continue(say)
        raise ZeroDivisionError


async def test_an_error_between_two_exchanges_needs_no_quarantine() -> None:
    async with house() as home:
        lease = await home.lease(conversation="a")
        with pytest.raises(ZeroDivisionError):
            await _breaks(lease, say="said [[a]]")
        assert (home.stats.parked, home.stats.quarantined) == (1, 0)


async def test_a_block_that_breaks_after_the_rid_was_read_waits_for_a_foreign_exchange() -> None:
    """Another client may be in the middle of one, and there is no trace to ask for."""
    policy = AgentPolicy(min_idle=0, exchange_timeout_s=300)
    async with house(policy=policy) as home:
        lease = await home.lease(conversation="a")
        rid = lease.rid
        with pytest.raises(ZeroDivisionError):
            await _breaks(lease)
        assert home.stats.quarantined == 1
        await asyncio.sleep(10)
        home.emu.exchange_elsewhere(rid)
        assert await _out(home, 60) <= 20
        assert home.stats.parked == 1


async def test_a_stream_left_early_is_looked_after() -> None:
    async with house(policy=PATIENT, exchange_latency_s=60.0) as home:
        async with home.pool.conversation(home.agent, "a").stream("long [[a]]") as stream:
            async for _ in stream:
                break
        assert home.stats.quarantined == 1
        await spin(2)
        assert [event.trouble for event in home.happened(SessionQuarantined)] == ["exchange"]
        assert (await home.ask("a")).text.startswith("#2")


async def test_two_at_once_on_one_lease_are_made_one_after_the_other() -> None:
    async with house(exchange_latency_s=5.0) as home:
        lease = await home.lease(conversation="a")
        answers = await asyncio.gather(
            lease.blocking_continue("one [[a]]"), lease.blocking_continue("two [[a]]")
        )
        assert [answer.text[:2] for answer in answers] == ["#1", "#2"]
        await lease.release()


async def test_released_while_an_exchange_is_in_flight() -> None:
    async with house(policy=PATIENT, exchange_latency_s=20.0) as home:
        lease = await home.lease(conversation="a")
        talking = asyncio.create_task(lease.blocking_continue("long [[a]]"))
        await asyncio.sleep(5)
        await lease.release()
        assert (home.stats.quarantined, home.stats.parked) == (1, 0)
        await outcome(talking)
        reply = await home.ask("a")
        assert reply.text.startswith("#2")


async def test_quarantine_counts_and_holds_no_place_under_max_leased() -> None:
    policy = AgentPolicy(min_idle=0, max_leased=1, acquire_timeout_s=None)
    async with house(policy=policy, exchange_latency_s=100.0) as home:
        await _cut_off(home)
        async with home.pool.acquire(home.agent, timeout=5) as lease:
            assert isinstance(lease, Lease)
