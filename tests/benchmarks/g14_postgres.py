"""G14 on PostgreSQL: 32 tasks take and give back, on one key and over eight.

Beside them pairs of `SELECT 1`: through asyncpg.Pool, as one uses it, and over connections of one's
own with the statement prepared, which is the least that two trips can cost here. Then the same with
100,000 parked sessions in the key.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from statistics import median
from time import perf_counter
from typing import Any

import asyncpg

from session_pool.model import PoolKey
from session_pool.space import Grant, Put
from session_pool.stores.postgres.address import address_of
from session_pool.stores.postgres.lanes import CONNECTIONS
from session_pool.stores.postgres.store import PostgresStore
from tests.benchmarks.figures import Goal, Result, Row
from tests.benchmarks.postgres_cycles import key, next_id, stock, want
from tests.benchmarks.rounds import ratio, turning
from tests.servers.postgres import PostgresServer, postgres_server

ONE_KEY, EIGHT_KEYS, GROWTH = 0.20, 0.35, 1.5
POOLED, BARE = "SELECT 1, asyncpg.Pool", "SELECT 1, bare"
ONE, EIGHT, PARKED = "one key", "eight keys", "one key, parked"

Cycle = Callable[[int], Awaitable[None]]


def run(*, rounds: int = 5, cycles: int = 1500, tasks: int = 32, parked: int = 100_000) -> Result:
    """Measure all, a fraction of a second at a time."""
    with postgres_server() as server:
        rates, late = asyncio.run(_run(server, rounds, cycles, tasks, parked))
    one, eight = ratio(rates, ONE, BARE), ratio(rates, EIGHT, BARE)
    growth = ratio(rates, ONE, PARKED)
    does = {
        ONE: f"take, put as idle: one trip each; {tasks} tasks on one key",
        EIGHT: "the same over eight keys",
        PARKED: f"the same on a key with {parked:,} parked sessions",
        POOLED: "fetchval twice, each with a connection of a pool of as many",
        BARE: f"the same, prepared, over {CONNECTIONS} connections of their own",
    }
    rows = tuple(
        Row(
            "session_pool" if who == ONE else who,
            (
                f"{ratio(rates, who, POOLED):.0%}", f"{ratio(rates, who, BARE):.0%}",
                f"{median(rates[who]) / 1e3:.2f}",
                f"{1e3 * median(seen[len(seen) // 2] for seen in late[who]):.1f}",
                f"{1e3 * median(seen[int(0.99 * (len(seen) - 1))] for seen in late[who]):.1f}",
            ),
            does[who],
        )
        for who in (ONE, EIGHT, PARKED, POOLED, BARE)
    )  # fmt: skip
    return Result(
        "G14",
        f"PostgreSQL: {tasks} tasks take and give back",
        f"medians of {rounds} interleaved rounds of {cycles} cycles",
        ("of pool", "of bare", "k/s", "p50 ms", "p99 ms"),
        rows,
        (
            Goal(
                f">= {ONE_KEY:.0%} of SELECT 1 pairs on one key", f"{one:.0%}", one >= ONE_KEY
            ),
            Goal(f">= {EIGHT_KEYS:.0%} over eight keys", f"{eight:.0%}", eight >= EIGHT_KEYS),
            Goal(
                f"<= {GROWTH} x the cycle with {parked:,} parked", f"{growth:.2f} x",
                growth <= GROWTH,
            ),
        ),
        {"one": one, "eight": eight, "growth": growth},
        ("The goals are held against the bare pairs. What is asked about one key at the same time "
         "goes in one trip, so one key can be faster than eight.",),
    )  # fmt: skip


async def _run(
    server: PostgresServer, rounds: int, cycles: int, tasks: int, parked: int
) -> tuple[dict[str, list[float]], dict[str, list[list[float]]]]:
    store = PostgresStore(address_of(server.url()))
    await store.open()
    keys = [key(number) for number in range(9)]
    for one in keys:
        await stock(store, one, tasks + 8)
    _park(server, keys[8], parked)
    pool = await asyncpg.create_pool(server.url(), min_size=CONNECTIONS, max_size=CONNECTIONS)
    wires = [await asyncpg.connect(server.url()) for _ in range(CONNECTIONS)]
    free: asyncio.Queue[Any] = asyncio.Queue()
    for wire in wires:
        free.put_nowait(await wire.prepare("SELECT 1"))

    async def pooled(_: int) -> None:
        for _ in range(2):
            async with pool.acquire() as connection:
                await connection.fetchval("SELECT 1")

    async def bare(_: int) -> None:
        for _ in range(2):
            statement = await free.get()
            await statement.fetchval()
            free.put_nowait(statement)

    who: dict[str, Cycle] = {
        ONE: _cycle(store, keys[:1]), EIGHT: _cycle(store, keys[:8]),
        PARKED: _cycle(store, keys[8:]), POOLED: pooled, BARE: bare,
    }  # fmt: skip
    rates: dict[str, list[float]] = {name: [] for name in who}
    late: dict[str, list[list[float]]] = {name: [] for name in who}
    for name in who:
        await _race(who[name], tasks, tasks * 4)
    for name in turning(list(who), rounds):
        began = perf_counter()
        late[name].append(await _race(who[name], tasks, cycles))
        rates[name].append(cycles / (perf_counter() - began))
    await store.aclose()
    await pool.close()
    for wire in wires:
        await wire.close()
    return rates, late


def _cycle(store: PostgresStore, keys: list[PoolKey]) -> Cycle:
    async def cycle(task: int) -> None:
        of = keys[task % len(keys)]
        grant = await store.take(want(of), next_id(), patience_s=30.0, note_version=0)
        assert isinstance(grant, Grant)
        await store.put(Put(of, grant.entry.id, next_id(), "idle", fence=grant.entry.fence))

    return cycle


async def _race(cycle: Cycle, tasks: int, many: int) -> list[float]:
    """So many cycles, shared out as they come; how long each took, in order of length."""
    turns, took = iter(range(many)), list[float]()

    async def go(task: int, turns: Iterator[int]) -> None:
        for _ in turns:
            began = perf_counter()
            await cycle(task)
            took.append(perf_counter() - began)

    await asyncio.gather(*(go(task, turns) for task in range(tasks)))
    return sorted(took)


def _park(server: PostgresServer, of: PoolKey, many: int) -> None:
    # As many puts would, in a fraction of the time: copies of one that is idle, and parked.
    server.sql(
        f"""
        SET search_path = session_pool;
        INSERT INTO entries
            SELECT 'p' || n, 'parked', 3, 1, 'rid p' || n, agent_version, pinned, 'talk ' || n,
                holder, lease, lapses, since, fresh_until, expires, deadline, facts, op, space,
                key, queued
            FROM generate_series(1, {many}) AS n, (SELECT entries.* FROM entries JOIN keys
                ON keys.id = key WHERE agent = '{of.agent_rid}' LIMIT 1) AS one;
        UPDATE keys SET counts[6] = counts[6] + {many} WHERE agent = '{of.agent_rid}';
        """
    )
