"""The budget in virtual time: order, reserves, limits in every window, throttling, cancellation."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import anyio
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

pytestmark = pytest.mark.looptime

E, C, F = Urgency.EXCHANGE, Urgency.CREATE, Urgency.CONFIRM
R, W, V, O = Urgency.REPLACE, Urgency.WARM, Urgency.VERIFY, Urgency.ORPHAN  # noqa: E741 - in order


class Runs:
    """Requests through a budget: what started when, and how many ran at once."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.started: list[tuple[str, float]] = []
        self.running = 0
        self.peak = 0
        self.tasks: list[asyncio.Task[None]] = []

    def send(
        self, urgency: Urgency, name: str = "", *, since: float | None = None, takes_s: float = 1
    ) -> asyncio.Task[None]:
        async def run() -> None:
            async with self.budget.slot(urgency, since):
                self.started.append((name or urgency.name, asyncio.get_running_loop().time()))
                self.running += 1
                self.peak = max(self.peak, self.running)
                try:
                    await asyncio.sleep(takes_s)
                finally:
                    self.running -= 1

        task = asyncio.create_task(run())
        self.tasks.append(task)
        return task

    async def over(self) -> None:
        await asyncio.gather(*self.tasks, return_exceptions=True)
        snapshot = self.budget.snapshot()
        assert sum(snapshot.in_use.values()) == 0
        assert sum(snapshot.waiting.values()) == 0
        assert self.budget._timer is None

    @property
    def order(self) -> list[str]:
        return [name for name, _ in self.started]


def made(rate: int = 1_000_000, at_once: int = 1, share: float = 1.0) -> Runs:
    return Runs(Budget(Limits(rate, at_once, share)))


def test_presets_follow_the_auth() -> None:
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
    runs = made(at_once=4)
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
    assert runs.order.count("CREATE") == 80
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
