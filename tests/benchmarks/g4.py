"""G4: ten thousand callers at once on an agent that has no session yet (B8).

Beside it the same number of tasks park on an `asyncio.Semaphore` and are let through one by one:
what so many tasks cost whoever hands out.
"""

from __future__ import annotations

import asyncio
import gc
from statistics import median
from time import perf_counter
from typing import NamedTuple

from session_pool import Agent, AgentPolicy, RequestLimits, SessionPool
from tests.benchmarks.figures import Goal, Result, Row
from tests.benchmarks.remote import AGENT, Remote
from tests.benchmarks.rounds import turning

MAX_CREATING = 32

LIMITS = RequestLimits(requests_per_minute=10_000, concurrent_requests=800)
"""A service user's, so that `max_creating` is what binds."""


class Served(NamedTuple):
    """One round: seconds until the first and the last was served, and creations in flight."""

    first_s: float
    last_s: float
    most_creating: int
    created: int


class Parked(NamedTuple):
    """One round: seconds until all stood in line, and from there until all were through."""

    parked_s: float
    through_s: float


def run(*, rounds: int = 5, waiters: int = 10_000, latency_s: float = 0.8) -> Result:
    """Measure both in turn; a round takes a few seconds."""
    served: list[Served] = []
    parked: list[Parked] = []
    for who in turning(("pool", "semaphore"), rounds):
        gc.collect()
        if who == "pool":
            served.append(asyncio.run(_cold(waiters, latency_s)))
        else:
            parked.append(asyncio.run(_park(waiters)))
    over = [(a.first_s - latency_s) / b.parked_s for a, b in zip(served, parked, strict=True)]
    through = [
        (a.last_s - latency_s) / (b.parked_s + b.through_s)
        for a, b in zip(served, parked, strict=True)
    ]
    most = max(one.most_creating for one in served)
    late, first_s = median(over), median(one.first_s for one in served)
    return Result(
        "G4",
        f"a cold agent and {waiters:,} waiters, creations take {latency_s:g} s",
        f"medians of {rounds} interleaved rounds",
        ("first", "all", "first s", "all s"),
        (
            Row(
                "session_pool",
                (
                    f"{late:.2f}",
                    f"{median(through):.1f}",
                    f"{first_s:.3f}",
                    f"{median(one.last_s for one in served):.2f}",
                ),
                f"async with pool.acquire(agent): pass, in {waiters:,} tasks",
            ),
            Row(
                "asyncio.Semaphore",
                (
                    "1.00",
                    "1.0",
                    f"{median(one.parked_s for one in parked):.3f}",
                    f"{median(sum(one) for one in parked):.2f}",
                ),
                "as many tasks park (first), then pass one by one (all)",
            ),
        ),
        (
            Goal(
                f"never more than max_creating = {MAX_CREATING} creations in flight",
                f"{most} in flight",
                most <= MAX_CREATING,
            ),
            Goal(
                "first served within one creation latency + 2 x the time to park",
                f"latency + {late:.2f} x",
                late <= 2.0,
            ),
        ),
        {
            "most_creating": most,
            "created": max(one.created for one in served),
            "over_parking": late,
            "first_s": first_s,
        },
        (
            "Ratios of the time until the first and until all were served, one creation latency "
            "taken off the pool's.",
        ),
    )


async def _cold(waiters: int, latency_s: float) -> Served:
    remote = Remote(latency_s=latency_s)
    policy = AgentPolicy(max_waiting=waiters, max_creating=MAX_CREATING, min_idle=0, reuse="anyone")
    served: list[float] = []

    async def caller() -> None:
        async with pool.acquire(AGENT):
            served.append(perf_counter())

    async with SessionPool(
        url="https://stack.invalid",
        token="benchmark",
        agents={"agent": Agent(AGENT, policy)},
        limits=LIMITS,
        api=remote,
    ) as pool:
        began = perf_counter()
        tasks = [asyncio.create_task(caller()) for _ in range(waiters)]
        await asyncio.gather(*tasks)
        assert len(served) == waiters
        created = len(remote.started)
    return Served(served[0] - began, served[-1] - began, remote.most_in_flight, created)


async def _park(waiters: int) -> Parked:
    semaphore = asyncio.Semaphore(0)

    async def caller() -> None:
        async with semaphore:
            pass

    began = perf_counter()
    tasks = [asyncio.create_task(caller()) for _ in range(waiters)]
    await asyncio.sleep(0)  # every one of them runs before this task does again
    parked = perf_counter()
    semaphore.release()
    await asyncio.gather(*tasks)
    return Parked(parked - began, perf_counter() - parked)
