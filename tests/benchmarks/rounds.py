"""Rounds: everybody measured once in each, in an order that turns, so that drift hits all alike.

A ratio is taken within each round and the median of those is reported: noise that lasts longer
than a round cancels out, noise that is shorter hits one round of many. Loops that never wait are
measured in processor time, all threads together, so that other programs' turns do not count.
"""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from statistics import median
from time import process_time
from typing import TypeVar

Name = TypeVar("Name")

CALIBRATION = 64
"""Cycles run to learn how many fill a round; they warm it up as well."""


def turning(names: Sequence[Name], rounds: int) -> Iterator[Name]:
    """Each name once per round; every round begins with another one."""
    for number in range(rounds):
        for step in range(len(names)):
            yield names[(number + step) % len(names)]


def ratio(seconds: Mapping[str, Sequence[float]], of: str, to: str) -> float:
    """The median over all rounds of one's figure divided by the other's."""
    return median(a / b for a, b in zip(seconds[of], seconds[to], strict=True))


async def per_cycle_s(cycles: Callable[[int], Awaitable[None]], many: int) -> float:
    """Seconds of processor time for one cycle, of so many run one after the other."""
    gc.collect()
    began = process_time()
    await cycles(many)
    return (process_time() - began) / many


async def enough(cycles: Callable[[int], Awaitable[None]], round_s: float) -> int:
    """How many cycles fill a round of so many seconds."""
    return max(CALIBRATION, int(round_s / await per_cycle_s(cycles, CALIBRATION)))
