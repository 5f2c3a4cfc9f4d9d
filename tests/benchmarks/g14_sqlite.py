"""G14 on SQLite: four processes on one file; and whether parked sessions slow a hit down (G17)."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Final

from tests.benchmarks.crowd import crowd, stock
from tests.benchmarks.figures import Goal, Result, Row

P99_S: Final = 0.010
TIMES: Final = 1.5
PROCESSES: Final = 4
SESSIONS: Final = 40


def run(*, rounds: int = 5, round_s: float = 2.0, tasks: int = 8, parked: int = 100_000) -> Result:
    """Measure so many interleaved rounds, after parking so many conversations in a second file."""
    with tempfile.TemporaryDirectory() as folder:
        urls = [f"sqlite:///{folder}/{name}.db" for name in ("small", "large")]
        asyncio.run(stock(urls[0], SESSIONS))
        asyncio.run(stock(urls[1], SESSIONS, parked=parked))
        seen: list[list[list[float]]] = [[], [], []]
        for _ in range(rounds):
            for times, url in zip(seen, urls, strict=False):
                times.append(_together([("cycles", url, tasks, round_s)] * PROCESSES))
            bare = ("bare", Path(folder) / "bare.db", round_s)
            seen[2].append(_together([bare] * PROCESSES))
    p50, p99, rate = _figures(seen[0], round_s)
    large_p50, large_p99, large_rate = _figures(seen[1], round_s)
    bare_p50, bare_p99, bare_rate = _figures(seen[2], round_s)
    slower = median(
        median(large) / median(small) for small, large in zip(seen[0], seen[1], strict=True)
    )
    does = f"{PROCESSES} processes x {tasks} tasks take and put back, {SESSIONS} sessions"
    return Result(
        "G14",
        "SQLite: cycles of take and put by several processes on one file",
        f"medians of {rounds} rounds of {round_s:g} s",
        ("p50 ms", "p99 ms", "cycles/s"),
        (
            Row("session_pool", _cells(p50, p99, rate), does),
            Row(
                f"… {parked:,} parked",
                _cells(large_p50, large_p99, large_rate),
                f"the same beside {parked:,} conversations whose sessions are parked",
            ),
            Row(
                "bare file",
                _cells(bare_p50, bare_p99, bare_rate),
                f"{PROCESSES} processes, no tasks: flock, BEGIN IMMEDIATE, one UPDATE, COMMIT, "
                "twice",
            ),
        ),
        (
            Goal(f"p99 <= {1e3 * P99_S:.0f} ms", f"{1e3 * p99:.1f} ms", p99 <= P99_S),
            Goal(
                f"beside {parked:,} parked sessions <= {TIMES:g} x the time",
                f"{slower:.2f} x",
                slower <= TIMES,
            ),
        ),
        {"p50_s": p50, "p99_s": p99, "rate": rate, "slower": slower},
        ("All tasks ask again at once, so p50 is the crowd's size divided by the rate.",),
    )


def _together(arguments: Sequence[Sequence[object]]) -> list[float]:
    return sorted(time for times in crowd(arguments) for time in times)


def _figures(rounds: list[list[float]], round_s: float) -> tuple[float, float, float]:
    return (
        median(median(times) for times in rounds),
        median(times[int(0.99 * len(times))] for times in rounds),
        median(len(times) / round_s for times in rounds),
    )


def _cells(p50: float, p99: float, rate: float) -> tuple[str, str, str]:
    return (f"{1e3 * p50:.2f}", f"{1e3 * p99:.2f}", f"{rate:.0f}")
