"""B30: an exchange is sent once; again only when the remote is known not to have begun it."""

from __future__ import annotations

import asyncio

import pytest

from session_pool import (
    AgentPolicy,
    AuthError,
    ClientCredentials,
    ExchangeUncertain,
    Lease,
    RemoteRejected,
    RemoteThrottled,
    RemoteUnavailable,
    SessionGone,
)
from session_pool.emulator import Emulator
from tests.pool.house import House, house, outcome

pytestmark = pytest.mark.looptime

HOWS = ["blocking", "streaming"]
OP = {"blocking": "blocking_continue", "streaming": "streaming_continue"}
PATIENT = AgentPolicy(min_idle=0, acquire_timeout_s=None)


def now() -> float:
    """Virtual seconds."""
    return asyncio.get_running_loop().time()


async def turn(home: House, how: str, key: str = "a", timeout: float | None = None) -> str:
    """One turn of a conversation, blocking or streamed; its whole text."""
    talk = home.pool.conversation(home.agent, key)
    if how == "blocking":
        return (await talk.ask(home.words(key), timeout=timeout)).text
    async with talk.stream(home.words(key), timeout=timeout) as stream:
        text = "".join([piece async for piece in stream])
    assert stream.reply.text == text
    return text


# ------------------------------------------------------------------ known not to have begun


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("fault", ["429", "503"])
async def test_throttled_it_is_sent_again(how: str, fault: str) -> None:
    async with house(faults=[f"exchange:1:{fault}:times=3"]) as home:
        assert (await turn(home, how)).startswith("#1")
        assert home.emu.requests(OP[how]) == 4
        assert home.emu.audit().exchanges == 1
        assert home.emu.requests("trace") == 0


@pytest.mark.parametrize("how", HOWS)
async def test_throttled_with_a_hint_it_waits_as_told(how: str) -> None:
    async with house(faults=["exchange:1:429:retry_after=7"]) as home:
        await turn(home, how)
        assert now() >= 7


@pytest.mark.parametrize("how", HOWS)
async def test_throttled_for_longer_than_its_timeout_that_is_what_is_raised(how: str) -> None:
    async with house(faults=["exchange:*:429:retry_after=30"]) as home:
        with pytest.raises(RemoteThrottled) as caught:
            await turn(home, how, timeout=10)
        assert caught.value.retry_after_s == 30
        assert home.stats.parked == 1  # nothing began: no quarantine
        home.emu.clear_faults()
        await asyncio.sleep(31)
        assert (await turn(home, how)).startswith("#1")


@pytest.mark.parametrize("how", HOWS)
async def test_asked_not_to_retry_it_is_not_sent_again(how: str) -> None:
    async with house(faults=["exchange:*:429:retry_hint=do-not-retry"]) as home:
        with pytest.raises(RemoteThrottled):
            await turn(home, how, timeout=60)
        assert home.emu.requests(OP[how]) == 1


@pytest.mark.parametrize("how", HOWS)
async def test_no_connection_it_is_sent_again(how: str) -> None:
    async with house() as home:
        await turn(home, how)
        async with home.emu.outage():
            asking = asyncio.create_task(turn(home, how, timeout=100))
            await asyncio.sleep(20)
            assert not asking.done()
        assert (await asking).startswith("#2")
        assert home.emu.audit().exchanges == 2
        assert home.emu.requests("trace") == 0


@pytest.mark.parametrize("how", HOWS)
async def test_no_connection_for_good_is_told_and_nothing_is_in_doubt(how: str) -> None:
    async with house() as home:
        await turn(home, how)
        async with home.emu.outage():
            with pytest.raises(RemoteUnavailable) as caught:
                await turn(home, how, timeout=20)
            assert caught.value.sent is False
            assert (home.stats.parked, home.stats.quarantined) == (1, 0)
        assert (await turn(home, how)).startswith("#2")


@pytest.mark.parametrize("how", HOWS)
async def test_a_401_renews_and_is_sent_again(how: str) -> None:
    async with Emulator() as remote:
        auth = ClientCredentials(remote.client_id, remote.client_secret)
    async with house(pool={"token": None, "auth": auth}) as home:
        await turn(home, how)
        home.emu.expire_tokens()
        assert (await turn(home, how)).startswith("#2")
        assert home.emu.audit().exchanges == 2


@pytest.mark.parametrize("how", HOWS)
async def test_a_401_that_nothing_cures_is_an_auth_error_and_no_doubt(how: str) -> None:
    async with house() as home:
        await turn(home, how)
        home.emu.inject("exchange:*:401")
        with pytest.raises(AuthError):
            await turn(home, how)
        assert (home.stats.parked, home.stats.quarantined) == (1, 0)


# ------------------------------------------------------------------ another definite no


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("fault", ["InvalidParameter", "AgentIterationsExceededLimit", "403"])
async def test_another_definite_4xx_is_the_outcome(how: str, fault: str) -> None:
    async with house(faults=[f"exchange:1:{fault}"]) as home:
        with pytest.raises(RemoteRejected) as caught:
            await turn(home, how)
        assert caught.value.status in (400, 403)
        assert home.emu.requests(OP[how]) == 1
        assert (home.stats.parked, home.stats.quarantined) == (1, 0)
        assert (await turn(home, how)).startswith("#1")


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize(
    "fault", ["RateLimitExceeded", "RetryAttemptsExceeded", "RetryDeadlineExceeded"]
)
async def test_a_throttle_from_within_the_work_is_raised_and_not_repeated(
    how: str, fault: str
) -> None:
    async with house(faults=[f"exchange:*:{fault}"]) as home:
        with pytest.raises(RemoteThrottled) as caught:
            await turn(home, how)
        assert caught.value.begun is True
        assert home.emu.requests(OP[how]) == 1


@pytest.mark.parametrize("how", HOWS)
async def test_session_not_found_before_the_first_byte_goes_on_in_a_new_session(how: str) -> None:
    async with house(dirty=["exchanges_on_dead_sessions"]) as home:
        await turn(home, how)
        (rid,) = home.emu.sessions
        home.emu.expire(rid)
        assert (await turn(home, how)).startswith("#1")
        async with home.pool.acquire(home.agent, conversation="a") as lease:
            assert (lease.replaces, lease.generation) == (rid, 2)


@pytest.mark.parametrize("how", HOWS)
async def test_sessions_that_are_all_not_found_do_not_go_on_for_ever(how: str) -> None:
    async with house(faults=["exchange:*:SessionNotFound"]) as home:
        with pytest.raises(SessionGone):
            await turn(home, how)
        assert home.emu.requests("create") == 3


async def _say(lease: Lease, how: str) -> None:
    if how == "blocking":
        await lease.blocking_continue("x")
    else:
        assert [piece async for piece in lease.streaming_continue("x")]


@pytest.mark.parametrize("how", HOWS)
async def test_session_not_found_on_a_lease_raises(how: str) -> None:
    async with house(dirty=["exchanges_on_dead_sessions"]) as home:
        lease = await home.lease()
        home.emu.expire(lease.rid)
        for _ in range(2):
            with pytest.raises(SessionGone):
                await _say(lease, how)
        assert home.emu.requests(OP[how]) == 1  # the second is known without asking
        await lease.release()
        assert home.stats.retired == 1


# ------------------------------------------------------------------ in doubt


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("fault", ["lost_after", "lost_during", "500:effect=yes", "hang_after"])
async def test_it_was_made_and_the_answer_lost_it_is_found_and_not_sent_again(
    how: str, fault: str
) -> None:
    kind, _, option = fault.partition(":")
    line = f"exchange:1:{kind}" + (f":{option}" if option else "")
    policy = AgentPolicy(min_idle=0, exchange_timeout_s=60)
    async with house(policy=policy, faults=[line], exchange_latency_s=3.0) as home:
        if kind == "hang_after":  # only its own timeout ends it, and then it is uncertain
            assert isinstance(await outcome(turn(home, how, timeout=20)), ExchangeUncertain)
        else:
            assert (await turn(home, how)).startswith("#1 a")
        assert home.emu.requests(OP[how]) == 1
        assert (await turn(home, how)).startswith("#2 a")


async def test_a_malformed_answer_is_looked_up() -> None:
    async with house(faults=["exchange:1:malformed"]) as home:
        assert (await turn(home, "blocking")).startswith("#1")
        assert home.emu.audit().exchanges == 1


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("fault", ["lost_before", "500"])
async def test_unknown_for_doubt_s_it_is_sent_again_with_the_same_trace_id(
    how: str, fault: str
) -> None:
    async with house(faults=[f"exchange:1:{fault}"]) as home:
        assert (await turn(home, how, timeout=120)).startswith("#1")
        assert home.emu.requests(OP[how]) == 2
        assert home.emu.audit().exchanges == 1
        assert 30 <= now() <= 45
        asked = [call for call in home.emu.calls if call.op == "trace"]
        assert asked
        (record,) = home.emu.sessions.values()
        assert len(record.traces) == 1


@pytest.mark.parametrize("how", HOWS)
async def test_a_trace_in_progress_is_waited_for(how: str) -> None:
    async with house(faults=["exchange:1:lost_during"], exchange_latency_s=80.0) as home:
        assert (await turn(home, how, timeout=200)).startswith("#1")
        assert home.emu.requests(OP[how]) == 1
        assert 80 <= now() <= 90


@pytest.mark.parametrize("how", HOWS)
async def test_sent_again_and_it_was_there_after_all(how: str) -> None:
    """The trace came late: SessionTraceIdAlreadyExists means look again."""
    async with house(
        faults=["exchange:1:lost_during"],
        trace_lag_s=45.0,
        exchange_latency_s=60.0,
        dirty=["overlapping_exchanges"],
    ) as home:
        assert (await turn(home, how, timeout=200)).startswith("#1")
        assert home.emu.requests(OP[how]) == 2
        audit = home.emu.audit()
        assert (audit.exchanges, audit.exchanges_recorded) == (1, 1)
        assert audit.errors_by_name["SessionTraceIdAlreadyExists"] == 1


@pytest.mark.parametrize("how", HOWS)
async def test_it_stays_unknown_until_the_timeout_then_uncertain(how: str) -> None:
    async with house(
        policy=PATIENT, faults=["exchange:1:lost_during"], exchange_latency_s=80.0
    ) as home:
        with pytest.raises(ExchangeUncertain) as caught:
            await turn(home, how, timeout=20)
        assert now() <= 21
        (record,) = home.emu.sessions.values()
        assert list(record.traces) == [caught.value.trace_id]
        assert home.stats.quarantined == 1
        assert (await turn(home, how)).startswith("#2")  # waits for the verdict


@pytest.mark.parametrize("how", HOWS)
async def test_no_look_succeeds_then_uncertain(how: str) -> None:
    async with house(policy=PATIENT, faults=["exchange:1:lost_after", "trace:*:500"]) as home:
        with pytest.raises(ExchangeUncertain):
            await turn(home, how, timeout=60)
        assert home.emu.requests(OP[how]) == 1
        home.emu.clear_faults()
        assert (await turn(home, how)).startswith("#2")


@pytest.mark.parametrize("how", HOWS)
async def test_over_and_left_nothing_is_uncertain(how: str) -> None:
    fault = "exchange:1:SessionExecutionFailed"
    async with house(policy=PATIENT, faults=[f"{fault}:effect=yes", "content:1:500"]) as home:
        found = await outcome(turn(home, how, timeout=60))
        assert isinstance(found, str | ExchangeUncertain)
        assert home.emu.requests(OP[how]) == 1


@pytest.mark.parametrize("at_bytes", [1, 9, 20])
async def test_a_stream_cut_in_the_middle_is_completed_from_content(at_bytes: int) -> None:
    async with house(
        faults=[f"streaming_continue:1:cut_after:at_bytes={at_bytes}"], exchange_latency_s=6.0
    ) as home:
        text = await turn(home, "streaming")
        assert text == "#1 a → turn 1 [[a]]"
        assert home.emu.requests("streaming_continue") == 1


async def test_a_stream_cut_in_the_middle_and_never_stored_is_uncertain() -> None:
    async with house(policy=PATIENT, exchange_latency_s=30.0, on_disconnect="abandon") as home:

        async def hear() -> str:
            return await turn(home, "streaming", timeout=100)

        hearing = asyncio.create_task(hear())
        await asyncio.sleep(10)
        async with home.emu.outage():
            await asyncio.sleep(1)
        assert isinstance(await outcome(hearing), ExchangeUncertain)
        assert home.emu.requests("streaming_continue") == 1
        assert (await turn(home, "streaming")).startswith("#")


async def test_a_stream_of_split_characters_is_whole() -> None:
    async with house(stream_chunk_bytes=1, exchange_latency_s=5.0) as home:
        assert await turn(home, "streaming") == "#1 a → turn 1 [[a]]"


async def test_a_streams_reader_may_take_its_time() -> None:
    async with house(policy=PATIENT, exchange_latency_s=2.0) as home:
        async with home.pool.conversation(home.agent, "a").stream("x [[a]]", timeout=10) as stream:
            async for _ in stream:
                await asyncio.sleep(30)
        assert stream.reply.text == "#1 a → x [[a]]"


async def test_cancel_with_a_response_is_what_stands() -> None:
    async with house(exchange_latency_s=60.0) as home:
        lease = await home.lease(conversation="a")
        stream = lease.streaming_continue("long [[a]]")
        await anext(stream)
        stored = await lease.cancel("enough")
        assert stored is not None
        assert (stored.text, stored.interrupted) == ("enough", True)
        assert lease.last_exchange == stored
        await lease.release()
        assert home.stats.parked == 1
        assert (await home.ask("a")).text.startswith("#2")


async def test_a_lost_answer_and_a_death_meanwhile_is_uncertain_and_announced() -> None:
    faults = ["exchange:1:lost_during"]
    async with house(policy=PATIENT, exchange_latency_s=30.0, faults=faults) as home:
        asking = asyncio.create_task(turn(home, "blocking", timeout=100))
        await asyncio.sleep(5)
        (rid,) = home.emu.sessions
        home.emu.expire(rid)
        assert isinstance(await outcome(asking), ExchangeUncertain)
        reply = await home.ask("a")
        assert reply.session_rid != rid
        assert reply.replaces == rid
