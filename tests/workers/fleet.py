"""A fleet: workers in processes of their own, started, stopped, killed and asked what they saw.

It carries out what happens to them; what must be true afterwards is in `account`.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any, Final

from session_pool.emulator import Emulator
from session_pool.errors import StoreUnavailable
from session_pool.model import Entry, PoolKey
from session_pool.stores.base import Store
from tests.workers.worker import Job

WITHIN_S: Final = 30.0
"""For whatever is waited for; the machine may be busy with other things."""

LOOK_S: Final = 0.5
"""For a look at a store that a frozen process may keep closed."""

ROOT: Final = Path(__file__).parents[2]


class Worker:
    """One process of a fleet.

    Attributes:
        job: what it was told.
        holder: under what name its pool leases; "" until it is ready.
        turns, served: how many turns its tasks have taken, and sessions they have got, so far.
        forgot: leases that it told a store which had forgotten them, in total; None: never.
        report: what it saw, once it has ended.
        errors: how often each error was met, as far as it has told.
    """

    def __init__(self, job: Job, process: asyncio.subprocess.Process, news: asyncio.Event) -> None:
        self.job = job
        self.holder = ""
        self.turns = self.served = 0
        self.forgot: int | None = None
        self.errors: Counter[str] = Counter()
        self.report: dict[str, Any] = {}
        self.trouble = ""
        self._process = process
        self._news = news
        self._reading = asyncio.create_task(self._read())

    @property
    def name(self) -> str:
        """Of its job."""
        return self.job.name

    @property
    def running(self) -> bool:
        """The process has not ended."""
        return self._process.returncode is None

    def kill(self) -> None:
        """`kill -9`."""
        self._process.send_signal(signal.SIGKILL)

    def freeze(self) -> None:
        """Stop it in whatever it does, until `thaw`."""
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)

    def thaw(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def tell(self, word: str) -> None:
        """Say a word to it."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n".encode())

    async def ended(self) -> None:
        """Return once it has ended and all that it said was read."""
        await self._reading
        await self._process.wait()

    async def _read(self) -> None:
        process = self._process
        assert process.stdout is not None
        assert process.stderr is not None
        trouble = asyncio.create_task(process.stderr.read())
        while line := await process.stdout.readline():
            told = json.loads(line)
            self.holder = told.get("ready", self.holder)
            self.turns = told.get("turns", self.turns)
            self.served = told.get("served", self.served)
            if "forgot" in told:
                self.forgot = (self.forgot or 0) + told["forgot"]
            self.errors = Counter(told.get("errors", self.errors))
            self.report = told.get("report", self.report)
            self._news.set()
        self.trouble = (await trouble).decode()
        await process.wait()
        self._news.set()


class Fleet:
    """Workers on one store and one emulator.

    Attributes:
        emu: the remote.
        workers: all of them, the dead ones too.
        killed: names of those that were killed, who can tell nothing.
    """

    def __init__(self, emu: Emulator) -> None:
        self.emu = emu
        self.workers: list[Worker] = []
        self.killed: set[str] = set()
        self._news = asyncio.Event()

    @property
    def alive(self) -> list[Worker]:
        """The workers that were not killed."""
        return [worker for worker in self.workers if worker.name not in self.killed]

    async def start(self, jobs: Sequence[Job]) -> None:
        """Start workers, and return once all are ready."""
        for job in jobs:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-W", "always", "-m", "tests.workers.worker",
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE, limit=1 << 20, cwd=ROOT,
            )  # fmt: skip
            worker = Worker(job, process, self._news)
            self.workers.append(worker)
            worker.tell(json.dumps(job))
        await self.until(lambda: all(worker.holder for worker in self.workers))

    def go(self) -> None:
        """Let all of them begin."""
        for worker in self.workers:
            worker.tell("go")

    def kill(self, worker: Worker) -> None:
        """`kill -9`; nothing is heard of it any more."""
        self.killed.add(worker.name)
        worker.kill()

    async def freeze_holding(self, worker: Worker, store: Store) -> None:
        """Stop it while it holds leases, and nobody needs it to go on with his own work."""
        while True:
            worker.freeze()
            entries = await self._seen(worker, store)
            if entries is not None and any(entry.holder == worker.holder for entry in entries):
                return
            worker.thaw()
            await self.turns(5, of=[worker])

    async def lapsed(self, workers: Sequence[Worker], store: Store) -> None:
        """Return once the store has taken back all that these workers held."""
        holders = {worker.holder for worker in workers}
        ends = monotonic() + WITHIN_S
        while any(entry.holder in holders for entry in await self._seen(workers[0], store) or ()):
            assert monotonic() < ends, "their leases do not lapse"
            await asyncio.sleep(0.1)  # time has to pass, and the store tells nobody

    async def _seen(self, worker: Worker, store: Store) -> list[Entry] | None:
        """What is leased; None if this worker keeps the store closed."""
        keys = [PoolKey(self.emu.host, "default", rid) for rid, _ in worker.job.agents.values()]
        try:
            async with asyncio.timeout(LOOK_S):
                return [
                    entry for key in keys for entry in await store.find(key, states=("leased",))
                ]
        except (TimeoutError, StoreUnavailable):
            return None  # frozen inside a write

    async def until(self, condition: Callable[[], object], *, within_s: float = WITHIN_S) -> None:
        """Return once the condition holds; it is asked whenever a worker says something.

        Raises:
            AssertionError: a worker ended of itself meanwhile.
        """
        try:
            async with asyncio.timeout(within_s):
                while not condition():
                    self._news.clear()
                    for worker in self.alive:
                        assert worker.running or worker.report, f"{worker.name}: {worker.trouble}"
                    await self._news.wait()
        except TimeoutError:
            told = [(worker.name, worker.turns, dict(worker.errors)) for worker in self.workers]
            raise AssertionError(f"in {within_s} s not so far: {told}") from None

    async def turns(self, more: int, of: Sequence[Worker] | None = None) -> None:
        """Return once each of these workers (None: all alive) has taken so many turns more."""
        those = self.alive if of is None else of
        goal = {worker.name: worker.turns + more for worker in those}
        await self.until(lambda: all(worker.turns >= goal[worker.name] for worker in those))

    async def hear_of_another_epoch(self) -> None:
        """Return once each has found out that the store is another than it was."""
        await self.until(lambda: all(worker.forgot is not None for worker in self.alive))

    async def stop(self) -> None:
        """Let all end their turns and close their pools, and hear what they saw."""
        for worker in self.alive:
            worker.tell("stop")
        await self.until(lambda: all(worker.report for worker in self.alive))
        for worker in self.workers:
            await worker.ended()

    async def end(self) -> None:
        """End whoever is still there."""
        for worker in self.workers:
            if worker.running:
                worker.kill()
            await worker.ended()


@asynccontextmanager
async def fleet(**emulator: Any) -> AsyncIterator[Fleet]:
    """An emulator, and a fleet without workers yet; none is left at the end."""
    async with Emulator(**emulator) as emu:
        ships = Fleet(emu)
        try:
            yield ships
        finally:
            await ships.end()
