"""G5: ten callers on an empty pool, all of whom want to hold at the same time (B8)."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from statistics import median
from time import perf_counter

from session_pool import Agent, AgentPolicy, SessionPool
from tests.benchmarks.database_peers import Psycopg, psycopg_ramp
from tests.benchmarks.figures import Goal, Result, Row
from tests.benchmarks.remote import AGENT, Remote

GOAL_S = 0.060
PSYCOPG_POOL_S = 0.506
"""Its last of ten, as recorded: it grows by one connection at a time."""


def run(*, rounds: int = 7, waiters: int = 10, latency_s: float = 0.05) -> Result:
    """Measure so many times; a round takes as long as a creation."""
    remotes: list[Remote] = []
    lasts = [asyncio.run(_ramp(waiters, latency_s, remotes)) for _ in range(rounds)]
    theirs = PSYCOPG_POOL_S / 0.05 * latency_s
    here = all(find_spec(package) for package in Psycopg.packages)
    if here:
        ramps = [asyncio.run(psycopg_ramp(waiters, latency_s)) for _ in range(min(rounds, 3))]
        theirs = median(ramps)
    last_s, most = median(lasts), max(remote.most_in_flight for remote in remotes)
    return Result(
        "G5",
        f"{waiters} waiters on an empty pool, creations take {1e3 * latency_s:.0f} ms",
        f"median of {rounds} rounds",
        ("last, x latency", "ms"),
        (
            Row(
                "session_pool",
                (f"{last_s / latency_s:.2f}", f"{1e3 * last_s:.1f}"),
                f"{waiters} tasks acquire, and hold until all are served; max_creating="
                f"{waiters}, min_idle=0; slowest round {1e3 * max(lasts):.1f} ms",
            ),
            Row(
                "psycopg_pool",
                (f"{theirs / latency_s:.2f}", f"{1e3 * theirs:.0f}"),
                f"{waiters} tasks getconn(), min_size=0, max_size={waiters}, each connection "
                f"{1e3 * latency_s:.0f} ms in configure"
                if here
                else "as recorded, not in this run: ten waiters, 50 ms to connect",
            ),
        ),
        (
            Goal(
                f"the last served within {1e3 * GOAL_S:.0f} ms",
                f"{1e3 * last_s:.1f} ms",
                last_s <= GOAL_S,
            ),
        ),
        {
            "last_s": last_s,
            "most_creating": most,
            "created": max(len(remote.started) for remote in remotes),
        },
    )


async def _ramp(waiters: int, latency_s: float, remotes: list[Remote]) -> float:
    remote = Remote(latency_s=latency_s)
    remotes.append(remote)
    policy = AgentPolicy(min_idle=0, max_creating=waiters)
    served: list[float] = []
    all_served = asyncio.Event()

    async def caller() -> None:
        async with pool.acquire(AGENT):
            served.append(perf_counter())
            if len(served) == waiters:
                all_served.set()
            await all_served.wait()

    async with SessionPool(
        url="https://stack.invalid",
        token="benchmark",
        agents={"agent": Agent(AGENT, policy)},
        api=remote,
    ) as pool:
        began = perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(waiters):
                group.create_task(caller())
    return served[-1] - began
