"""G15 on SQLite: from a release in one process to the waiter running in another."""

from __future__ import annotations

import asyncio
import tempfile
from itertools import pairwise
from statistics import median
from typing import Final

from tests.benchmarks.crowd import crowd, stock
from tests.benchmarks.figures import Goal, Result, Row

P50_S: Final = 0.002
HOLD_S: Final = 0.003
"""How long each holds it, or waits before it rings: the other is asleep by then."""


def run(*, rounds: int = 5, turns: int = 200) -> Result:
    """Measure so many interleaved rounds, of so many turns for each of two processes."""
    ours: list[list[float]] = []
    bells: list[list[float]] = []
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/pool.db"
        asyncio.run(stock(url, 1))
        for number in range(rounds):
            ours.append(_relayed(url, turns))
            here, there = f"{folder}/{number}a", f"{folder}/{number}b"
            pings = [("ping", *ways, turns, HOLD_S) for ways in ((here, there), (there, here))]
            bells.append(sorted(time for times in crowd(pings, "first") for time in times))
    p50, p99 = _at(ours, 0.5), _at(ours, 0.99)
    bell_p50, bell_p99 = _at(bells, 0.5), _at(bells, 0.99)
    times = tuple(
        median(a[int(at * len(a))] / b[int(at * len(b))] for a, b in zip(ours, bells, strict=True))
        for at in (0.5, 0.99)
    )
    return Result(
        "G15",
        "SQLite: hand-over between processes, release to waiter running",
        f"medians of {rounds} rounds of {2 * turns} turns",
        ("p50, x bell", "p99, x bell", "p50 ms", "p99 ms"),
        (
            Row(
                "session_pool",
                (f"{times[0]:.1f}", f"{times[1]:.1f}", f"{1e3 * p50:.2f}", f"{1e3 * p99:.2f}"),
                "one session, two processes: put back and committed here, rung and fetched there",
            ),
            Row(
                "bare doorbell",
                ("1.0", "1.0", f"{1e3 * bell_p50:.2f}", f"{1e3 * bell_p99:.2f}"),
                "a unix datagram from one event loop to another, one way",
            ),
        ),
        (Goal("p50 <= 2 ms", f"{1e3 * p50:.2f} ms", p50 <= P50_S),),
        {"p50_s": p50, "p99_s": p99, "bell_p50_s": bell_p50, "times": times[0]},
        (
            "A hand-over is two commits and a doorbell: the release's, and that of the waiter who "
            "fetches.",
        ),
    )


def _relayed(url: str, turns: int) -> list[float]:
    told = crowd([("relay", url, turns, HOLD_S)] * 2)
    held = sorted(
        (began, ended)
        for times in told
        for began, ended in zip(times[::2], times[1::2], strict=True)
    )
    # One who took it twice running waited for nobody.
    mine = set(told[0][::2])
    return sorted(
        later[0] - earlier[1]
        for earlier, later in pairwise(held)
        if (earlier[0] in mine) != (later[0] in mine)
    )


def _at(rounds: list[list[float]], share: float) -> float:
    return median(times[int(share * len(times))] for times in rounds)
