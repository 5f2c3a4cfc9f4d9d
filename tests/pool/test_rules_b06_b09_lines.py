"""B6 to B9: who is served first, how waiting ends, and how many are created."""

from __future__ import annotations

import asyncio

import pytest

from session_pool import (
    AcquireTimeout,
    AgentPolicy,
    AlreadyHeld,
    Lease,
    RequestLimits,
    TooManyWaiting,
)
from session_pool.events import SessionCreated, ThresholdsScaled
from tests.pool.house import LEFT, House, house, outcome, spin

pytestmark = pytest.mark.looptime

WIDE = RequestLimits(requests_per_minute=10_000, concurrent_requests=800)


def now() -> float:
    """Virtual seconds."""
    return asyncio.get_running_loop().time()


# ------------------------------------------------------------------------------ B6


async def test_b6_first_come_first_served() -> None:
    async with house(policy=AgentPolicy(min_idle=0, max_leased=2)) as home:
        order: list[int] = []

        async def turn(n: int) -> None:
            async with home.pool.acquire(home.agent) as lease:
                lease.mark_unused()
                order.append(n)
                await asyncio.sleep(1)

        await asyncio.gather(*(turn(n) for n in range(40)))
        assert order == list(range(40))


async def test_b6_a_waiter_is_passed_over_only_while_nothing_it_could_take_exists() -> None:
    async with house(policy=AgentPolicy(min_idle=0, max_leased=2)) as home:
        talking = await home.lease(conversation="a")
        other = await home.lease()
        waits_for_a = asyncio.create_task(home.lease(conversation="a"))
        await spin(3)
        anonymous = asyncio.create_task(home.lease())
        await spin(3)
        await other.release(unused=True)
        lease = await anonymous  # what it got, the earlier one could not have taken
        assert not waits_for_a.done()
        await talking.release()
        await (await waits_for_a).release()
        await lease.release(unused=True)


async def test_b6_a_waiter_whose_session_is_dead_at_the_hand_out_keeps_its_place() -> None:
    policy = AgentPolicy(min_idle=0, max_leased=1)
    async with house(policy=policy, lifetime_s=3600.0, create_latency_s=5.0) as home:
        await home.ask("a")
        await asyncio.sleep(3700)
        held = await home.lease()
        order: list[str] = []

        async def turn(name: str, key: str | None) -> None:
            async with home.pool.acquire(home.agent, conversation=key):
                order.append(name)

        tasks = [asyncio.create_task(turn("a", "a"))]
        await spin(3)
        tasks.append(asyncio.create_task(turn("newcomer", None)))
        await spin(3)
        await held.release()
        await asyncio.gather(*tasks)
        assert order == ["a", "newcomer"]


# ------------------------------------------------------------------------------ B7


async def test_b7_a_timeout_bounds_the_whole_and_says_where_the_time_went() -> None:
    async with house(
        create_latency_s=100.0, policy=AgentPolicy(min_idle=0, max_creating=1)
    ) as home:
        other = asyncio.create_task(home.lease(timeout=1))
        with pytest.raises(AcquireTimeout) as caught:
            await home.lease(timeout=3)
        assert now() == pytest.approx(3.0, abs=0.01)
        error = caught.value
        assert (error.phase, error.capped_by) == ("creation", "max_creating")
        assert error.waited_s == pytest.approx(3.0, abs=0.01)
        assert error.stats.creating == 1
        assert isinstance(error, TimeoutError)
        assert error.retryable
        assert isinstance(await outcome(other), AcquireTimeout)
        assert home.stats.timeouts == 2
        await asyncio.sleep(100)


async def test_b7_max_leased_names_the_holders() -> None:
    async with house(policy=AgentPolicy(min_idle=0, max_leased=1)) as home:
        held = await home.pool.acquire(home.agent)
        with pytest.raises(AcquireTimeout) as caught:
            await home.lease(timeout=2)
        assert (caught.value.phase, caught.value.capped_by) == ("line", "max_leased")
        (holder,) = caught.value.holders
        assert f"{__file__}:" in holder
        await held.release()


async def test_b7_a_conversation_in_use() -> None:
    async with house() as home:
        held = await home.lease(conversation="a")

        async def other() -> None:
            await home.lease(conversation="a", timeout=2)

        error = await outcome(asyncio.create_task(other()))
        assert isinstance(error, AcquireTimeout)
        assert (error.phase, error.capped_by) == ("conversation", "conversation")
        await held.release()


async def test_b7_the_budget_is_named() -> None:
    async with house(
        pool={"limits": RequestLimits(concurrent_requests=1)}, exchange_latency_s=60.0
    ) as home:
        lease = await home.lease()
        talking = asyncio.create_task(lease.blocking_continue("takes the only place"))
        await home.emu.wait_for(lambda: home.emu.in_flight("exchange"))
        with pytest.raises(AcquireTimeout) as caught:
            await home.lease(timeout=5)
        assert caught.value.capped_by == "budget"
        await talking
        await lease.release()


async def test_b7_timeout_zero_never_waits() -> None:
    async with house(create_latency_s=1.0) as home:
        with pytest.raises(AcquireTimeout):
            await home.lease(timeout=0)
        assert now() < 0.01
        held = await home.lease(conversation="a")
        task = asyncio.create_task(home.lease(conversation="a", timeout=0))
        assert isinstance(await outcome(task), AcquireTimeout)
        await held.release()
        lease = await home.lease(conversation="a", timeout=0)
        await lease.release()
        assert home.stats.waiting == 0


async def test_b7_none_is_the_policys() -> None:
    policy = AgentPolicy(min_idle=0, max_leased=1, acquire_timeout_s=7)
    async with house(policy=policy) as home:
        held = await home.lease()
        began = now()
        with pytest.raises(AcquireTimeout):
            await home.lease()
        assert now() - began == pytest.approx(7.0, abs=0.01)
        await held.release()


async def test_b7_max_waiting_bounds_the_line() -> None:
    policy = AgentPolicy(min_idle=0, max_leased=1, max_waiting=3)
    async with house(policy=policy) as home:
        held = await home.lease()
        waiting = [asyncio.create_task(home.lease()) for _ in range(3)]
        await spin(3)
        with pytest.raises(TooManyWaiting, match="max_waiting = 3"):
            await home.lease()
        assert home.stats.waiting == 3
        await held.release(unused=True)
        for task in waiting:
            await (await task).release(unused=True)


async def test_b7_a_task_that_waits_for_itself_is_told_at_once() -> None:
    async with house() as home:
        async with home.pool.acquire(home.agent, conversation="a"):
            began = now()
            with pytest.raises(AlreadyHeld):
                await home.lease(conversation="a")
            with pytest.raises(AlreadyHeld):
                await home.ask("a")
            with pytest.raises(AlreadyHeld):
                await home.pool.conversation(home.agent, "a").forget()
            assert now() == began
        await home.ask("a")  # and after it is over it may


async def test_b7_another_task_may_wait_for_it() -> None:
    async with house() as home:
        lease = await home.lease(conversation="a")
        other = asyncio.create_task(home.lease(conversation="a"))
        await spin(5)
        assert not other.done()
        await lease.release()
        await (await other).release()


# ------------------------------------------------------------------------------ B8


async def test_b8_a_thousand_waiters_on_a_cold_agent_cause_no_stampede() -> None:
    policy = AgentPolicy(min_idle=0, max_leased=40, max_creating=8, max_waiting=1000)
    async with house(policy=policy, pool={"limits": WIDE}, create_latency_s=0.5) as home:

        async def turn() -> None:
            async with home.pool.acquire(home.agent) as lease:
                lease.mark_unused()
                await asyncio.sleep(0.1)

        await asyncio.gather(*(turn() for _ in range(1000)))
        audit = home.emu.audit()
        assert audit.max_creates_in_flight <= 8
        assert audit.sessions_created <= 40
        assert home.stats.waited > 900


async def test_b8_waiters_beyond_max_leased_cause_no_creation() -> None:
    async with house(policy=AgentPolicy(min_idle=0, max_leased=3), create_latency_s=1.0) as home:
        waiting = [asyncio.create_task(home.lease()) for _ in range(10)]
        await asyncio.sleep(5)
        assert home.emu.requests("create") == 3
        for task in waiting:
            task.cancel()
        for task in waiting:
            got = await outcome(task)
            if isinstance(got, Lease):
                await got.release()


async def test_b8_those_of_one_conversation_count_once() -> None:
    async with house(create_latency_s=1.0) as home:
        await asyncio.gather(*(home.ask("a") for _ in range(20)))
        assert home.emu.requests("create") == 1


async def test_b8_a_creation_in_backoff_counts() -> None:
    policy = AgentPolicy(min_idle=1)
    async with house(policy=policy, faults=["create:*:503:retry_after=20"]) as home:
        await asyncio.sleep(15)
        assert home.stats.creating == 1
        assert home.emu.requests("create") == 1
        home.emu.clear_faults()
        await home.pool.ready(60)
        assert home.emu.requests("create") == 2


async def test_b8_what_was_left_warm_is_refilled_and_not_more() -> None:
    policy = AgentPolicy(min_idle=3)
    async with house(policy=policy, create_latency_s=1.0) as home:
        await home.pool.ready(10)
        leases = [await home.lease(timeout=0) for _ in range(3)]
        await asyncio.sleep(10)
        assert (home.stats.idle, home.emu.requests("create")) == (3, 6)
        for lease in leases:
            await lease.release()


async def test_b8_short_lived_sessions_scale_the_thresholds_once() -> None:
    async with house(policy=AgentPolicy(min_idle=2), lifetime_s=60.0) as home:
        await home.pool.ready(10)
        await asyncio.sleep(600)
        assert len(home.happened(ThresholdsScaled)) == 1
        (event,) = home.happened(ThresholdsScaled)
        assert event.refresh_ahead_s == pytest.approx(30.0)
        made = len(home.happened(SessionCreated))
        assert 2 * 600 / 60 <= made <= 2 * 600 / 25  # and it never loops
        async with home.pool.acquire(home.agent, timeout=0) as lease:
            assert lease.remaining_s() >= 10


# ------------------------------------------------------------------------------ B9


async def test_b9_if_the_waiter_has_gone_the_session_becomes_idle() -> None:
    async with house(create_latency_s=1.0) as home:
        waiting = [asyncio.create_task(home.lease()) for _ in range(5)]
        await asyncio.sleep(0.5)
        for task in waiting:
            task.cancel()
        await asyncio.sleep(1)
        assert (home.stats.idle, home.stats.created) == (5, 5)
        again = [await home.lease(timeout=0) for _ in range(5)]
        for lease in again:
            await lease.release(unused=True)


async def test_b9_nobody_in_line_is_forgotten_when_the_cap_moves(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with house(policy=AgentPolicy(min_idle=0, max_leased=1), dirty=LEFT) as home:
        await _many(home, 30)
        assert home.stats.waiting == 0


async def _many(home: House, times: int) -> None:
    async def turn(n: int) -> None:
        key = f"c{n % 4}" if n % 2 else None
        async with home.pool.acquire(home.agent, conversation=key, timeout=600) as lease:
            if key is None:
                lease.mark_unused()
            await asyncio.sleep(0.1)

    await asyncio.gather(*(turn(n) for n in range(times)))
