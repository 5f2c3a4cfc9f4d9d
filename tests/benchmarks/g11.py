"""G11: one caller, a warm pool, nobody else about: what one acquire and release costs."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from statistics import median

from tests.benchmarks.figures import Goal, Result, Row
from tests.benchmarks.peers import Pool, Queue, everybody
from tests.benchmarks.rounds import enough, per_cycle_s, ratio, turning

PSYCOPG_POOL = (7.0, 10.0)
"""Its cycle over asyncio.Queue's, as recorded on a machine of this kind; it needs a PostgreSQL."""

ASYNCPG = 33.0
"""Likewise for asyncpg.Pool."""

OF_PSYCOPG, OF_ASYNCPG = 0.8, 1 / 5

NOTES = (
    f"Not in this run, since they need a PostgreSQL: psycopg_pool, recorded at "
    f"{PSYCOPG_POOL[0]:g} to {PSYCOPG_POOL[1]:g} x asyncio.Queue, and asyncpg.Pool at "
    f"{ASYNCPG:g} x.",
)


def run(*, rounds: int = 9, round_s: float = 0.06) -> Result:
    """Measure everybody, a few tens of milliseconds at a time."""
    return asyncio.run(_run(rounds, round_s))


async def _run(rounds: int, round_s: float) -> Result:
    peers, absent = everybody()
    async with AsyncExitStack() as stack:
        for peer in peers:
            await peer.open(1)
            stack.push_async_callback(peer.aclose)
        many = {peer.name: await enough(peer.cycles, round_s) for peer in peers}
        times: dict[str, list[float]] = {peer.name: [] for peer in peers}
        for peer in turning(peers, rounds):
            times[peer.name].append(await per_cycle_s(peer.cycles, many[peer.name]))
    over = {peer.name: ratio(times, peer.name, Queue.name) for peer in peers}
    rows = tuple(
        Row(
            peer.name,
            (f"{over[peer.name]:.1f}", f"{1e6 * median(times[peer.name]):.2f}"),
            peer.does,
        )
        for peer in peers
    )
    ours = over[Pool.name]
    return Result(
        "G11",
        "acquire and release in process, warm, uncontended",
        f"medians of {rounds} interleaved rounds of {1e3 * round_s:.0f} ms",
        ("x Queue", "us/cycle"),
        rows,
        _goals(ours),
        {"over_queue": ours, "us": 1e6 * median(times[Pool.name])},
        (*NOTES, *absent),
    )


def _goals(ours: float) -> tuple[Goal, ...]:
    low, high = (OF_PSYCOPG * line for line in PSYCOPG_POOL)
    asyncpg = OF_ASYNCPG * ASYNCPG
    return (
        Goal(
            f"<= 0.8 x psycopg_pool, that is {low:.1f} x Queue by its lower record "
            f"({high:.1f} x by its upper)",
            f"{ours:.1f} x Queue",
            ours <= low,
        ),
        Goal(
            f">= 5 x faster than asyncpg.Pool, that is <= {asyncpg:.1f} x Queue",
            f"{ours:.1f} x Queue",
            ours <= asyncpg,
        ),
    )
