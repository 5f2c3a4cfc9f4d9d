"""What the parts of one pool work with: store, remote, tasks, doorbells, ids, chance, clock.

One per pool, made when it opens, in its event loop. It starts and supervises the pool's own tasks,
so that nobody's cancellation ends them, and carries each change to the store so that it happens
whole. It decides nothing and knows no agent.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine
from hashlib import blake2b
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Any, Final, TypeVar

from session_pool.errors import StoreError
from session_pool.events import TaskRestarted
from session_pool.foundry import Paced
from session_pool.model import FOREVER, Counts, PoolKey, Terms
from session_pool.space import Done, NotDone, Put
from session_pool.stores.base import LocalStore, Store
from session_pool.telemetry import Bus, log

T = TypeVar("T")

RESTART_S: Final = 1.0
"""Before a task that died is started again: soon, and not in a spin."""

ASK_AGAIN_S: Final = 5.0
"""How often a waiter asks a store whose doorbell may be lost."""

GOLDEN: Final = 0.6180339887498949
"""Steps of this length never bunch up: even spacing of what is made one after the other (B14)."""


def clock_of(loop: asyncio.AbstractEventLoop) -> Callable[[], float]:
    """The clock of one process: it counts the machine's sleep, and follows a virtual loop (B20)."""
    real = abs(loop.time() - time.monotonic()) < 1.0
    if real and hasattr(time, "CLOCK_BOOTTIME"):
        boottime = time.CLOCK_BOOTTIME
        return lambda: time.clock_gettime(boottime)
    return loop.time


class Works:
    """The shared means of a pool's parts.

    Args:
        store: the shared state.
        paced: the remote, through the request budget.
        bus: where events go.
        clock: seconds of this process, the machine's sleep counted.

    Attributes:
        on_change: told the counts after each change, and when the next look is due.
        source: where a lease gets another session (`lease.Source`).
        wake_at: when upkeep wakes up next, by `clock`.
        watched: somebody wants to hear of every change, however small.
    """

    def __init__(self, store: Store, paced: Paced, bus: Bus, clock: Callable[[], float]) -> None:
        self.store = store
        self.local = store if isinstance(store, LocalStore) else None
        self.paced = paced
        self.api = paced.api
        self.bus = bus
        self.clock = clock
        self.loop = asyncio.get_running_loop()
        self.holder = secrets.token_hex(6)
        self.source: object = None
        self.wake_at = 0.0
        self.watched = False
        self.on_change: Callable[[PoolKey, Counts, float | None], None] = lambda *_: None
        self._numbers = count(1)
        self._secret = secrets.token_bytes(16)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._writes: set[asyncio.Task[Any]] = set()
        self._step = random.random()  # noqa: S311  # spacing, not secrecy
        self._bells: dict[str, asyncio.Future[bool]] = {}
        self._deadlines: list[tuple[float, int, asyncio.Future[bool]]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._unwatch = store.watch(self.ring)

    # ------------------------------------------------------------------ ids and chance

    def next_id(self) -> str:
        """A request id that no other process makes."""
        return f"{self.holder}-{next(self._numbers)}"

    def hidden(self, text: str) -> str:
        """A short keyed hash: the same text looks the same within this pool, and says no more."""
        return blake2b(text.encode(), key=self._secret, digest_size=6).hexdigest()

    def spacing(self) -> float:
        """The next of numbers in [0, 1) that are spread evenly, however many are drawn."""
        self._step = (self._step + GOLDEN) % 1.0
        return self._step

    def backoff_s(self, attempt: int, at_least_s: float = 0.0, *, cap_s: float = 30.0) -> float:
        """Seconds before the next attempt: exponential with full jitter (B11)."""
        ceiling = min(cap_s, 0.25 * 2.0 ** min(attempt, 16))
        return at_least_s + random.uniform(0.0, ceiling)  # noqa: S311  # jitter, not secrecy

    # ------------------------------------------------------------------ the pool's own tasks

    def spawn(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Run something in a task of the pool; a failure nobody awaits is logged."""
        task = self.loop.create_task(work, name=f"session_pool {name}")
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def supervise(self, work: Callable[[], Awaitable[None]], name: str) -> asyncio.Task[None]:
        """Run something endless; if it dies it is logged, counted and started again."""
        return self.spawn(self._again_and_again(work, name), name)

    async def owned(self, work: Coroutine[Any, Any, T], name: str) -> T:
        """Await a change that goes on to its end even if the one who awaits is cancelled (B23)."""
        return await asyncio.shield(self.write(work, name))

    def write(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Start a change of the store, which goes on to its end whoever is cancelled (B23)."""
        task = self.spawn(work, name)
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)
        return task

    async def settle(self, timeout_s: float) -> None:
        """Let changes that are on their way arrive, then cancel whatever else is still going on."""
        if self._writes and timeout_s > 0:
            await asyncio.wait(set(self._writes), timeout=timeout_s)
        me = asyncio.current_task()
        await self.cancel({task for task in self._tasks if task is not me})

    async def cancel(self, tasks: set[asyncio.Task[Any]]) -> None:
        """Cancel tasks of the pool and see them end."""
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def close(self) -> None:
        """Hear no doorbell and set no timer any more."""
        self._unwatch()
        if self._timer is not None:
            self._timer.cancel()

    async def _again_and_again(self, work: Callable[[], Awaitable[None]], name: str) -> None:
        while True:
            try:
                await work()
            except (Exception, asyncio.CancelledError) as error:  # upkeep must go on
                me = asyncio.current_task()
                if isinstance(error, asyncio.CancelledError) and (me is None or me.cancelling()):
                    raise  # it is meant for this task, and did not come out of something it called
                self.bus.publish(TaskRestarted(task=name, error=type(error).__name__))
                log.debug("%s died and is started again", name, exc_info=error)
            await asyncio.sleep(RESTART_S)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.debug("%s ended with an error", task.get_name(), exc_info=error)

    # ------------------------------------------------------------------ changes

    async def put(self, put: Put) -> Done | NotDone:
        """Change an entry; once begun it is carried to its end, whoever is cancelled (B23)."""
        if self.local is not None:
            return self.put_nowait(self.local, put)
        return await self.owned(self._put(put), "put")

    def put_nowait(self, local: LocalStore, put: Put) -> Done | NotDone:
        """Change an entry of a store that lives in this process."""
        answer = local.put_nowait(put)
        due_in_s = put.deadline_in_s
        if isinstance(answer, Done) and answer.entry is not None:
            # As it is kept: an idle one is due as it stops being fresh, whatever was asked for.
            due_in_s = answer.entry.deadline - self.clock()
        self.on_change(put.key, answer.counts, due_in_s)
        return answer

    def quiet(self, counts: Counts, terms: Terms) -> bool:
        """Whether a session that went back to lie ready changed nothing anybody must attend to."""
        states = counts.states
        return (
            not (counts.new or self.watched)
            and states.get("idle", 0) <= terms.max_idle
            and states.get("parked", 0) < terms.max_parked
        )

    def give_back(self, put: Put) -> asyncio.Task[None] | None:
        """End a lease without failing: a store that is away lets it lapse (B21, B23)."""
        if self.local is not None:
            self.put_nowait(self.local, put)
            return None
        return self.write(self._give_back(put), "release")

    def withdraw(self, key: PoolKey, request: str) -> None:
        """Take a request back, whatever has become of it; only while nobody saw its RID."""
        if self.local is not None:
            self.on_change(key, self.local.withdraw_nowait(key, request), None)
        else:
            self.write(self._withdraw(key, request), "withdraw")

    async def _put(self, put: Put) -> Done | NotDone:
        answer = await self.store.put(put)
        self.on_change(put.key, answer.counts, put.deadline_in_s)
        return answer

    async def _give_back(self, put: Put) -> None:
        try:
            await self._put(put)
        except StoreError as error:
            log.warning("a lease could not be given back and will lapse", exc_info=error)

    async def _withdraw(self, key: PoolKey, request: str) -> None:
        self.on_change(key, await self.store.withdraw(key, request), None)

    # ------------------------------------------------------------------ waiting

    async def wait(self, request: str, until: float) -> bool:
        """Wait for a request's doorbell; False when `until` (by the loop's clock) came first.

        Cancelling it leaves nothing behind.
        """
        try:
            return await self.bell(request, until)
        finally:
            self.silence(request)

    def bell(self, request: str, until: float) -> asyncio.Future[bool]:
        """What `wait` awaits, for who says `silence` afterwards himself."""
        future: asyncio.Future[bool] = self.loop.create_future()
        self._bells[request] = future
        if self.local is None:
            until = min(until, self.loop.time() + ASK_AGAIN_S)
        if until != FOREVER:
            heappush(self._deadlines, (until, next(self._numbers), future))
            if self._timer is None or until < self._timer.when():
                self._set_timer()
        return future

    def silence(self, request: str) -> None:
        """Wait no more under this id."""
        del self._bells[request]
        if len(self._deadlines) > 64 + 2 * len(self._bells):
            self._deadlines = [item for item in self._deadlines if not item[2].done()]
            heapify(self._deadlines)

    def ring(self, request: str) -> None:
        """Wake who waits under this id, if anybody does."""
        bell = self._bells.get(request)
        if bell is not None and not bell.done():
            bell.set_result(True)

    def _set_timer(self) -> None:
        # One timer for all waiters: setting one each would cost more than the rest of waiting.
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_at(self._deadlines[0][0], self._time_is_up)

    def _time_is_up(self) -> None:
        self._timer = None
        now = self.loop.time()
        while self._deadlines and (self._deadlines[0][2].done() or self._deadlines[0][0] <= now):
            _, _, future = heappop(self._deadlines)
            if not future.done():
                future.set_result(False)
        if self._deadlines:
            self._set_timer()
