"""B13 over all processes on one store: shares are leased, follow the need, and never sum above."""

from __future__ import annotations

import asyncio
import random

import pytest

from session_pool.foundry import Urgency
from session_pool.sharer import AT_ONCE_FOR_S, MINUTE_FOR_S, MINUTE_S, USABLE_S
from tests.pool.shares import Process, now, town

pytestmark = pytest.mark.looptime

E, C, F = Urgency.EXCHANGE, Urgency.CREATE, Urgency.CONFIRM


async def all_of(tasks: list[asyncio.Task[None]], within_s: float) -> None:
    """See requests through."""
    async with asyncio.timeout(within_s):
        await asyncio.gather(*tasks)


async def keep_busy(process: Process, for_s: float, *, at_once: int, takes_s: float = 0.7) -> None:
    """As many at once as it may, for so long."""

    async def one() -> None:
        until = now() + for_s
        while now() < until:
            await asyncio.gather(*process.send(takes_s=takes_s))

    await asyncio.gather(*(one() for _ in range(at_once)))


# ------------------------------------------------------------------------------ alone


async def test_the_first_request_goes_out_at_once() -> None:
    async with town(processes=1) as here:
        (one,) = here.processes
        await all_of(one.send(C, times=8), 2)
        assert max(one.waited) == 0


async def test_an_idle_process_asks_the_store_for_nothing() -> None:
    async with town(processes=1) as here:
        (one,) = here.processes
        await asyncio.sleep(5)
        asked = one.store.calls["share"]
        assert one.may_use == (0, 0)
        await asyncio.sleep(300)
        assert one.store.calls["share"] == asked <= 4
        await all_of(one.send(), 2)  # and it wakes up in time
        assert one.waited[-1] <= 4 * here.latency_s


async def test_what_is_not_used_is_given_back_within_a_second() -> None:
    async with town(processes=1) as here:
        (one,) = here.processes
        await all_of(one.send(times=20, takes_s=2.5), 6)
        over = now()
        await asyncio.sleep(1.0 + 4 * here.latency_s)
        assert now() - over < 1.1
        assert one.may_use[0] == 0
        assert one.may_use[1] == 20  # what was sent in the minute stays taken
        await asyncio.sleep(MINUTE_S + 1)
        assert one.may_use == (0, 0)


async def test_a_share_grows_to_the_limit_within_two_seconds() -> None:
    async with town(processes=1) as here:
        (one,) = here.processes
        one.send(times=500, takes_s=10)
        await asyncio.sleep(2)
        assert one.under_way == 30 - 2 * 3  # what is kept for creations and confirmations


async def test_a_steady_load_costs_a_renewal_every_five_seconds() -> None:
    async with town(processes=1) as here:
        (one,) = here.processes
        busy = asyncio.create_task(keep_busy(one, 300, at_once=4))
        await asyncio.sleep(100)
        before = one.store.calls["share"]
        await asyncio.sleep(100)
        assert one.store.calls["share"] - before <= 2 * 100 / 5 + 2
        await busy


async def test_creations_that_are_not_in_line_are_asked_for_as_well() -> None:
    async with town(processes=1) as here:
        (one,) = here.processes
        await asyncio.sleep(3)
        one.creator.lacking = 12
        one.budget.lack()
        await asyncio.sleep(0.1)
        assert one.budget.room(C) >= 12
        assert one.creator.looked
        one.creator.lacking = 0


# ------------------------------------------------------------------------------ several


@pytest.mark.parametrize("processes", [2, 3, 8])
async def test_nodejs_spanner_1432_the_limit_is_not_one_for_each_process(processes: int) -> None:
    async with town(at_once=5, in_minute=60, processes=processes) as here:
        for one in here.processes:
            one.send(times=20, takes_s=0.5)
        await asyncio.sleep(240)
        total = sum(one.done.total() for one in here.processes)
        assert total >= min(20 * processes, 3 * 60 * 0.7)


@pytest.mark.parametrize("processes", [2, 8])
async def test_those_who_all_need_more_than_there_is_share_alike(processes: int) -> None:
    async with town(at_once=16, in_minute=1_000_000, processes=processes) as here:
        busy = [keep_busy(one, 240, at_once=40) for one in here.processes]
        await asyncio.gather(*busy)
        done = sorted(one.done.total() for one in here.processes)
        assert done[0] >= 0.6 * done[-1], done  # the first came into all of it at the start
        assert sum(done) >= 0.6 * 16 * 240 / 0.7, done


async def test_a_hot_process_does_not_starve_a_cold_one() -> None:
    async with town(at_once=5, processes=1) as here:
        (hot,) = here.processes
        busy = asyncio.create_task(keep_busy(hot, 100, at_once=200))
        await asyncio.sleep(20)
        cold = Process(here)
        await asyncio.sleep(1)
        for _ in range(10):
            await all_of(cold.send(C, takes_s=0.1), 10)
            await asyncio.sleep(3)
        assert sum(cold.waited) / 10 <= 3, cold.waited
        await busy


async def test_a_share_of_one_goes_from_hand_to_hand() -> None:
    async with town(at_once=1, processes=3) as here:
        for one in here.processes:
            one.send(times=5, takes_s=0.2)
        await asyncio.sleep(90)
        assert [one.done.total() for one in here.processes] == [5, 5, 5]


@pytest.mark.parametrize("share", [1, 2, 3, 4])
async def test_with_a_tiny_share_the_urgencies_take_turns(share: int) -> None:
    async with town(at_once=share, processes=1) as here:
        (one,) = here.processes
        hot = asyncio.create_task(keep_busy(one, 60, at_once=20, takes_s=0.5))
        await asyncio.sleep(5)
        await all_of(one.send(C) + one.send(F) + one.send(Urgency.CONFIRM), 8)
        await hot
        await all_of([*one.send(Urgency.WARM), *one.send(Urgency.VERIFY)], 30)


async def test_the_minute_of_one_is_not_spent_twice() -> None:
    async with town(at_once=100, in_minute=100, processes=2) as here:
        one, other = here.processes
        await asyncio.sleep(2)
        one.send(times=100, takes_s=0.01)
        await asyncio.sleep(5)
        spent = one.done.total()
        assert spent >= 60  # all but what is kept for other urgencies
        other.send(times=100, takes_s=0.01)
        await asyncio.sleep(50)
        assert spent + other.done.total() <= 100
        await asyncio.sleep(120)
        assert other.done.total() == 100


async def test_what_was_sent_stays_taken_when_a_process_closes() -> None:
    async with town(at_once=10, in_minute=60, processes=2) as here:
        one, other = here.processes
        one.send(times=40, takes_s=0.01)
        await asyncio.sleep(3)
        assert one.done[E] == 40
        await one.close()
        other.send(times=60, takes_s=0.01)
        await asyncio.sleep(40)
        assert other.done[E] <= 20
        await asyncio.sleep(90)
        assert other.done[E] == 60


# ------------------------------------------------------------------------------ trouble


async def test_the_share_of_a_killed_process_comes_back() -> None:
    async with town(at_once=10, in_minute=1000, processes=2) as here:
        one, other = here.processes
        one.send(times=10, takes_s=100)
        await asyncio.sleep(3)
        assert one.under_way >= 8
        await one.kill()
        other.send(times=8, takes_s=0.1)
        await asyncio.sleep(AT_ONCE_FOR_S + 5)
        assert other.done[E] == 8


async def test_the_minute_of_a_killed_process_comes_back_when_it_is_over() -> None:
    async with town(at_once=50, in_minute=50, processes=2) as here:
        one, other = here.processes
        one.send(times=40, takes_s=0.01)
        await asyncio.sleep(3)
        sent = one.done.total()
        assert sent >= 30
        await one.kill()
        other.send(times=40, takes_s=0.01)
        await asyncio.sleep(57)
        assert other.done.total() <= 50 - sent
        await asyncio.sleep(MINUTE_FOR_S - 57 + 65)
        assert other.done.total() == 40


async def test_a_frozen_process_finds_its_share_gone() -> None:
    async with town(at_once=10, processes=2) as here:
        one, other = here.processes
        one.send(times=4, takes_s=1)
        await asyncio.sleep(0.6)
        assert one.may_use[0] > 0
        one.clock.ahead_s += USABLE_S + 1  # the machine slept, and no timer fired
        assert one.may_use == (0, 0)
        before = len(here.sent)
        one.send(times=1)
        await asyncio.sleep(0)
        assert len(here.sent) == before
        await asyncio.sleep(3)  # it has asked again
        assert one.done[E] == 5
        assert other.store.calls["share"] > 0


async def test_a_process_that_does_not_renew_stops_before_the_store_forgets_it() -> None:
    async with town(at_once=10, processes=2) as here:
        one, other = here.processes
        busy = asyncio.create_task(keep_busy(one, 60, at_once=10))
        await asyncio.sleep(3)
        one.freeze()
        other.send(times=8, takes_s=5)
        await asyncio.sleep(USABLE_S + 2)
        assert one.may_use == (0, 0)
        await asyncio.sleep(5)
        assert other.under_way + other.done[E] == 8
        busy.cancel()


async def test_a_throttled_process_lowers_the_limit_for_all_and_it_recovers_slowly() -> None:
    async with town(at_once=100, in_minute=1_000_000, processes=2) as here:
        one = here.processes[0]
        busy = [
            asyncio.create_task(keep_busy(p, 400, at_once=60, takes_s=3)) for p in here.processes
        ]
        await asyncio.sleep(30)
        assert sum(p.may_use[0] for p in here.processes) >= 75
        one.budget.throttled(None)
        await asyncio.sleep(0.1)
        named = one.sharer._portions[0].named(one.budget.demand(new_peak=False).factor)
        assert named == 70
        await asyncio.sleep(6)
        assert sum(p.may_use[0] for p in here.processes) <= 74
        await asyncio.sleep(30)  # a hundredth every two seconds
        parts = [p.may_use[0] for p in here.processes]
        assert 60 <= sum(parts) <= 90, parts
        assert min(parts) >= 15, parts  # what throttling takes off is taken off once
        await asyncio.sleep(120)
        assert sum(p.may_use[0] for p in here.processes) >= 75
        for task in busy:
            task.cancel()


async def test_an_idle_throttled_process_keeps_the_limit_lowered() -> None:
    async with town(at_once=100, processes=2) as here:
        one, other = here.processes
        one.budget.throttled(None)
        await asyncio.sleep(10)
        other.send(times=200, takes_s=10)
        await asyncio.sleep(3)
        assert 50 <= other.may_use[0] <= 76
        await asyncio.sleep(120)
        assert one.may_use[0] == 0


async def test_without_the_store_the_share_is_used_until_its_end_and_then_the_floor() -> None:
    async with town(at_once=10, processes=1) as here:
        (one,) = here.processes
        busy = asyncio.create_task(keep_busy(one, 100, at_once=8))
        await asyncio.sleep(3)
        one.store.away = True
        await asyncio.sleep(10)
        assert one.may_use[0] >= 8
        await asyncio.sleep(USABLE_S)
        assert one.may_use[0] == 1
        done = one.done[E]
        await asyncio.sleep(7)
        assert 9 <= one.done[E] - done <= 11  # one at a time
        one.store.away = False
        await asyncio.sleep(3)
        assert one.may_use[0] >= 8
        busy.cancel()


async def test_an_idle_process_whose_store_is_away_still_exchanges() -> None:
    async with town(processes=1) as here:
        (one,) = here.processes
        await asyncio.sleep(5)
        assert one.may_use == (0, 0)
        one.store.away = True
        await all_of(one.send(), 3)
        assert one.waited[-1] <= 1.0
        one.store.away = False


async def test_a_store_that_is_silent_opens_the_floor_too() -> None:
    async with town(processes=1) as here:
        (one,) = here.processes
        await asyncio.sleep(5)
        one.store.hang()
        await all_of(one.send(), 3)
        assert one.waited[-1] <= 1.1
        one.store.answer()


@pytest.mark.parametrize("when", ["before", "after"])
async def test_an_answer_that_is_lost_makes_nobody_use_more_than_it_has(when: str) -> None:
    async with town(at_once=8, processes=3, floor=False) as here:
        chance = random.Random(7)
        for second in range(120):
            one = chance.choice(here.processes)
            one.send(times=chance.randrange(6), takes_s=chance.choice((0.1, 1.0, 3.0)))
            if second % 3 == 0:
                one.store.fail("share", when)  # type: ignore[arg-type]
            await asyncio.sleep(1)
        for one in here.processes:
            one.store.forgive()
        await asyncio.sleep(60)
        assert all(not one.budget.demand(new_peak=False).urgent for one in here.processes)


async def test_a_wiped_store_hears_again_what_each_has() -> None:
    async with town(at_once=9, processes=3) as here:
        busy = [asyncio.create_task(keep_busy(p, 100, at_once=9)) for p in here.processes]
        await asyncio.sleep(30)
        inner = here.store.wipe()
        for one in here.processes:
            one.store.wipe(inner)
        await asyncio.sleep(10)  # the watch has seen no moment above the limit
        assert sum(p.may_use[0] for p in here.processes) >= 7
        for task in busy:
            task.cancel()


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_happens_the_limits_hold(seed: int) -> None:
    chance = random.Random(seed)
    async with town(
        at_once=chance.choice((1, 3, 10)),
        in_minute=chance.choice((20, 100, 2000)),
        processes=4,
        floor=False,
    ) as here:
        for _ in range(150):
            one = chance.choice(here.processes)
            match chance.randrange(12):
                case 0:
                    one.store.away = not one.store.away
                case 1:
                    one.clock.ahead_s += chance.choice((1, 20, 40))
                case 2 if len(here.processes) < 8:
                    await one.kill()
                    Process(here)
                case _:
                    one.send(
                        chance.choice((E, E, C, F, Urgency.VERIFY)),
                        times=chance.randrange(8),
                        takes_s=chance.choice((0.05, 0.5, 4.0)),
                    )
            await asyncio.sleep(chance.choice((0.1, 0.7, 2.0)))
