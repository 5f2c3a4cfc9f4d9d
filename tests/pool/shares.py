"""Processes that share one principal's limits through one store, in virtual time (B13).

Each has a budget and a sharer of its own, and no pool around them. What all of them send together
is watched: no instant with more at once than the limit, no minute with more than its limit, no
moment at which what they may use sums above either.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from session_pool.creator import Creator
from session_pool.foundry import Api, Budget, Limits, Paced, Urgency
from session_pool.sharer import FLOOR_AT_ONCE, Sharer
from session_pool.telemetry import Bus
from session_pool.works import Works
from tests.pool.house import LocalClock
from tests.stores.awaiting import AwaitingStore


def now() -> float:
    """Virtual seconds."""
    return asyncio.get_running_loop().time()


class NoCreator:
    """Creations that are missing, as a test says."""

    def __init__(self) -> None:
        self.lacking = 0
        self.looked = 0

    def missing(self) -> tuple[int, int]:
        """See `Creator.missing`."""
        return self.lacking, 0

    def look(self) -> None:
        """See `Creator.look`."""
        self.looked += 1


class Counting(AwaitingStore):
    """A store that keeps what was asked of each limit, and when."""

    def __init__(self, clock: LocalClock, shared: AwaitingStore | None, latency_s: float) -> None:
        super().__init__(clock, shared=shared, latency_s=latency_s)
        self.asked: defaultdict[str, list[tuple[float, float, float]]] = defaultdict(list)
        self.closing = False

    async def share(self, principal: str, holder: str, **asked: Any) -> Any:
        """See `Store.share`."""
        at = now()
        answer = await super().share(principal, holder, **asked)
        if not self.closing:
            self.asked[principal.rpartition("/")[2]].append((at, asked["wish"], answer.granted))
        return answer


class Process:
    """One process: its budget, its way to the store, its clock."""

    def __init__(self, town: Town) -> None:
        self.town = town
        self.clock = LocalClock()
        self.store = Counting(LocalClock(), town.store, town.latency_s)
        self.budget = Budget(town.limits)
        self.creator = NoCreator()
        paced = Paced(cast("Api", None), self.budget)
        self.works = Works(self.store, paced, Bus(), self.clock)
        creator = cast("Creator", self.creator)
        floor = FLOOR_AT_ONCE if town.floor else 0
        self.sharer = Sharer(self.works, town.limits, "stack", creator, floor)
        self.task = self.works.supervise(self.sharer.run, "shares")
        self.under_way = 0
        self.done: Counter[Urgency] = Counter()
        self.waited: list[float] = []
        self.sending: set[asyncio.Task[None]] = set()
        town.processes.append(self)

    def send(
        self, urgency: Urgency = Urgency.EXCHANGE, *, takes_s: float = 1.0, times: int = 1
    ) -> list[asyncio.Task[None]]:
        """Send requests, all at once as far as the budget lets them."""

        async def run() -> None:
            began = now()
            async with self.budget.slot(urgency):
                self.waited.append(now() - began)
                self.town.sent.append(now())
                self.under_way += 1
                try:
                    self.town.check()
                    await asyncio.sleep(takes_s)
                finally:
                    self.under_way -= 1
            self.done[urgency] += 1

        tasks = [asyncio.create_task(run()) for _ in range(times)]
        self.sending.update(tasks)
        return tasks

    @property
    def may_use(self) -> tuple[int, int]:
        """At once, and in the minute, at this moment."""
        limits = self.budget.snapshot().limits
        return limits.concurrent_requests, limits.requests_per_minute

    async def kill(self) -> None:
        """No more is heard of it, and what it had under way is cut off."""
        self.freeze()
        for task in self.sending:
            task.cancel()
        await asyncio.gather(*self.sending, return_exceptions=True)

    def freeze(self) -> None:
        """Its task does nothing any more; what it sends goes by its clock alone."""
        self.task.cancel()

    async def close(self) -> None:
        """As a pool closes."""
        await self.works.settle(1.0)
        self.store.closing = True
        await self.sharer.aclose()
        self.works.close()


class Town:
    """All processes, and what they sent together."""

    def __init__(self, limits: Limits, latency_s: float) -> None:
        self.limits = limits
        self.latency_s = latency_s
        self.store = AwaitingStore(LocalClock())
        self.processes: list[Process] = []
        self.sent: list[float] = []
        self.floor = True

    def check(self) -> None:
        """Assert that the limits hold at this instant."""
        at_once = sum(process.under_way for process in self.processes)
        assert at_once <= self.limits.concurrent_requests, f"{at_once} at once at {now()}"
        minute = sum(1 for at in self.sent if at > now() - 60)
        assert minute <= self.limits.requests_per_minute, f"{minute} in the minute at {now()}"
        for kind, most in enumerate((self.limits.concurrent_requests, self.limits[0])):
            parts = [process.may_use[kind] for process in self.processes]
            assert sum(parts) <= most, f"{parts} of {most} at {now()}"

    async def watch(self) -> None:
        """Assert it at every instant at which something may have changed."""
        while True:
            self.check()
            await asyncio.sleep(0.05)

    def paced(self) -> None:
        """Assert that nobody asked for more, or gave back, more than once a second."""
        for process in self.processes:
            if process.clock.ahead_s:  # its seconds were others
                continue
            for asked in process.store.asked.values():
                had, last = 0.0, {True: -1.0, False: -1.0}
                for at, wish, granted in asked:
                    kind = wish > had
                    assert at - last[kind] >= 1.0 - 2e-3, (asked, at)
                    last[kind], had = at, granted


@asynccontextmanager
async def town(
    at_once: int = 30,
    in_minute: int = 5_000,
    *,
    latency_s: float = 0.002,
    processes: int = 0,
    floor: bool = True,
) -> AsyncIterator[Town]:
    """Processes on one store; on the way out nobody has asked too often, and all is given back.

    Args:
        at_once, in_minute: the limits.
        latency_s: of the store.
        processes: from the start.
        floor: who does not reach the store may send one at once (decision 8), above all shares.
    """
    here = Town(Limits(in_minute, at_once), latency_s)
    here.floor = floor
    for _ in range(processes):
        Process(here)
    watching = asyncio.create_task(here.watch())
    try:
        await asyncio.sleep(4 * latency_s)
        yield here
        here.check()
        if watching.done():
            watching.result()
        here.paced()
    finally:
        watching.cancel()
        for process in here.processes:
            await process.kill()
            await process.close()
