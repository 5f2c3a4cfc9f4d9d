"""The arithmetic of limits, over all small cases, and the window, over random histories."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_pool.foundry.quota import (
    INDIVIDUAL_USER,
    RESERVED,
    SERVICE_USER,
    Limits,
    Urgency,
    Window,
    reserve_of,
    room_in,
)

UPKEEP = [urgency for urgency in Urgency if urgency.is_upkeep]


@pytest.mark.parametrize(
    ("limit", "reserves"),
    [
        (0, (0, 0, 0)),
        (1, (0, 0, 0)),
        (2, (1, 0, 0)),
        (3, (1, 1, 0)),
        (4, (1, 1, 1)),
        (30, (3, 3, 3)),
        (800, (80, 80, 80)),
    ],
)
def test_three_keep_a_tenth_each_and_always_leave_one(
    limit: int, reserves: tuple[int, ...]
) -> None:
    assert tuple(reserve_of(urgency, limit) for urgency in RESERVED) == reserves
    assert all(reserve_of(urgency, limit) == 0 for urgency in UPKEEP)


def test_an_idle_limit_is_open_but_for_what_is_kept_for_others() -> None:
    idle = [0] * len(Urgency)
    rooms = {urgency: room_in(urgency, idle, 30, 0.2) for urgency in Urgency}
    assert [rooms[urgency] for urgency in RESERVED] == [24, 24, 24]
    assert [rooms[urgency] for urgency in UPKEEP] == [6] * 4


@given(limit=st.integers(1, 60), share=st.floats(0, 1), turns=st.lists(st.sampled_from(Urgency)))
def test_however_it_is_filled_the_reserves_hold(
    limit: int, share: float, turns: list[Urgency]
) -> None:
    used = [0] * len(Urgency)
    for urgency in [*turns, *itertools.chain.from_iterable([u] * limit for u in Urgency)]:
        if room_in(urgency, used, limit, share) > 0:
            used[urgency] += 1
    assert sum(used) <= limit
    assert sum(used[Urgency.REPLACE :]) <= max(1, int(limit * share))
    for urgency in RESERVED:
        assert used[urgency] >= reserve_of(urgency, limit)


def test_a_limit_of_nothing_lets_nothing_through() -> None:
    assert not any(room_in(urgency, [0] * len(Urgency), 0, 0.2) for urgency in Urgency)


def test_limits_scaled_down_keep_one_and_zero_stays_zero() -> None:
    assert Limits(5000, 30).scaled(0.01) == Limits(50, 1)
    assert Limits(0, 0).scaled(0.5) == Limits(0, 0)
    assert (INDIVIDUAL_USER.concurrent_requests, SERVICE_USER.concurrent_requests) == (30, 800)


@given(gaps=st.lists(st.floats(0, 90), max_size=80))
def test_nothing_leaves_the_window_before_it_is_a_minute_old(gaps: list[float]) -> None:
    window = Window()
    now = 0.0
    sent: list[float] = []
    for gap in gaps:
        now += gap
        window.forget_old(now)
        window.add(Urgency.CREATE, now)
        sent.append(now)
        counted = window.used[Urgency.CREATE]
        assert counted >= sum(1 for at in sent if at > now - Window.SPAN_S)
        assert counted <= sum(1 for at in sent if at > now - Window.SPAN_S - Window.CELL_S)


def test_the_window_says_when_it_changes_and_empties() -> None:
    window = Window()
    assert window.next_change_at() is None
    window.add(Urgency.WARM, 10.0)
    window.add(Urgency.WARM, 10.5)
    window.add(Urgency.WARM, 11.0)
    assert window.next_change_at() == 71.0
    window.forget_old(71.0)
    assert window.used[Urgency.WARM] == 1
    assert window.next_change_at() == 72.0
    window.forget_old(1000.0)
    assert window.next_change_at() is None
