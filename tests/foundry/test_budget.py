"""The budget in virtual time: order, reserves, and limits in every window."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest

from session_pool.foundry import (
    INDIVIDUAL_USER,
    SERVICE_USER,
    Budget,
    ClientCredentials,
    Limits,
    StaticToken,
    Urgency,
    preset_for,
)
from tests.foundry.runs import Runs, made

pytestmark = pytest.mark.looptime

E, C, F = Urgency.EXCHANGE, Urgency.CREATE, Urgency.CONFIRM
R, W, V, O = Urgency.REPLACE, Urgency.WARM, Urgency.VERIFY, Urgency.ORPHAN  # noqa: E741 - in order


async def test_presets_follow_the_auth() -> None:
    assert preset_for(StaticToken("x")) == INDIVIDUAL_USER == (5_000, 30, 0.2)
    assert preset_for(ClientCredentials("id", "x")) == SERVICE_USER == (10_000, 800, 0.2)


# -------------------------------------------------------------------------------------- order


async def test_the_most_urgent_goes_first_and_within_one_the_earliest_need() -> None:
    runs = made(at_once=1)
    runs.send(E, "holder")
    await asyncio.sleep(0)
    for urgency in reversed(Urgency):
        runs.send(urgency)
    runs.send(C, "CREATE of old", since=-5.0)
    await runs.over()
    assert runs.order == [
        "holder", "EXCHANGE", "CREATE of old", "CREATE", "CONFIRM",
        "REPLACE", "WARM", "VERIFY", "ORPHAN",
    ]  # fmt: skip


async def test_newcomers_never_barge() -> None:
    """Seen on SQLAlchemy's async queue pool: one task got 1 item while another got 1,200."""
    runs = made(at_once=1)
    for number in range(50):
        runs.send(C, str(number))
        await asyncio.sleep(0.01)
    await runs.over()
    assert runs.order == [str(number) for number in range(50)]


async def test_newcomers_never_barge_where_the_timer_is_late() -> None:
    """A frozen process: the pause is over, and nobody has been woken yet."""
    clock = [0.0]
    runs = Runs(Budget(Limits(1000, 1), clock=lambda: clock[0]))
    runs.budget.throttled(50.0)
    runs.send(E, "in line")
    await asyncio.sleep(0)
    clock[0] = 50.0
    runs.send(V, "newcomer")
    await runs.over()
    assert runs.order == ["in line", "newcomer"]


async def test_a_hot_agent_cannot_starve_a_cold_one() -> None:
    """Seen on aiohttp under a total cap: 4,146 requests of the hot host, 1 of the cold one."""
    runs = made(at_once=4)
    now = asyncio.get_running_loop().time
    hot = [runs.send(C, "hot") for _ in range(500)]
    await asyncio.sleep(2.5)
    need = now()
    await runs.send(C, "cold", since=need)
    waited = dict(runs.started)["cold"] - need
    assert waited > 100  # those whose need is older go first: longest wait, not longest queue
    for task in hot:
        task.cancel()
    await runs.over()


async def test_creations_whose_need_is_older_pass_a_longer_queue() -> None:
    """pgbouncer#131: under a total limit the last pool in the alphabet starved."""
    runs = made(at_once=1)
    runs.send(C, "first", takes_s=10)
    await asyncio.sleep(1)
    for number in range(100):
        runs.send(C, f"hot {number}", since=5.0)
    runs.send(C, "cold", since=0.5)
    await runs.over()
    assert runs.order.index("cold") == 1


# ---------------------------------------------------------------------------------- concurrency


async def test_never_more_at_once_than_the_limit() -> None:
    runs = made(at_once=30)
    for number in range(600):
        runs.send(Urgency(number % 3), takes_s=0.1 + number % 7)
    await runs.over()
    assert runs.peak <= 30


async def test_exchanges_creations_and_confirmations_keep_a_tenth_each() -> None:
    runs = made(at_once=30)
    for _ in range(100):
        runs.send(E, takes_s=1000)
    await asyncio.sleep(1)
    assert runs.running == 24
    assert [runs.budget.room(urgency) for urgency in (E, C, F, W)] == [0, 3, 3, 0]
    for urgency in (C, F):
        for _ in range(5):
            runs.send(urgency, takes_s=1000)
    await asyncio.sleep(1)
    assert Counter(runs.order) == {"EXCHANGE": 24, "CREATE": 3, "CONFIRM": 3}
    for task in runs.tasks:
        task.cancel()
    await runs.over()


async def test_upkeep_together_has_its_share_and_at_least_one() -> None:
    runs = made(at_once=30, share=0.2)
    for urgency in (R, W, V, O):
        for _ in range(10):
            runs.send(urgency)
    await asyncio.sleep(0.5)
    assert runs.running == 6
    assert runs.budget.room(E) == 18
    await runs.over()
    assert runs.order[:10] == ["REPLACE"] * 10
    assert runs.order[-10:] == ["ORPHAN"] * 10
    one = made(at_once=4, share=0.0)
    one.send(O)
    one.send(O)
    await one.over()
    assert one.order == ["ORPHAN"] * 2


async def test_room_counts_those_in_line() -> None:
    runs = made(at_once=10)
    assert runs.budget.room(E) == 8
    for _ in range(9):
        runs.send(E)
    await asyncio.sleep(0)
    assert runs.budget.room(E) == 0
    assert runs.budget.snapshot().waiting[E] == 1
    await runs.over()
    assert runs.budget.room(E) == 8


async def test_a_share_of_nothing_waits_for_one_and_a_smaller_one_is_grown_into() -> None:
    runs = made(at_once=0)
    for _ in range(10):
        runs.send(E, takes_s=10)
    await asyncio.sleep(100)
    assert runs.started == []
    runs.budget.resize(Limits(1_000_000, 8))
    await asyncio.sleep(1)
    assert runs.running == 6
    runs.budget.resize(Limits(1_000_000, 1))
    await asyncio.sleep(10)
    assert runs.running == 1
    await runs.over()


# --------------------------------------------------------------------------------- the minute


@pytest.mark.parametrize("takes_s", [0.0, 0.3, 7.0])
async def test_never_more_than_the_limit_in_any_minute(takes_s: float) -> None:
    runs = made(rate=100, at_once=1000)
    for number in range(400):
        runs.send(Urgency(number % 3), takes_s=takes_s)
        await asyncio.sleep(0.05)
    await runs.over()
    starts = [at for _, at in runs.started]
    assert len(starts) == 400
    for begin in starts:
        assert sum(1 for at in starts if begin <= at < begin + 60) <= 100
    # And it is used: what the reserves allow, in each 61 s.
    assert starts[-1] <= 61 * 5


async def test_reserves_hold_in_the_minute_too() -> None:
    """Ten thousand creations of a cold start leave exchanges their tenth of each minute."""
    runs = made(rate=100, at_once=1000, share=0.2)
    for _ in range(200):
        runs.send(C, takes_s=0)
        runs.send(W, takes_s=0)
    await asyncio.sleep(1)
    assert Counter(runs.order) == {"CREATE": 60, "WARM": 20}
    for _ in range(15):
        runs.send(E, takes_s=0)
    await asyncio.sleep(1)
    assert runs.order.count("EXCHANGE") == 10
    for task in runs.tasks:
        task.cancel()
    await runs.over()


async def test_waiting_costs_one_timer_and_no_polling(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = made(rate=10, at_once=1000)
    loop = asyncio.get_running_loop()
    timers: list[float] = []
    call_later: Callable[..., asyncio.TimerHandle] = loop.call_later

    def counted(delay: float, *args: object, **kwargs: object) -> asyncio.TimerHandle:
        timers.append(delay)
        return call_later(delay, *args, **kwargs)

    for _ in range(100):
        runs.send(E, takes_s=0)
    await asyncio.sleep(0)
    monkeypatch.setattr(loop, "call_later", counted)
    await asyncio.sleep(0)
    await asyncio.sleep(600)
    monkeypatch.undo()
    assert len([delay for delay in timers if delay not in {0, 600}]) <= 15
    for task in runs.tasks:
        task.cancel()
    await runs.over()
