"""A process beside the test's own, on one SQLite store: run as a program, told by its arguments.

`hammer URL NAME TASKS` hands out and gives back until a line comes in, then prints what it held:
entry, fence, and from when to when. `freeze URL` stops itself (SIGSTOP) inside a transaction.
`open URL` opens as an ordinary user, and prints what it was told. `fork URL` opens, forks, and
prints what the child was told.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Final

from session_pool.errors import SessionPoolError
from session_pool.model import PoolKey, State
from session_pool.space import Done, Grant, Put, Want
from session_pool.stores.base import Store
from session_pool.stores.open import open_store
from session_pool.stores.sqlite.moment import Moment
from session_pool.stores.sqlite.store import SqliteStore

KEY: Final = PoolKey("stack.example.com", "default", "ri.aip-agents..agent.1")
NOBODY: Final = 65_534
TTL_S: Final = 1.0


@contextmanager
def worker(*told: object) -> Iterator[subprocess.Popen[str]]:
    """Such a process; killed at the end if it is still there."""
    command = [sys.executable, "-m", "tests.stores.sqlite_worker", *map(str, told)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def said(process: subprocess.Popen[str]) -> str:
    """The next line that it prints."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def tell(process: subprocess.Popen[str]) -> None:
    """Let it go on, or end."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


async def _hammer(store: Store, name: str, tasks: int) -> list[tuple[str, int, float, float]]:
    held: list[tuple[str, int, float, float]] = []
    rung: dict[str, asyncio.Event] = {}
    over = asyncio.Event()
    store.watch(lambda request: rung[request].set() if request in rung else None)

    async def run(task: int) -> None:
        number = 0
        talk = f"talk {task % 3}" if task % 2 else None  # some conversations are everybody's
        asked = Want(KEY, name, talk, None, 0.0, TTL_S, 100, 1000)
        while not over.is_set():
            number += 1
            request = f"{name}-{task}-{number}"
            grant = await _granted(store, asked, request, rung)
            began = monotonic()
            await asyncio.sleep(0)
            entry = grant.entry
            held.append((entry.id, entry.fence, began, monotonic()))
            state: State = "parked" if talk is not None else "idle"
            put = Put(KEY, entry.id, f"{request}b", state, None, entry.fence, None, 1e6)
            await store.put(put)

    async def listen() -> None:
        await asyncio.to_thread(sys.stdin.readline)
        over.set()

    print("ready", flush=True)
    await asyncio.gather(listen(), *map(run, range(tasks)))
    return held


async def _granted(
    store: Store, asked: Want, request: str, rung: dict[str, asyncio.Event]
) -> Grant:
    news = rung[request] = asyncio.Event()
    while True:
        news.clear()
        answer = await store.take(asked, request, patience_s=2.0, note_version=0)
        if type(answer) is Grant:
            del rung[request]
            return answer
        try:
            async with asyncio.timeout(0.5):
                await news.wait()
        except TimeoutError:
            continue


async def _freeze(store: SqliteStore) -> None:
    def stop(moment: Moment) -> None:
        print("frozen", flush=True)
        # To this very thread, which so stops at once; the others stop with it.
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)

    await store._do(stop)


async def _in_child(store: Store) -> str:
    # The child has this loop running, as it were: what matters is that it is another process.
    child = os.fork()
    if child:
        await asyncio.to_thread(os.waitpid, child, 0)
        counts, _ = await store.read(KEY)
        return f"the parent goes on: {counts.states}"
    try:
        await store.read(KEY)
    except SessionPoolError as error:
        print(f"{type(error).__name__}: {error}", flush=True)
    os._exit(0)


async def _main(what: str, url: str, rest: list[str]) -> None:
    if what == "open" and os.geteuid() == 0:
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    store = open_store(url, clock=monotonic)
    assert isinstance(store, SqliteStore)
    try:
        await store.open()
    except SessionPoolError as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        return
    match what:
        case "hammer":
            print(json.dumps(await _hammer(store, rest[0], int(rest[1]))))
        case "freeze":
            await _freeze(store)
        case "fork":
            print(await _in_child(store))
        case "open":
            done = await store.put(Put(KEY, "a", "op", "idle"))
            print("opened" if type(done) is Done else "not opened")
    await store.aclose()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], sys.argv[2], sys.argv[3:]))
