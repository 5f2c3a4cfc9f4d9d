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
from contextlib import suppress
from functools import partial
from hashlib import blake2b
from itertools import count
from typing import Any, Final, TypeVar, cast

from session_pool.bells import ASK_AGAIN_S, TICK_S, Bells
from session_pool.door import Door
from session_pool.errors import StoreError, StoreUnavailable
from session_pool.events import StoreAway, StoreBack, TaskRestarted
from session_pool.foundry import Paced
from session_pool.lapse import aged
from session_pool.model import FOREVER, Counts, PoolKey, Terms
from session_pool.reach import Limits, Reach
from session_pool.space import Done, NotDone, Put
from session_pool.stores.base import LocalStore, Store
from session_pool.telemetry import Bus, log

T = TypeVar("T")

RESTART_S: Final = 1.0
"""Before a task that died is started again: soon, and not in a spin."""

RETRY_S: Final = 1.0
"""At most between two tries to reach a store that is away: a waiter is served this late (G7)."""

TELL_S: Final = 1.0
"""How long a holder waits for a store that is away before it goes on: a release that goes on behind
it, a note of an exchange that is told with the next. Longer than a store that is there ever takes.
"""

GOLDEN: Final = 0.6180339887498949
"""Steps of this length never bunch up: even spacing of what is made one after the other (B14)."""


NAMES: Final = map(str, count(1))
"""Ids of one process, whichever of its pools asks: two may share a store that lives in it."""


def clock_of(loop: asyncio.AbstractEventLoop) -> Callable[[], float]:
    """The clock of one process: it counts the machine's sleep, and follows a virtual loop (B20)."""
    real = abs(loop.time() - time.monotonic()) < 1.0
    if real and hasattr(time, "CLOCK_BOOTTIME"):
        boottime = time.CLOCK_BOOTTIME
        return partial(time.clock_gettime, boottime)
    return loop.time


class Works(Bells):
    """The shared means of a pool's parts.

    Args:
        store: the shared state.
        paced: the remote, through the request budget.
        bus: where events go.
        clock: seconds of this process, the machine's sleep counted.

    Attributes:
        on_change: told the counts after each change, and when the next look is due.
        source: where a lease gets another session (`lease.Source`).
        renewal: who prolongs leases (`lapse.Renewal`); None where they have no end.
        sharing: who leases this process's part of the limits (`sharer.Sharer`); None where all of
            them are its own.
        epoch: the store's, as the leases of this process are registered with it (B27).
        wake_at: when upkeep wakes up next, by `clock`; 0 while it is awake.
        limits: by what a store's answers are waited for.
        watchers: bells of those who want to hear of every change, however small, and of a store
            that is away.
        door: the pool's, once it hands out.
        names: ids that are used within this process only, at half the price of `next_id`.
    """

    # What each hit reads has a slot of its own; the rest is too much for a shared dictionary.
    __slots__ = ("door", "local", "make_bell", "names", "wake_at", "watchers")

    def __init__(self, store: Store, paced: Paced, bus: Bus, clock: Callable[[], float]) -> None:
        self.local = store if isinstance(store, LocalStore) else None
        super().__init__(asyncio.get_running_loop(), lossy=self.local is None)
        reach = None if self.local is not None else Reach(store, self._reached)
        self.store = store if reach is None else cast("Store", reach)
        self._reach = reach
        self.paced = paced
        self.api = paced.api
        self.bus = bus
        self.clock = clock
        self.holder = secrets.token_hex(6)
        self.source: object = None
        self.door: Door
        self.renewal: object = None
        self.sharing: object = None
        self.epoch = store.epoch
        self.wake_at = 0.0
        self.watchers: set[str] = set()
        self.on_change: Callable[[PoolKey, Counts, float | None], None] = lambda *_: None
        self.limits = Limits(self.loop)
        self._away_since = 0.0
        self._prefix = f"{self.holder}-"
        self._numbers = count(1)
        self.names = NAMES
        self._secret = secrets.token_bytes(16)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._writes: set[asyncio.Task[Any]] = set()
        self.make_bell = self.loop.create_future
        self._step = random.random()  # noqa: S311  # spacing, not secrecy
        self._unwatch = store.watch(self.ring)

    # ------------------------------------------------------------------ ids and chance

    def next_id(self) -> str:
        """A request id that no other process makes."""
        return f"{self._prefix}{next(self._numbers)}"

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
        await self.written(timeout_s)
        me = asyncio.current_task()
        await self.cancel({task for task in self._tasks if task is not me})

    async def written(self, timeout_s: float) -> None:
        """Let changes that are on their way arrive."""
        if self._writes and timeout_s > 0:
            await asyncio.wait(set(self._writes), timeout=timeout_s)

    async def cancel(self, tasks: set[asyncio.Task[Any]]) -> None:
        """Cancel tasks of the pool and see them end."""
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def close(self) -> None:
        """Hear no doorbell and set no timer any more."""
        self._unwatch()
        self.limits.close()
        self.still()

    async def _again_and_again(self, work: Callable[[], Awaitable[None]], name: str) -> None:
        while True:
            try:
                await work()
            except StoreUnavailable:  # told once as it went, and rung when it is back
                await self.back(0, FOREVER)
                continue
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

    async def put(self, put: Put, *, for_s: float = FOREVER) -> Done | NotDone:
        """Change an entry; once begun it is carried to its end, whoever is cancelled (B23).

        A store that is away is asked again, with the same request, until it answers.

        Args:
            put: the change.
            for_s: how long to ask again, at most; to the pool's end if it is FOREVER.

        Raises:
            StoreUnavailable: it was away for that long. Whether it is done is not known.
        """
        if self.local is not None:
            return self.put_nowait(self.local, put)
        began = self.loop.time()
        try:
            return await self.told(put, began, began + for_s)
        except asyncio.CancelledError:
            self.write(self.told(put, began, began + for_s), "put")
            raise

    async def told(self, put: Put, began: float, until: float) -> Done | NotDone:
        """Change an entry of an awaited store, asked again until then; cancelling ends that.

        Args:
            put: the change, as it was when it began.
            began, until: by the loop's clock.

        Raises:
            StoreUnavailable: it was away until then. Whether it is done is not known.
        """
        answer = await self.again(
            lambda: self.store.put(aged(put, self.loop.time() - began)), until
        )
        self.on_change(put.key, answer.counts, put.deadline_in_s)
        return answer

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
            not (counts.new or self.watchers)
            and states.get("idle", 0) <= terms.max_idle
            and states.get("parked", 0) < terms.max_parked
        )

    def withdraw(self, key: PoolKey, request: str, *, for_s: float) -> None:
        """Take a request back, whatever has become of it; only while nobody saw its RID.

        Args:
            key: whose line.
            request: which.
            for_s: how long it could matter to a store that is away: its place, or what it was
                granted, ends by itself then.
        """
        if self.local is not None:
            self.on_change(key, self.local.withdraw_nowait(key, request), None)
        else:
            self.write(self._withdraw(key, request, self.loop.time() + for_s), "withdraw")

    async def _withdraw(self, key: PoolKey, request: str, until: float) -> None:
        try:
            counts = await self.again(lambda: self.store.withdraw(key, request), until)
        except StoreError as error:
            log.debug("a request could not be withdrawn and will lapse", exc_info=error)
        else:
            self.on_change(key, counts, None)

    # ------------------------------------------------------------------ a store that is away

    @property
    def away(self) -> bool:
        """The store cannot be reached, as far as is known."""
        return self._reach is not None and self._reach.away

    async def again(self, ask: Callable[[], Awaitable[T]], until: float) -> T:
        """Ask the store until it answers (B7, B27).

        Args:
            ask: what is safe to repeat: the same request id each time.
            until: by the loop's clock; the answer under way is cut off then.

        Raises:
            StoreUnavailable: it was away for that long; its cause is the last error.
        """
        if self.local is not None:
            return await ask()
        attempt = 0
        while True:
            try:
                return await self.limits.within(until, ask())
            except StoreUnavailable as error:
                if not await self.back(attempt, until):
                    raise StoreUnavailable(f"the store was away for too long: {error}") from error
            attempt += 1

    async def back(self, attempt: int, until: float, request: str | None = None) -> bool:
        """Wait until another try to reach the store makes sense: it is back, or it only blinked.

        Args:
            attempt: how many have failed before the last one.
            until: by the loop's clock.
            request: whose doorbell to hear as well.

        Returns:
            Whether there is time for another try.
        """
        until = min(until, self.limits.ends)
        if (now := self.loop.time()) < until:
            at = min(until, now + (ASK_AGAIN_S if self.away else self.pause_s(attempt)))
            await self.wait(request or self.next_id(), at)
        return self.loop.time() < min(until, self.limits.ends) - TICK_S

    def end(self, at: float) -> None:
        """From then on nothing is asked of the store again, or waited for; the pool closes."""
        if self.local is None:
            self.limits.end(at)

    def pause_s(self, attempt: int) -> float:
        """Seconds before the next try to reach a store."""
        return self.backoff_s(attempt, cap_s=RETRY_S)

    async def _find_back(self) -> None:
        # One knocks for all: however many wait, a store that is away, or just back, is not mobbed.
        attempt = 0
        while self.away and self.loop.time() < self.limits.ends:
            await self.wait(self.next_id(), self.loop.time() + self.pause_s(attempt))
            knock = self.store.due(self.holder, limit=0, for_s=0.0)
            with suppress(StoreUnavailable):
                await self.limits.within(self.loop.time() + ASK_AGAIN_S, knock)
            attempt += 1

    def _reached(self, error: StoreUnavailable | None) -> None:
        now = self.loop.time()
        if error is not None:
            self._away_since = now
            self.bus.publish(StoreAway(error=str(error)))
            self.spawn(self._find_back(), "reach")
            for bell in self.watchers:
                self.ring(bell)
        else:
            self.bus.publish(StoreBack(away_s=now - self._away_since))
            self.ring_all()
