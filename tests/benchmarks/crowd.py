"""One process of a crowd on a shared store: run as a program, told what to do by its arguments.

`python -m tests.benchmarks.crowd cycles URL TASKS SECONDS` takes and gives back, and prints the
seconds that each cycle took. `… relay URL ROUNDS HOLD_S` hands one session to and fro between two
such processes, and prints when each of its turns began and ended, by the machine's clock. `… ping
HERE THERE ROUNDS HOLD_S` and `… bare PATH SECONDS` are the floors of the two on SQLite. All say
"ready" and begin when a line comes in.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import monotonic, perf_counter
from typing import Final

from session_pool.model import FOREVER, PoolKey
from session_pool.space import Done, Grant, Put, Ticket, Want
from session_pool.stores.base import Store
from session_pool.stores.open import open_store
from session_pool.stores.sqlite.lock import FileLock

KEY: Final = PoolKey("stack.example.com", "default", "ri.aip-agents..agent.1")


def want(cap: int = 1000) -> Want:
    """The same want all along, as the pool keeps it."""
    return Want(KEY, "me", None, None, 300.0, 30.0, cap, 100_000)


async def stock(url: str, sessions: int, *, parked: int = 0) -> None:
    """Fill a store with idle sessions, and with conversations whose sessions are parked."""
    store = open_store(url, clock=monotonic)
    await store.open()
    try:
        for begin in range(0, parked, 500):
            many = range(begin, min(begin + 500, parked))
            await asyncio.gather(*(_park(store, number) for number in many))
        await asyncio.gather(*(_stock(store, f"e{number}") for number in range(sessions)))
    finally:
        await store.aclose()


async def _stock(store: Store, name: str) -> None:
    put = Put(
        KEY, name, f"made {name}", "idle", rid=f"ri.aip-agents..session.{name}",
        agent_version="1.0", expires_in_s=86_400.0, fresh_in_s=80_000.0, deadline_in_s=1800.0,
    )  # fmt: skip
    assert type(await store.put(put)) is Done


async def _park(store: Store, number: int) -> None:
    await _stock(store, f"p{number}")
    asked = want(1_000_000)._replace(conversation=f"slack:C{number:07}")
    grant = await store.take(asked, f"parking {number}", patience_s=0.0, note_version=0)
    assert type(grant) is Grant
    entry = grant.entry
    put = Put(KEY, entry.id, f"parked {number}", "parked", None, entry.fence, None, 90_000.0)
    assert type(await store.put(put)) is Done


async def _cycles(url: str, tasks: int, seconds: float) -> list[float]:
    store = open_store(url, clock=monotonic)
    await store.open()
    name, asked, times = store_id(), want(), list[float]()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    ends = perf_counter() + seconds

    async def run(task: int) -> None:
        number = 0
        while (began := perf_counter()) < ends:
            number += 1
            request = f"{name}-{task}-{number}"
            grant = await store.take(asked, request, patience_s=30.0, note_version=0)
            assert type(grant) is Grant
            entry = grant.entry
            put = Put(KEY, entry.id, f"{request}b", "idle", None, entry.fence, None, 1800.0)
            assert type(await store.put(put)) is Done
            times.append(perf_counter() - began)

    await asyncio.gather(*map(run, range(tasks)))
    await store.aclose()
    return times


async def _relay(url: str, rounds: int, hold_s: float) -> list[float]:
    store = open_store(url, clock=monotonic)
    await store.open()
    name, asked, rung, turns = store_id(), want(1), asyncio.Event(), list[float]()
    store.watch(lambda request: rung.set())
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    for number in range(rounds):
        request = f"{name}-{number}"
        while True:
            rung.clear()
            answer = await store.take(asked, request, patience_s=FOREVER, note_version=0)
            if type(answer) is Grant:
                break
            assert type(answer) is Ticket
            await rung.wait()
        began = monotonic()
        await asyncio.sleep(hold_s)  # long enough for the other to stand in line
        entry = answer.entry
        turns += [began, monotonic()]
        await store.put(Put(KEY, entry.id, f"{request}b", "idle", None, entry.fence, None, 1800.0))
    await store.aclose()
    return turns


async def _ping(here: str, there: str, rounds: int, hold_s: float) -> list[float]:
    """The bare doorbell: a datagram to and fro, each heard by an event loop that slept."""
    loop, heard, times = asyncio.get_running_loop(), asyncio.Event(), list[float]()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bell:
        bell.setblocking(False)
        bell.bind(here)

        def rung() -> None:
            times.append(monotonic() - float(bell.recv(100)))
            heard.set()

        loop.add_reader(bell.fileno(), rung)
        print("ready", flush=True)
        first = (await asyncio.to_thread(sys.stdin.readline)).strip() == "first"
        if first:
            heard.set()
        for _ in range(rounds):
            await heard.wait()
            heard.clear()
            await asyncio.sleep(hold_s)
            bell.sendto(str(monotonic()).encode(), there)
        if first:
            await heard.wait()  # the other's last
        loop.remove_reader(bell.fileno())
    return times


def _bare(path: str, seconds: float) -> list[float]:
    """The bare file: two transactions of one change each, under the same lock, one at a time."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=30.0)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, n INTEGER)")
    connection.execute("INSERT OR IGNORE INTO t VALUES (1, 0)")
    lock, times = FileLock(Path(path)), list[float]()
    print("ready", flush=True)
    sys.stdin.readline()
    ends = perf_counter() + seconds
    while (began := perf_counter()) < ends:
        for _ in range(2):
            with lock.held():
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("UPDATE t SET n = n + 1 WHERE id = 1")
                connection.execute("COMMIT")
        times.append(perf_counter() - began)
    connection.close()
    lock.close()
    return times


def store_id() -> str:
    """Tells this process's requests from the others'."""
    return f"p{os.getpid()}"


def crowd(arguments: Sequence[Sequence[object]], first: str = "") -> list[list[float]]:
    """Run such processes side by side; what each printed. The first is told `first` to begin."""
    command = [sys.executable, "-m", "tests.benchmarks.crowd"]
    running = [
        subprocess.Popen(
            [*command, *map(str, told)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for told in arguments
    ]
    try:
        for process in running:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        # The first begins last, when those who must listen do.
        for process in reversed(running):
            assert process.stdin is not None
            process.stdin.write((first if process is running[0] else "") + "\n")
            process.stdin.flush()
        return [json.loads(process.communicate()[0]) for process in running]
    finally:
        for process in running:
            process.kill()
            process.communicate()


def main(what: str, rest: Sequence[str]) -> list[float]:
    """One process."""
    if what == "cycles":
        return asyncio.run(_cycles(rest[0], int(rest[1]), float(rest[2])))
    if what == "relay":
        return asyncio.run(_relay(rest[0], int(rest[1]), float(rest[2])))
    if what == "ping":
        return asyncio.run(_ping(rest[0], rest[1], int(rest[2]), float(rest[3])))
    return _bare(rest[0], float(rest[1]))


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2:])))
