"""G15 on PostgreSQL: from a release in one process to the waiter that runs in another.

Beside it the bare doorbell: a NOTIFY in the one, heard in the other. Both by the clock that all
processes of a machine share.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Final

import asyncpg

from session_pool.space import Grant, Put, Ticket
from session_pool.stores.postgres.address import address_of
from session_pool.stores.postgres.store import PostgresStore
from tests.benchmarks.figures import Goal, Result, Row
from tests.benchmarks.postgres_cycles import key, next_id, stock, want
from tests.servers.postgres import postgres_server

MIDDLE, LATE = 3.0, 5.0
BELL: Final = "session_pool_bare"


def run(*, turns: int = 400) -> Result:
    """Hand one session over, and ring one bell, by turns."""
    with postgres_server() as server:
        handed, bare = asyncio.run(_run(server.url(), turns))
    middle = median(handed) / median(bare)
    late = _late(handed) / _late(bare)
    return Result(
        "G15",
        "PostgreSQL: from a release to the waiter of another process running",
        f"{turns} hand-overs and {turns} bare rings, by turns",
        ("of bare", "p50 ms", "p99 ms"),
        (
            _row("session_pool", handed, bare, "put, which notifies; take; the waiter runs"),
            _row("NOTIFY", bare, bare, "heard by the other process on its connection"),
        ),
        (
            Goal(f"p50 <= {MIDDLE:g} x the bare doorbell", f"{middle:.1f} x", middle <= MIDDLE),
            Goal(f"p99 <= {LATE:g} x the bare doorbell", f"{late:.1f} x", late <= LATE),
        ),
        {"middle": middle, "late": late},
    )


async def _run(url: str, turns: int) -> tuple[list[float], list[float]]:
    store = PostgresStore(address_of(url))
    await store.open()
    wire = await asyncpg.connect(url)
    ring = await wire.prepare("SELECT pg_notify($1, 'x')")
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.benchmarks.g15_postgres", url,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert child.stdout is not None
    assert child.stdin is not None
    handed: list[float] = []
    bare: list[float] = []
    try:
        await stock(store, key(), 1)
        for _ in range(turns):
            grant = await store.take(want(key())._replace(max_leased=1), next_id(),
                                     patience_s=60.0, note_version=0)  # fmt: skip
            assert isinstance(grant, Grant)
            child.stdin.write(b"stand in line\n")
            await child.stdout.readline()  # it does
            began = monotonic()
            await store.put(Put(key(), grant.entry.id, next_id(), "idle", fence=grant.entry.fence))
            handed.append(float(await child.stdout.readline()) - began)
            await child.stdout.readline()  # it has given it back
            began = monotonic()
            await ring.fetchval(BELL)
            bare.append(float(await child.stdout.readline()) - began)
    finally:
        child.kill()
        await child.wait()
        await wire.close()
        await store.aclose()
    return handed, bare


async def _wait(url: str) -> None:
    """The other process: stands in line, runs, gives back, hears a bare ring; and so on."""
    store = PostgresStore(address_of(url))
    rung, bare = asyncio.Event(), asyncio.Event()

    def hear(*_: object) -> None:
        print(monotonic(), flush=True)
        bare.set()

    wire = await asyncpg.connect(url)
    await wire.add_listener(BELL, hear)
    store.watch(lambda request: rung.set())
    await store.open()
    while await asyncio.to_thread(sys.stdin.readline):
        request = f"child-{next_id()}"
        rung.clear()
        bare.clear()
        ticket = await store.take(want(key()), request, patience_s=60.0, note_version=0)
        assert isinstance(ticket, Ticket)
        print("in line", flush=True)
        await rung.wait()
        grant = await store.take(want(key()), request, patience_s=60.0, note_version=0)
        assert isinstance(grant, Grant)
        print(monotonic(), flush=True)
        await store.put(Put(key(), grant.entry.id, next_id(), "idle", fence=grant.entry.fence))
        print("given back", flush=True)
        await bare.wait()


def _late(seen: list[float]) -> float:
    return sorted(seen)[int(0.99 * (len(seen) - 1))]


def _row(who: str, seen: list[float], bare: list[float], does: str) -> Row:
    cells = (
        f"{median(seen) / median(bare):.1f} x",
        f"{1e3 * median(seen):.2f}",
        f"{1e3 * _late(seen):.2f}",
    )
    return Row(who, cells, does)


if __name__ == "__main__":
    asyncio.run(_wait(sys.argv[1]))
