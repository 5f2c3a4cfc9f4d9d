"""G15 on Redis: from a release in one process to the waiter that runs in another.

Beside it the bare doorbell: a PUBLISH in the one, heard in the other. Both by the clock that all
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

from session_pool.space import Grant, Put, Ticket
from session_pool.stores.redis import RedisStore
from session_pool.stores.redis.address import address_of
from session_pool.stores.redis.wire import command
from tests.benchmarks.figures import Goal, Result, Row
from tests.benchmarks.redis_cycles import KEY, next_id, stock, want
from tests.servers.valkey import Server

MIDDLE, LATE = 3.0, 5.0
BELL: Final = b"bare"


def run(*, turns: int = 400) -> Result:
    """Hand one session over, and ring one bell, by turns."""
    with Server() as server:
        handed, bare = asyncio.run(_run(server.url, turns))
    middle = median(handed) / median(bare)
    late = _late(handed) / _late(bare)
    return Result(
        "G15",
        "Redis: from a release to the waiter of another process running",
        f"{turns} hand-overs and {turns} bare rings, by turns",
        ("of bare", "p50 ms", "p99 ms"),
        (
            _row("session_pool", handed, bare, "put; PUBLISH by the script; take; the waiter runs"),
            _row("PUBLISH", bare, bare, "heard by the other process on its connection"),
        ),
        (
            Goal(f"p50 <= {MIDDLE:g} x the bare doorbell", f"{middle:.1f} x", middle <= MIDDLE),
            Goal(f"p99 <= {LATE:g} x the bare doorbell", f"{late:.1f} x", late <= LATE),
        ),
        {"middle": middle, "late": late},
    )


async def _run(url: str, turns: int) -> tuple[list[float], list[float]]:
    store = RedisStore(address_of(url))
    await store.open()
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.benchmarks.g15_redis", url,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert child.stdout is not None
    assert child.stdin is not None
    handed: list[float] = []
    bare: list[float] = []
    try:
        await stock(store, 1)
        wire = await store._link.ready()
        for _ in range(turns):
            grant = await store.take(want(), next_id(), patience_s=60.0, note_version=0)
            assert isinstance(grant, Grant)
            child.stdin.write(b"stand in line\n")
            await child.stdout.readline()  # it does
            began = monotonic()
            await store.put(Put(KEY, grant.entry.id, next_id(), "idle", fence=grant.entry.fence))
            handed.append(float(await child.stdout.readline()) - began)
            await child.stdout.readline()  # it has given it back
            began = monotonic()
            await wire.ask(command(b"PUBLISH", BELL, b"x"))
            bare.append(float(await child.stdout.readline()) - began)
    finally:
        child.kill()
        await child.wait()
        await store.aclose()
    return handed, bare


async def _wait(url: str) -> None:
    """The other process: stands in line, runs, gives back, hears a bare ring; and so on."""
    store = RedisStore(address_of(url))
    rung, bare = asyncio.Event(), asyncio.Event()
    heard = store._link._heard

    def hear(channel: bytes, said: bytes) -> None:
        if channel == BELL:
            print(monotonic(), flush=True)
            bare.set()
        else:
            heard(channel, said)

    store._link._heard = hear
    store.watch(lambda request: rung.set())
    await store.open()
    (await store._link.ready()).send(command(b"SUBSCRIBE", BELL))
    while await asyncio.to_thread(sys.stdin.readline):
        request = f"child-{next_id()}"
        rung.clear()
        bare.clear()
        ticket = await store.take(want(), request, patience_s=60.0, note_version=0)
        assert isinstance(ticket, Ticket)
        print("in line", flush=True)
        await rung.wait()
        grant = await store.take(want(), request, patience_s=60.0, note_version=0)
        assert isinstance(grant, Grant)
        print(monotonic(), flush=True)
        await store.put(Put(KEY, grant.entry.id, next_id(), "idle", fence=grant.entry.fence))
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
