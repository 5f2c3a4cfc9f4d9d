"""Reaching a store that is awaited: how long to wait for its answer, and whether it is away (B27).

`Reach` is the store as the pool sees it: the same operations, and whoever must know is told when it
stops answering and when it answers again. `Limits` bounds an await at a fraction of the price of
`asyncio.timeout`, since every acquire on such a store is bounded. It repeats nothing and knows no
lease; that is `works`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar, cast

from session_pool.errors import StoreUnavailable
from session_pool.model import FOREVER, Counts, Entry, PoolKey, State
from session_pool.space import (
    Done,
    Due,
    Grant,
    Held,
    NotDone,
    Note,
    Noted,
    Put,
    Refusal,
    Share,
    Ticket,
    Want,
)
from session_pool.stores.base import Ring, Store

T = TypeVar("T")


class Limit:
    """One await that ends at a time at the latest."""

    __slots__ = ("cancelling", "struck", "task", "until")

    def __init__(self, task: asyncio.Task[Any], until: float) -> None:
        self.task = task
        self.until = until
        self.cancelling = task.cancelling()
        self.struck = False


class Limits:
    """Cuts off what takes too long: one timer for all, looked at when the earliest of them is due.

    It cancels as `asyncio.timeout` does, and tells its own cancellation from anybody else's the
    same way.

    Args:
        loop: whose time it goes by.

    Attributes:
        ends: nothing is waited for any longer than this, whatever it was allowed.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.ends = FOREVER
        self._loop = loop
        self._limits: set[Limit] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._wakes_at = FOREVER

    async def within(self, until: float, work: Awaitable[T]) -> T:
        """Await something until then, by the loop's clock.

        Raises:
            StoreUnavailable: no answer came in time. It may have been done all the same.
        """
        task = cast("asyncio.Task[Any]", asyncio.current_task())  # who awaits is in one
        until = min(until, self.ends)
        limit = Limit(task, until)
        self._limits.add(limit)
        if until < self._wakes_at:
            self._set_timer(until)
        try:
            return await work
        except asyncio.CancelledError as error:
            if limit.struck:
                limit.struck = False
                if task.uncancel() <= limit.cancelling:
                    raise StoreUnavailable("the store did not answer in time") from error
            raise
        finally:
            self._limits.discard(limit)
            if limit.struck:  # its cancellation came out as something else
                task.uncancel()

    def end(self, at: float) -> None:
        """Wait for nothing beyond this time, what is under way included."""
        self.ends = at
        for limit in self._limits:
            limit.until = min(limit.until, at)
        if self._limits and at < self._wakes_at:
            self._set_timer(at)

    def close(self) -> None:
        """Set no timer any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _set_timer(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._wakes_at = at
        self._timer = self._loop.call_at(at, self._time_is_up)

    def _time_is_up(self) -> None:
        # A timer may fire a little early, by the clock's resolution: then it is its time.
        self._timer, now = None, max(self._loop.time(), self._wakes_at)
        self._wakes_at = FOREVER
        for limit in self._limits:
            if limit.until <= now and not limit.struck:
                limit.struck = True
                limit.task.cancel()
        next_at = min((limit.until for limit in self._limits if not limit.struck), default=FOREVER)
        if next_at != FOREVER:
            self._set_timer(next_at)


class Reach:
    """A store, and whether it can be reached.

    Args:
        store: the one to reach; not one in this process, which cannot be away.
        told: called with the error as it stops answering, and with None as it answers again.

    Attributes:
        away: the last thing it was asked failed.
    """

    def __init__(self, store: Store, told: Callable[[StoreUnavailable | None], None]) -> None:
        self.durable = store.durable
        self.away = False
        self._store = store
        self._told = told

    @property
    def epoch(self) -> str:
        """See `Store.epoch`."""
        return self._store.epoch

    async def _seen(self, asked: Coroutine[Any, Any, T]) -> T:
        try:
            answer = await asked
        except StoreUnavailable as error:
            if not self.away:
                self.away = True
                self._told(error)
            raise
        if self.away:
            self.away = False
            self._told(None)
        return answer

    async def open(self) -> None:
        """See `Store.open`."""
        await self._store.open()

    async def aclose(self) -> None:
        """See `Store.aclose`."""
        await self._store.aclose()

    def take(
        self,
        want: Want,
        request: str,
        *,
        patience_s: float,
        note_version: int,
        place: int | None = None,
        instead: Put | None = None,
    ) -> Coroutine[Any, Any, Grant | Ticket | Refusal]:
        """See `Store.take`."""
        return self._seen(
            self._store.take(
                want,
                request,
                patience_s=patience_s,
                note_version=note_version,
                place=place,
                instead=instead,
            )
        )

    def put(self, put: Put) -> Coroutine[Any, Any, Done | NotDone]:
        """See `Store.put`."""
        return self._seen(self._store.put(put))

    def withdraw(self, key: PoolKey, request: str) -> Coroutine[Any, Any, Counts]:
        """See `Store.withdraw`."""
        return self._seen(self._store.withdraw(key, request))

    def renew(
        self, holder: str, leases: Sequence[tuple[str, int]], ttl_s: float
    ) -> Coroutine[Any, Any, Sequence[bool]]:
        """See `Store.renew`."""
        return self._seen(self._store.renew(holder, leases, ttl_s))

    def register(
        self, holder: str, leases: Sequence[Held], ttl_s: float
    ) -> Coroutine[Any, Any, Sequence[Entry | None]]:
        """See `Store.register`."""
        return self._seen(self._store.register(holder, leases, ttl_s))

    def due(self, holder: str, *, limit: int, for_s: float) -> Coroutine[Any, Any, Due]:
        """See `Store.due`."""
        return self._seen(self._store.due(holder, limit=limit, for_s=for_s))

    def note(
        self, key: PoolKey, version: int, note: Note, *, open_: bool
    ) -> Coroutine[Any, Any, Noted]:
        """See `Store.note`."""
        return self._seen(self._store.note(key, version, note, open_=open_))

    def read(self, key: PoolKey) -> Coroutine[Any, Any, tuple[Counts, Noted]]:
        """See `Store.read`."""
        return self._seen(self._store.read(key))

    def find(
        self,
        key: PoolKey,
        *,
        states: Sequence[State] = (),
        conversation: str | None = None,
        rid: str | None = None,
        limit: int = 100,
    ) -> Coroutine[Any, Any, Sequence[Entry]]:
        """See `Store.find`."""
        return self._seen(
            self._store.find(key, states=states, conversation=conversation, rid=rid, limit=limit)
        )

    def share(
        self, principal: str, holder: str, *, limit: float, wish: float, for_s: float
    ) -> Coroutine[Any, Any, Share]:
        """See `Store.share`."""
        return self._seen(self._store.share(principal, holder, limit=limit, wish=wish, for_s=for_s))

    def identify(self, principal: str, identity: str) -> Coroutine[Any, Any, str]:
        """See `Store.identify`."""
        return self._seen(self._store.identify(principal, identity))

    def watch(self, ring: Ring) -> Callable[[], None]:
        """See `Store.watch`."""
        return self._store.watch(ring)
