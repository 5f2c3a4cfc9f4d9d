"""The budget in virtual time, when the remote throttles and when those who wait are cancelled."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from session_pool.foundry import Budget, Limits, Urgency
from tests.foundry.runs import made

pytestmark = pytest.mark.looptime

E, C, O = Urgency.EXCHANGE, Urgency.CREATE, Urgency.ORPHAN  # noqa: E741 - the order's own letters


# --------------------------------------------------------------------------------- throttling


async def test_a_throttle_lowers_the_limit_once_for_each_burst() -> None:
    budget = Budget(Limits(1000, 100))
    assert [budget.throttled() for _ in range(20)] == [True] + [False] * 19
    assert budget.snapshot().limits == Limits(700, 70)
    await asyncio.sleep(5)
    assert budget.throttled()
    assert budget.snapshot().factor == pytest.approx((0.7 + 2 * 0.01) * 0.7)


async def test_it_recovers_slowly_and_fully() -> None:
    budget = Budget(Limits(1000, 100))
    budget.throttled()
    await asyncio.sleep(10)
    assert budget.snapshot().factor == pytest.approx(0.75)
    await asyncio.sleep(49)
    assert budget.snapshot().factor < 1
    await asyncio.sleep(1.1)
    assert budget.snapshot() == Budget(Limits(1000, 100)).snapshot()


async def test_however_often_it_is_throttled_something_goes_out() -> None:
    runs = made(rate=1000, at_once=100)
    for _ in range(100):
        runs.budget.throttled()
        await asyncio.sleep(5)
    assert runs.budget.snapshot().limits.concurrent_requests >= 1
    await runs.send(O)
    await runs.over()


async def test_those_in_line_are_served_as_it_recovers_with_nobody_leaving() -> None:
    runs = made(at_once=10)
    for _ in range(5):
        runs.budget.throttled()
        await asyncio.sleep(5)
    for _ in range(4):
        runs.send(E, takes_s=10_000)
    await asyncio.sleep(0)
    assert runs.running < 4
    await asyncio.sleep(200)
    assert runs.running == 4
    for task in runs.tasks:
        task.cancel()
    await runs.over()


async def test_a_hint_silences_all_for_so_long() -> None:
    runs = made(at_once=100)
    runs.budget.throttled(30.0)
    runs.budget.throttled(10.0)  # a shorter one does not end the longer
    assert runs.budget.room(E) == 0
    assert runs.budget.snapshot().paused_s == 30
    runs.send(E, takes_s=0)
    runs.send(O, takes_s=0)
    await runs.over()
    assert [at for _, at in runs.started] == [30.0, 30.0]


async def test_an_injected_clock_is_the_only_one() -> None:
    clock = [1000.0]
    budget = Budget(Limits(1000, 100), clock=lambda: clock[0])
    budget.throttled(5)
    clock[0] += 4
    assert budget.room(E) == 0
    clock[0] += 1
    assert budget.room(E) > 0
    clock[0] += 1000
    assert budget.snapshot().factor == 1


# ------------------------------------------------------------------------------- cancellation


async def test_a_waiter_cancelled_in_line_leaves_nothing() -> None:
    """httpcore#1093: the slot was neither free nor used, and the pool full for ever."""
    runs = made(at_once=1)
    runs.send(E, "holder", takes_s=10)
    await asyncio.sleep(1)
    waiting = runs.send(E, "cancelled")
    runs.send(E, "next")
    await asyncio.sleep(1)
    waiting.cancel()
    await runs.over()
    assert runs.order == ["holder", "next"]


@pytest.mark.parametrize("turns_after", [0, 1, 2, 3])
async def test_a_waiter_cancelled_at_the_very_tick_of_its_turn_passes_it_on(
    turns_after: int,
) -> None:
    """psycopg#1345 and aiohttp#9670: a wake that is not passed on is lost."""
    budget = Budget(Limits(1_000_000, 1))
    holder = budget.slot(E)
    await holder.__aenter__()
    entered: list[str] = []

    async def wait(name: str) -> None:
        async with budget.slot(E):
            entered.append(name)

    unlucky, lucky = asyncio.create_task(wait("unlucky")), asyncio.create_task(wait("lucky"))
    await asyncio.sleep(0)
    await holder.__aexit__(None, None, None)
    for _ in range(turns_after):
        await asyncio.sleep(0)
    unlucky.cancel()
    await lucky
    await asyncio.gather(unlucky, return_exceptions=True)
    assert entered[-1] == "lucky"
    assert unlucky.cancelled() == ("unlucky" not in entered)
    assert sum(budget.snapshot().in_use.values()) == 0


async def test_cancelled_before_the_turn_is_given_the_turn_skips_it() -> None:
    budget = Budget(Limits(1_000_000, 1))
    holder = budget.slot(E)
    await holder.__aenter__()
    first = asyncio.create_task(budget.slot(E).__aenter__())
    second = asyncio.create_task(budget.slot(E).__aenter__())
    await asyncio.sleep(0)
    first.cancel()  # its task has not run yet when the place comes free
    await holder.__aexit__(None, None, None)
    await second
    with pytest.raises(asyncio.CancelledError):
        await first
    assert budget.snapshot().in_use[E] == 1


async def test_timeouts_and_cancel_scopes_lose_nothing() -> None:
    """asyncpg#467, sqlalchemy#12077: under a scope every await in cleanup would raise again."""
    budget = Budget(Limits(1_000_000, 2))

    async def under_asyncio(patience_s: float) -> None:
        try:
            async with asyncio.timeout(patience_s), budget.slot(E):
                await asyncio.sleep(1)
        except TimeoutError:
            pass

    async def under_anyio(patience_s: float) -> None:
        with anyio.move_on_after(patience_s):
            async with budget.slot(E):
                await asyncio.sleep(1)

    async with asyncio.TaskGroup() as group:
        for number in range(300):
            run = under_asyncio if number % 2 else under_anyio
            group.create_task(run(number % 10 / 2))  # some end at the very tick of a hand-over
    assert sum(budget.snapshot().in_use.values()) == 0
    assert sum(budget.snapshot().waiting.values()) == 0


async def test_an_error_inside_gives_the_place_back() -> None:
    budget = Budget(Limits(1_000_000, 1))
    for _ in range(3):
        with pytest.raises(KeyError):
            async with budget.slot(C):
                raise KeyError
    assert budget.room(C) == 1


async def test_ten_thousand_in_line_leave_at_once() -> None:
    runs = made(at_once=1)
    runs.send(E, takes_s=10)
    await asyncio.sleep(1)
    tasks = [runs.send(C) for _ in range(10_000)]
    await asyncio.sleep(0)
    assert runs.budget.snapshot().waiting[C] == 10_000
    for task in tasks:
        task.cancel()
    await runs.over()
    assert repr(runs.budget).endswith("in use 0, waiting 0>")
