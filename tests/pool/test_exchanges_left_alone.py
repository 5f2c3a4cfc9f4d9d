"""Exchanges whose end nobody sees, and what becomes of their sessions (B5, B22, B25, B30)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from typing import TypeVar

import pytest

from session_pool import AcquireTimeout, AgentPolicy, ExchangeUncertain, RemoteUnavailable
from session_pool.events import SessionDeleted, SessionRetired
from tests.pool.house import LEFT, House, house, outcome, spin

pytestmark = pytest.mark.looptime

T = TypeVar("T")


def now() -> float:
    """Virtual seconds."""
    return asyncio.get_running_loop().time()


async def streamed(home: House, key: str, timeout: float | None = None) -> str:
    """One streamed turn of a conversation; its whole text."""
    async with home.pool.conversation(home.agent, key).stream(
        home.words(key), timeout=timeout
    ) as stream:
        async for _ in stream:
            pass
    return stream.reply.text


# ------------------------------------------------------------------ the look at an outcome fails


@pytest.mark.parametrize("fault", ["trace:*:401", "trace:*:empty_404", "content:*:empty_404"])
async def test_what_cannot_be_looked_up_is_uncertain_and_not_over(fault: str) -> None:
    faults = ["exchange:1:lost_during", fault]
    async with house(exchange_latency_s=20.0, faults=faults) as home:
        lost = await outcome(home.ask("a", timeout=60))
        assert isinstance(lost, ExchangeUncertain)
        assert lost.trace_id
        assert lost.__cause__ is not None
        assert (home.stats.quarantined, home.stats.parked) == (1, 0)
        home.emu.clear_faults()
        assert (await home.ask("a", timeout=60)).context == "kept"
        assert home.emu.audit().overlapping_exchanges == 0


async def test_an_exchange_cut_off_by_the_close_is_uncertain() -> None:
    async with house(exchange_latency_s=30.0) as home:
        asking = asyncio.create_task(home.ask("a"))
        await asyncio.sleep(1)
        await home.pool.aclose(timeout=0.1)
        assert isinstance(await outcome(asking), ExchangeUncertain)


@pytest.mark.parametrize("kind", ["401", "empty_404", "403", "malformed"])
async def test_a_streamed_answer_is_there_whatever_becomes_of_its_details(kind: str) -> None:
    async with house(faults=[f"content:*:{kind}"]) as home:
        assert (await streamed(home, "a")).startswith("#1")
        home.emu.clear_faults()
        assert (await home.ask("a")).context == "kept"


async def test_a_streamed_answer_does_not_wait_for_its_details_while_the_remote_is_silenced() -> (
    None
):
    async with house(exchange_latency_s=5.0) as home:
        asking = asyncio.create_task(streamed(home, "a", timeout=30))
        await asyncio.sleep(2)
        home.emu.inject("create:*:429:retry_after=1000")
        assert isinstance(await outcome(home.lease(timeout=1)), AcquireTimeout)
        assert (await asking).startswith("#1")
        assert now() <= 32
        home.emu.clear_faults()


# ------------------------------------------------------------------ a stream that is stopped


async def stop(home: House, response: str | None) -> None:
    """The first turn of a conversation, stopped by its reader, who looks no further."""
    async with home.pool.conversation(home.agent, "a").stream(home.words("a")) as stream:
        async for _ in stream:
            await stream.cancel(response)
            break


async def test_a_stopped_turn_whose_answer_stands_is_part_of_the_conversation() -> None:
    async with house(exchange_latency_s=60.0) as home:
        await stop(home, "enough")
        assert home.stats.parked == 1
        reply = await home.ask("a")
        assert (reply.context, reply.text[:2]) == ("kept", "#2")


async def test_a_stopped_turn_of_which_nothing_stands_is_not() -> None:
    async with house(exchange_latency_s=60.0) as home:
        await stop(home, None)
        assert (await home.ask("a")).context == "new"


async def test_a_stopped_turn_that_is_read_to_its_end_counts_once() -> None:
    async with house(exchange_latency_s=60.0) as home:
        lease = await home.lease(conversation="a")
        stream = lease.streaming_continue("long [[a]]")
        await anext(stream)
        await lease.cancel("enough")
        async for _ in stream:
            pass
        assert lease.session.message_count == 2
        await lease.release()
        assert (await home.ask("a")).context == "kept"


# ------------------------------------------------------------------ left in the middle


@pytest.mark.parametrize("how", ["a stream", "an uncertain one"])
async def test_a_session_left_in_the_middle_of_an_exchange_is_somebodys_record(how: str) -> None:
    async with house(exchange_latency_s=65.0, dirty=LEFT) as home:
        lease = await home.lease(conversation="a")
        (rid,) = home.emu.sessions
        if how == "a stream":
            stream = lease.streaming_continue("hello [[a]]", timeout=100)
            reading = asyncio.create_task(outcome(anext(stream)))
            await asyncio.sleep(1)
            reading.cancel()
            await outcome(reading)
        else:
            home.emu.inject("exchange:1:lost_during")
            left = await outcome(lease.blocking_continue("hello [[a]]", timeout=2))
            assert isinstance(left, ExchangeUncertain)
        began = now()
        await lease.start_over()
        (retired,) = home.happened(SessionRetired)
        assert (retired.session_rid, retired.reason) == (rid, "start_over")
        await home.until(lambda: home.stats.retiring == 0)
        assert now() - began <= 1.0
        await asyncio.sleep(100)
        assert home.emu.is_alive(rid)
        assert not home.happened(SessionDeleted)
        await lease.release()


@pytest.mark.parametrize("conversation", [None, "a"])
async def test_a_session_whose_rid_was_given_out_is_not_deleted_as_unused(
    conversation: str | None,
) -> None:
    policy = AgentPolicy(min_idle=0, park_timeout_s=100.0, reuse="anyone")
    async with house(policy=policy) as home:
        async with home.pool.acquire(home.agent, conversation=conversation) as lease:
            home.emu.exchange_elsewhere(rid := lease.rid)  # by the caller's own client
        await asyncio.sleep(300)
        await home.pool.aclose()
        assert home.emu.is_alive(rid)
        assert not home.happened(SessionDeleted)


async def test_one_that_a_look_has_shown_to_be_unused_is() -> None:
    async with house() as home:
        lease = await home.lease()
        rid = lease.rid
        await lease.release(unused=True)
        await home.until(lambda: home.stats.idle == 1)
        await home.pool.aclose()
        assert not home.emu.is_alive(rid)


# ------------------------------------------------------------------ two tasks, one lease


def reader(pieces: AsyncIterable[str]) -> asyncio.Task[str]:
    """A task that reads a stream to its end."""

    async def read() -> str:
        return "".join([piece async for piece in pieces])

    return asyncio.create_task(read())


async def leave(
    holding: AbstractAsyncContextManager[T], pieces_of: Callable[[T], AsyncIterable[str]]
) -> asyncio.Task[str]:
    """Leave a block by an error while another task reads the stream in it; that task."""
    reading: asyncio.Task[str] | None = None
    with suppress(ZeroDivisionError):  # and nothing else
        async with holding as held:
            reading = reader(pieces_of(held))
            await asyncio.sleep(1)
            raise ZeroDivisionError
    assert reading is not None
    return reading


async def test_a_release_while_another_task_reads_hides_nothing_and_leaves_it_to_read() -> None:
    async with house(exchange_latency_s=30.0) as home:
        holding = home.pool.acquire(home.agent, conversation="a")
        reading = await leave(holding, lambda lease: lease.streaming_continue("long [[a]]"))
        assert (home.stats.quarantined, home.stats.parked) == (1, 0)
        assert (await reading).startswith("#1")
        assert (await home.ask("a")).context == "kept"


async def test_a_handle_left_while_another_task_reads_hides_nothing() -> None:
    async with house(exchange_latency_s=30.0) as home:
        talk = home.pool.conversation(home.agent, "a")
        reading = await leave(talk.stream("long [[a]]"), lambda stream: stream)
        assert (await reading).startswith("#1")
        assert (await home.ask("a")).context == "kept"


async def test_waiting_for_the_exchange_before_counts_as_time() -> None:
    async with house(exchange_latency_s=50.0) as home:
        lease = await home.lease(conversation="a")
        first = asyncio.create_task(lease.blocking_continue("x [[a]]"))
        await asyncio.sleep(1)
        late = await outcome(lease.blocking_continue("y [[a]]", timeout=2))
        assert isinstance(late, RemoteUnavailable)
        assert not late.sent
        assert now() == pytest.approx(3.0, abs=0.1)
        await first
        in_time = asyncio.create_task(lease.blocking_continue("z [[a]]", timeout=120))
        third = asyncio.create_task(lease.blocking_continue("w [[a]]", timeout=120))
        assert (await in_time).text.startswith("#2")
        assert (await third).text.startswith("#3")
        await lease.release()
        assert home.stats.parked == 1


# ------------------------------------------------------------------ time, and what is forgotten


@pytest.mark.parametrize("how", ["blocking", "streaming"])
async def test_going_on_in_a_new_session_is_bounded_by_the_callers_timeout(how: str) -> None:
    async with house(dirty=(*LEFT, "exchanges_on_dead_sessions")) as home:
        home.emu.expire((await home.ask("a")).session_rid)
        home.emu.inject("create:*:delay:delay=40")
        began = now()
        turn = home.ask("a", timeout=5) if how == "blocking" else streamed(home, "a", timeout=5)
        assert isinstance(await outcome(turn), AcquireTimeout)
        assert now() - began <= 10.0
        home.emu.clear_faults()


@pytest.mark.parametrize("state", ["parked", "retiring", "gone", "replaced"])
async def test_forgotten_at_the_remote_too_is_what_it_has_and_what_it_had_last(state: str) -> None:
    policy = AgentPolicy(min_idle=0, park_timeout_s=100.0)
    async with house(policy=policy, dirty=LEFT) as home:
        talk = home.pool.conversation(home.agent, "a")
        rid = (await home.ask("a")).session_rid
        if state in ("retiring", "replaced"):
            lease = await home.lease(conversation="a")
            await lease.start_over()
            await lease.release()
            if state == "replaced":  # and off our hands since
                await home.until(lambda: home.stats.retiring == 0)
        elif state == "gone":
            await asyncio.sleep(300)
        await talk.forget(delete_remote=True)
        await home.until(lambda: home.stats.retiring == 0)
        assert not home.emu.is_alive(rid)
        await spin(2)
        assert rid in {event.session_rid for event in home.happened(SessionDeleted)}
        assert (await home.ask("a")).context == "new"


async def test_what_could_not_be_deleted_is_not_forgotten() -> None:
    policy = AgentPolicy(min_idle=0, park_timeout_s=100.0)
    async with house(policy=policy, dirty=LEFT) as home:
        talk = home.pool.conversation(home.agent, "a")
        rid = (await home.ask("a")).session_rid
        await asyncio.sleep(300)
        home.emu.inject("delete:1:500")
        assert isinstance(await outcome(talk.forget(delete_remote=True)), RemoteUnavailable)
        await talk.forget(delete_remote=True)
        assert not home.emu.is_alive(rid)


async def test_what_is_forgotten_here_is_left_at_the_remote_unless_that_is_asked() -> None:
    async with house(policy=AgentPolicy(min_idle=0, park_timeout_s=100.0), dirty=LEFT) as home:
        rid = (await home.ask("a")).session_rid
        await asyncio.sleep(300)
        await home.pool.conversation(home.agent, "a").forget()
        assert home.emu.is_alive(rid)
        assert (await home.ask("a")).context == "new"
