"""G11: one caller, a warm pool, nobody else about: what one acquire and release costs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from statistics import median

from tests.benchmarks.figures import Goal, Result, Row
from tests.benchmarks.peers import Pool, Queue, everybody
from tests.benchmarks.rounds import enough, per_cycle_s, ratio, turning

PSYCOPG_POOL = 7.0
"""Its cycle over asyncio.Queue's, as recorded on a machine of this kind: where it is not here."""

ASYNCPG = 33.0
"""Likewise for asyncpg.Pool."""

OF_PSYCOPG, OF_ASYNCPG = 0.8, 1 / 5


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
        _goals(over),
        {"over_queue": ours, "us": 1e6 * median(times[Pool.name])},
        absent,
    )


def _goals(over: Mapping[str, float]) -> tuple[Goal, ...]:
    goals = []
    for peer, record, part, says in (
        ("psycopg_pool", PSYCOPG_POOL, OF_PSYCOPG, "<= 0.8 x psycopg_pool"),
        ("asyncpg.Pool", ASYNCPG, OF_ASYNCPG, ">= 5 x faster than asyncpg.Pool"),
    ):
        theirs = over.get(peer, record)
        how = "in this run" if peer in over else "as recorded"
        goals.append(
            Goal(
                f"{says}, that is <= {part * theirs:.1f} x Queue, {how}",
                f"{over[Pool.name]:.1f} x Queue",
                over[Pool.name] <= part * theirs,
            )
        )
    return tuple(goals)
