"""How an operation gets to the writer thread and its answer back, how news are heard, and how long.

All that is asked for in one turn of the event loop travels together. A caller that is cancelled
drops its future and touches nothing else. Knows no operation.
"""

from __future__ import annotations

import asyncio
import logging
import os
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from session_pool.errors import PoolClosed, StoreUnavailable
from session_pool.model import FOREVER
from session_pool.stores.base import EPOCH, Ring
from session_pool.stores.sqlite.address import Address, check_begun, check_place
from session_pool.stores.sqlite.bells import Bell
from session_pool.stores.sqlite.epochs import Machine, this_machine
from session_pool.stores.sqlite.writer import Job, Outcome, Work, Writer

log = logging.getLogger(__name__)

ANSWER_WITHIN_S: Final = 5.0
"""How long an operation waits for its turn and its answer: some other process may be frozen."""

LOOK_EVERY_S: Final = 0.5
"""How often a process that has waiters looks for news that no doorbell told of."""

CLOSE_WITHIN_S: Final = 5.0
"""How long closing waits for the writer thread, which may be waiting for a frozen process."""


class Calls:
    """One process's door to the file.

    Args:
        address: the file, and which of the pools in it.
        clock: seconds, instead of the machine's clock: for tests. Numbers in line and fences then
            grow by one.
        machine: the machine's clocks and boot, instead of what is found: for tests.
        answer_within_s: how long an operation may take.
    """

    epoch: str

    def __init__(
        self,
        address: Address,
        *,
        clock: Callable[[], float] | None = None,
        machine: Machine | None = None,
        answer_within_s: float = ANSWER_WITHIN_S,
    ) -> None:
        self.epoch = ""
        self._address = address
        self._clock = clock
        found = machine if machine is not None else this_machine()
        self._machine = found if clock is None else found._replace(clock=clock)
        self._answer_within_s = answer_within_s
        self._watchers: list[Ring] = []
        self._waiting: set[str] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0
        self._gathered: list[Job] = []
        self._futures: dict[Job, asyncio.Future[Any]] = {}
        self._asked: deque[tuple[float, Sequence[Job]]] = deque()
        self._watchdog: asyncio.TimerHandle | None = None
        self._looking: asyncio.TimerHandle | None = None
        self._ended: asyncio.Event | None = None

    async def open(self) -> None:
        """See `Store.open`."""
        if self._loop is not None:
            self._check()
            return
        check_place(self._address.path)
        if not self._address.begin:
            check_begun(self._address.path)
        loop = asyncio.get_running_loop()
        self._loop = self._home = loop
        self._pid = os.getpid()
        self._ended = asyncio.Event()
        self._bell = Bell(self._address.path)
        self._bell.open()
        counted = self._clock is not None
        self._writer = Writer(self._address, self._machine, self._bell, self._told, counted=counted)
        self._writer.start()
        _OPEN.add(self)
        try:
            await self._do(lambda _: None)
        except BaseException:
            await self.aclose()
            raise
        listened = self._bell.fileno()
        if listened is not None:
            loop.add_reader(listened, self._bell.heard, self._rung)

    async def aclose(self) -> None:
        """See `Store.aclose`."""
        loop, ended = self._loop, self._ended
        if loop is None or ended is None:
            return
        self._check()
        self._hand_over()
        self._loop = None
        for timer in (self._watchdog, self._looking):
            if timer is not None:
                timer.cancel()
        listened = self._bell.fileno()
        if listened is not None:
            loop.remove_reader(listened)
        self._writer.stop()
        try:
            async with asyncio.timeout(CLOSE_WITHIN_S):
                await ended.wait()
            self._writer.join(1.0)
        except TimeoutError:
            log.warning("another process is frozen while it writes; the file is closed later")
        finally:
            self._bell.close()
            _OPEN.discard(self)
            self._give_up(list(self._futures), "closed before it was done")

    def watch(self, ring: Ring) -> Callable[[], None]:
        """See `Store.watch`; `ring` is called in the event loop that opened the store."""
        self._watchers.append(ring)

        def end() -> None:
            if ring in self._watchers:
                self._watchers.remove(ring)

        return end

    # ------------------------------------------------------------------ there, and back

    async def _do(self, work: Work, ttl_s: float = 0.0) -> Any:
        loop = self._check()
        now = self._clock() if self._clock is not None else None
        job = Job(work, now, 0.0 if ttl_s == FOREVER else ttl_s)
        future = self._futures[job] = loop.create_future()
        if not self._gathered:
            loop.call_soon(self._hand_over)
        self._gathered.append(job)
        return await future

    def _check(self) -> asyncio.AbstractEventLoop:
        loop = self._loop
        if loop is None:
            raise PoolClosed("the SQLite store is not open; await its open() first")
        if os.getpid() != self._pid:
            raise PoolClosed(
                "the SQLite store was opened before this process was forked; "
                "open it after the fork, in each process"
            )
        if loop is not asyncio.get_running_loop():
            raise PoolClosed(
                "the SQLite store was opened in another event loop; use it there, "
                "or open one in this loop"
            )
        return loop

    def _hand_over(self) -> None:
        jobs, self._gathered = self._gathered, []
        if jobs and self._loop is not None:
            ends = self._loop.time() + self._answer_within_s
            self._asked.append((ends, jobs))
            if self._watchdog is None:
                self._watchdog = self._loop.call_at(ends, self._too_late)
            self._writer.submit(jobs)

    def _too_late(self) -> None:
        self._watchdog = None
        if self._loop is None:
            return
        now = self._loop.time()
        while self._asked and self._asked[0][0] <= now:
            _, jobs = self._asked.popleft()
            late = [job for job in jobs if job in self._futures]
            self._give_up(
                late,
                f"gave no answer within {self._answer_within_s:g} s; "
                "is a process frozen while it writes?",
            )
        if self._asked:
            self._watchdog = self._loop.call_at(self._asked[0][0], self._too_late)

    def _give_up(self, jobs: Sequence[Job], why: str) -> None:
        for job in jobs:
            job.given_up = True
            future = self._futures.pop(job)
            if not future.done():
                future.set_exception(StoreUnavailable(f"store: {self._address.path} {why}"))

    def _told(self, outcome: Outcome) -> None:
        """Called in the writer thread."""
        try:
            self._home.call_soon_threadsafe(self._deliver, outcome)
        except RuntimeError as error:  # the loop is closed: nobody waits any more
            log.debug("an answer came after the end of the event loop", exc_info=error)

    def _deliver(self, outcome: Outcome) -> None:
        if outcome.epoch is not None:
            self.epoch = outcome.epoch
        if outcome.another:
            self._rung(EPOCH)
            for request in list(self._waiting):
                self._rung(request)
        for request in outcome.rung:
            self._rung(request)
        for job in outcome.jobs:
            future = self._futures.pop(job, None)
            if future is None or future.done():
                continue
            if job.error is not None:
                future.set_exception(job.error)
            else:
                future.set_result(job.answer)
        if outcome.over and self._ended is not None:
            self._ended.set()
        while self._asked and not any(job in self._futures for job in self._asked[0][1]):
            self._asked.popleft()

    # ------------------------------------------------------------------ news

    def _rung(self, request: str) -> None:
        for ring in list(self._watchers):
            ring(request)

    def _wait(self, request: str) -> None:
        self._waiting.add(request)
        self._look_later()

    def _look_later(self) -> None:
        if self._looking is None and self._loop is not None:
            self._looking = self._loop.call_later(LOOK_EVERY_S, self._look)

    def _look(self) -> None:
        self._looking = None
        if self._waiting and self._loop is not None:
            self._writer.submit(())
            self._look_later()

    def _forked(self) -> None:
        """In a child: let go of what is the parent's, and touch nothing that it shares."""
        self._writer.lock.close()
        self._bell.drop()
        _INHERITED.append(self._writer.connection)


_OPEN: Final[weakref.WeakSet[Calls]] = weakref.WeakSet()
_INHERITED: Final[list[object]] = []
# Closing a connection that a parent has open would look to SQLite like its own.


def _in_child() -> None:
    for store in list(_OPEN):
        store._forked()


os.register_at_fork(after_in_child=_in_child)
