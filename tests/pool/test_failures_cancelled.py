"""Cancelled at the wrong moment: how other pools lost what they pooled, one test for each.

Each is named after the project and the number of its report.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import anyio
import pytest

import session_pool
from session_pool import AcquireTimeout, AgentPolicy, Lease
from tests.pool.house import House, distant_store, house, outcome, spin

pytestmark = pytest.mark.looptime

ONE = AgentPolicy(min_idle=0, max_leased=1)


async def _handed_over_as_time_is_up(home: House, turns: int, *, own_timeout: bool) -> bool:
    """One holder lets go at the very instant at which the waiter's time is up."""
    loop = asyncio.get_running_loop()
    lease = await home.lease()
    at = loop.time() + 5.0

    async def let_go() -> None:
        async with asyncio.timeout_at(at):
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                await spin(turns)
                await lease.release(unused=True)
                raise

    async def wait() -> Lease:
        if own_timeout:
            return await home.lease(timeout=5.0)
        async with asyncio.timeout_at(at):
            return await home.lease()

    letting, waiting = asyncio.create_task(let_go()), asyncio.create_task(wait())
    got = await outcome(waiting)
    await outcome(letting)
    if isinstance(got, Lease):
        await got.release(unused=True)
        return True
    assert isinstance(got, TimeoutError), got
    return False


@pytest.mark.parametrize("own_timeout", [False, True])
async def test_asyncpg_467_acquire_timeout_races_with_success(own_timeout: bool) -> None:
    async with house(policy=ONE) as home:
        for turns in range(8):
            await _handed_over_as_time_is_up(home, turns, own_timeout=own_timeout)
            await spin(3)
            stats = home.stats
            assert (stats.leased, stats.idle, stats.waiting) == (0, 1, 0), turns
            async with home.pool.acquire(home.agent, timeout=0) as lease:
                lease.mark_unused()
        assert home.emu.requests("create") == 1


async def test_asyncpg_547_close_returns_after_a_timeout_that_raced() -> None:
    async with house(policy=ONE) as home:
        for turns in range(4):
            await _handed_over_as_time_is_up(home, turns, own_timeout=False)
        began = asyncio.get_running_loop().time()
        await home.pool.aclose(timeout=30)
        assert asyncio.get_running_loop().time() - began < 1.0


async def test_psycopg_509_queued_and_cancelled_nothing_given_to_them_is_lost() -> None:
    policy = AgentPolicy(min_idle=0, max_leased=3)
    async with house(policy=policy) as home:
        held = [await home.lease() for _ in range(3)]
        waiting = [asyncio.create_task(home.lease()) for _ in range(9)]
        await spin(3)
        for lease in held:
            await lease.release(unused=True)  # handed to the first three, who do not run any more
        for task in waiting:
            task.cancel()
        for task in waiting:
            assert isinstance(await outcome(task), asyncio.CancelledError)
        assert (home.stats.idle, home.stats.leased) == (3, 0)
        again = [await home.lease(timeout=0) for _ in range(3)]
        for lease in again:
            await lease.release(unused=True)


@pytest.mark.parametrize("failing", [False, True])
async def test_psycopg_1123_1208_cancelled_during_the_check_at_checkout(failing: bool) -> None:
    """One GET decides about a conversation past its estimate; who asked for it goes away."""
    async with house(expiry_error_s=1000.0, lifetime_s=7200.0) as home:
        await home.ask("a")
        (rid,) = home.emu.sessions
        await asyncio.sleep(7200.0 + 10.0)
        if failing:
            home.emu.inject("get:1:500:times=2")
        async with home.emu.hold("get") as gate:
            asking = asyncio.create_task(home.ask("a", "and then?"))
            await gate.wait_waiting()
            asking.cancel()
            assert isinstance(await outcome(asking), asyncio.CancelledError)
            assert (home.stats.parked, home.stats.leased) == (1, 0)
        reply = await home.ask("a", "so?")
        assert (reply.session_rid, reply.context) == (rid, "kept")


async def test_psycopg_1401_a_cancellation_during_the_check_is_not_swallowed() -> None:
    async with house(expiry_error_s=1000.0, lifetime_s=7200.0) as home:
        await home.ask("a")
        await asyncio.sleep(7200.0 + 10.0)
        async with home.emu.hold("get", stage="after") as gate:
            asking = asyncio.create_task(home.ask("a", "and then?"))
            await gate.wait_waiting()
            asking.cancel()
            gate.open()
            await asyncio.wait([asking])
        assert asking.cancelled()


@pytest.mark.parametrize("turns", range(4))
async def test_psycopg_1345_a_cancel_at_the_very_tick_of_the_hand_over(turns: int) -> None:
    async with house(policy=ONE) as home:
        lease = await home.lease()
        waiting = asyncio.create_task(home.lease())
        behind = asyncio.create_task(home.lease())
        await spin(3)
        await lease.release(unused=True)
        await spin(turns)
        waiting.cancel()
        got = await outcome(waiting)
        if isinstance(got, Lease):  # it had come so far already: then it is the caller's
            assert turns > 0
            await got.release(unused=True)
        else:
            assert isinstance(got, asyncio.CancelledError)
        async with asyncio.timeout(0.1):
            await (await behind).release(unused=True)
        assert home.emu.requests("create") == 1


async def test_psycopg_pr1412_an_error_of_the_cleanup_does_not_replace_the_cancellation() -> None:
    store = distant_store()
    async with house(policy=ONE, pool={"store": store}) as home:
        lease = await home.lease()
        waiting = asyncio.create_task(home.lease())
        await spin(10)
        store.away = True
        waiting.cancel()
        assert isinstance(await outcome(waiting), asyncio.CancelledError)
        holding = asyncio.create_task(_in_a_block(lease))
        await spin(3)
        holding.cancel()
        assert isinstance(await outcome(holding), asyncio.CancelledError)
        await spin(10)
        store.away = False
        again = await home.lease(timeout=60)  # what could not be given back has lapsed by then
        await again.release()
        await home.until(lambda: home.stats.leased == home.stats.waiting == 0)


async def _in_a_block(lease: Lease) -> None:
    async with lease:
        await asyncio.sleep(60)


async def test_httpcore_1093_cancelled_between_assignment_and_connecting() -> None:
    """Twenty workers on ten slots, cancelled at every stage of a creation and a hand-over."""
    policy = AgentPolicy(min_idle=0, max_leased=10, max_creating=10)
    async with house(policy=policy, create_latency_s=0.5) as home:
        for after_s in (0.0, 0.1, 0.49, 0.5, 0.51, 0.6):
            workers = [asyncio.create_task(_work(home)) for _ in range(20)]
            await asyncio.sleep(after_s)
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            assert home.stats.leased == 0
            assert home.stats.waiting == 0
        leases = await asyncio.gather(*(home.lease(timeout=5) for _ in range(10)))
        assert len({lease.fence and lease.rid for lease in leases}) == 10
        for lease in leases:
            await lease.release()


async def _work(home: House) -> None:
    async with home.pool.acquire(home.agent) as lease:
        lease.mark_unused()
        await asyncio.sleep(0.2)


@pytest.mark.parametrize("distant", [False, True])
async def test_sqlalchemy_12077_cleanup_under_an_anyio_scope_that_cancels_again(
    distant: bool,
) -> None:
    """Every await in a cancelled scope raises again, so what must happen may not await there."""
    given = {"store": distant_store()} if distant else {}
    async with house(policy=ONE, pool=given, exchange_latency_s=10.0) as home:
        with anyio.move_on_after(2.0) as scope:
            async with home.pool.acquire(home.agent) as lease:
                await lease.blocking_continue("x")
        assert scope.cancelled_caught
        with anyio.CancelScope() as scope:
            lease = await home.lease(timeout=60)
            scope.cancel()
            try:
                await lease.blocking_continue("y")
            finally:
                await lease.release()
        assert scope.cancelled_caught
        await home.until(lambda: home.stats.leased == home.stats.quarantined == 0)
        async with home.pool.acquire(home.agent, timeout=60) as lease:
            lease.mark_unused()


def test_cpython_86296_nothing_waits_by_wait_for() -> None:
    """On 3.11 `asyncio.wait_for` swallows a cancellation that lands as the work is done."""
    sources = Path(session_pool.__file__).parent.rglob("*.py")
    assert [path.name for path in sources if "wait_for(" in _code(path)] == []


def _code(path: Path) -> str:
    text = path.read_text()
    return text.replace("def wait_for(", "")  # the emulator's own, another thing


@pytest.mark.parametrize("how", ["blocking", "stream"])
async def test_redis_py_2624_2665_cancelled_mid_request_the_next_gets_its_own_answer(
    how: str,
) -> None:
    async with house(exchange_latency_s=3.0) as home:
        talk = home.pool.conversation(home.agent, "a")

        async def turn(text: str) -> str:
            if how == "blocking":
                answer: str = (await talk.ask(f"{text} [[a]]")).text
                return answer
            async with talk.stream(f"{text} [[a]]") as stream:
                return "".join([piece async for piece in stream])

        first = asyncio.create_task(turn("the secret of the first"))
        await home.emu.wait_for(lambda: home.emu.in_flight("exchange"))
        await asyncio.sleep(1.0)
        first.cancel()
        assert isinstance(await outcome(first), asyncio.CancelledError)
        assert home.stats.quarantined == 1
        others = [asyncio.create_task(home.ask(f"other {n}", "mine")) for n in range(3)]
        second = await turn("the second")
        assert second == "#2 a → the second [[a]]"
        for n, other in enumerate(others):
            assert (await other).text == f"#1 other {n} → mine [[other {n}]]"


async def test_generic_connection_pool_one_cancel_during_create_wedges_nothing() -> None:
    policy = AgentPolicy(min_idle=0, max_leased=1, max_creating=1)
    async with house(policy=policy, create_latency_s=1.0) as home:
        for after_s in (0.0, 0.5, 0.999, 1.0):
            creating = asyncio.create_task(home.lease())
            await asyncio.sleep(after_s)
            creating.cancel()
            got = await outcome(creating)
            if isinstance(got, Lease):
                await got.release(unused=True)
            async with home.pool.acquire(home.agent, timeout=3) as lease:
                lease.mark_unused()
        assert home.emu.requests("create") == 1  # what nobody waited for became idle (B9)
        began = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - began < 5.0


async def test_aiobotocore_the_first_caller_is_cancelled_and_the_work_is_not_done_again() -> None:
    policy = AgentPolicy(min_idle=0, max_creating=1)
    async with house(policy=policy, create_latency_s=1.0) as home:
        first = asyncio.create_task(home.lease())
        await asyncio.sleep(0.4)
        second = asyncio.create_task(home.lease())
        await asyncio.sleep(0.1)
        first.cancel()
        lease = await second
        assert lease.held_s < 0.01
        assert asyncio.get_running_loop().time() == pytest.approx(1.0, abs=0.3)
        assert home.emu.requests("create") == 1
        await lease.release()


async def test_a_timeout_that_races_with_a_creation_keeps_the_session() -> None:
    async with house(create_latency_s=1.0) as home:
        with pytest.raises(AcquireTimeout):
            await home.lease(timeout=0.99)
        await asyncio.sleep(0.1)
        assert (home.stats.idle, home.stats.leased) == (1, 0)
