"""Doorbells: who waits under which id, and one timer for all of them.

Setting a timer for each waiter would cost more than the rest of waiting. Nothing here knows what is
waited for.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Any, Final

from session_pool.model import FOREVER

ASK_AGAIN_S: Final = 5.0
"""How often a waiter asks a store whose doorbell may be lost."""

TICK_S: Final = 1e-5
"""Timers may fire this much before their time, by the clock's resolution."""


class Bells:
    """Who waits for a doorbell.

    Args:
        loop: whose time it goes by.
        lossy: a doorbell may be lost, so that nobody waits for it longer than `ASK_AGAIN_S`.
    """

    __slots__ = (
        "__dict__",
        "__weakref__",
        "_latest",
        "_many",
        "_timer_at",
        "_usual",
        "loop",
        "time",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, *, lossy: bool) -> None:
        self.loop = loop
        plain = type(loop).time is asyncio.BaseEventLoop.time
        self.time = time.monotonic if plain else loop.time
        self._lossy = lossy
        self._bells: dict[str, asyncio.Future[bool]] = {}
        self._asking: dict[str, bool] = {}
        self._next = count(1).__next__
        self._deadlines: list[tuple[float, int, asyncio.Future[bool]]] = []
        self._usual: deque[tuple[float, asyncio.Future[Any]]] = deque()
        self._latest = -FOREVER  # of those
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = FOREVER
        self._many = 64  # deadlines, before those are cleared away that nobody waits for any more

    async def wait(self, request: str, until: float, *, alone: bool = False) -> bool:
        """Wait for a request's doorbell; False when `until` (by the loop's clock) came first.

        Cancelling it leaves nothing behind.
        """
        try:
            return await self.bell(request, until, alone=alone)
        finally:
            self.silence(request)

    def bell(self, request: str, until: float, *, alone: bool = False) -> asyncio.Future[bool]:
        """What `wait` awaits, for who says `silence` afterwards himself.

        Args:
            request: under which id it is rung.
            until: by the loop's clock.
            alone: only this process rings it, so no doorbell is lost.
        """
        future: asyncio.Future[bool] = self.loop.create_future()
        if self._lossy and not alone:
            until = min(until, self.loop.time() + ASK_AGAIN_S)
        self._bells[request] = future
        if until != FOREVER:
            self._time(future, until)
        return future

    def stand(self, bell: asyncio.Future[Any], timeout_s: float | None) -> float:
        """Ring a bell that somebody else rings, with False when its time is up.

        Args:
            bell: it is under no id.
            timeout_s: seconds from now; None for as long as it takes.

        Returns:
            Now, by the loop's clock.
        """
        now = self.time()
        if timeout_s is not None:
            usual, until = self._usual, now + timeout_s
            if until < self._latest:
                self._time(bell, until)
                return now
            # Most wait equally long, and so stand in the order in which their time is up.
            self._latest = until
            usual.append((until, bell))
            if until < self._timer_at:
                self._set_timer()
            if len(usual) > self._many:
                self._tidy()
        return now

    def _time(self, bell: asyncio.Future[Any], until: float) -> None:
        deadlines = self._deadlines
        heappush(deadlines, (until, self._next(), bell))
        if self._timer is None or until < self._timer_at:
            self._set_timer()
        if len(deadlines) > self._many:
            self._tidy()

    def _tidy(self) -> None:
        # Those that nobody waits for any more are cleared away, before they are too many.
        self._deadlines = [item for item in self._deadlines if not item[2].done()]
        heapify(self._deadlines)
        self._usual = deque(item for item in self._usual if not item[1].done())
        self._latest = self._usual[-1][0] if self._usual else -FOREVER
        self._many = 64 + 2 * max(len(self._deadlines), len(self._usual))

    def silence(self, request: str) -> None:
        """Wait no more under this id."""
        del self._bells[request]

    def ring(self, request: str) -> None:
        """Wake who waits under this id, if anybody does."""
        bell = self._bells.get(request)
        if bell is None:
            if request in self._asking:
                self._asking[request] = True
        elif not bell.done():
            bell.set_result(True)

    def ring_all(self) -> None:
        """Wake everybody: what they wait for may have come unheard."""
        for request in (*self._bells, *self._asking):
            self.ring(request)

    def listen(self, request: str) -> None:
        """Hear a doorbell that rings while the answer that says to wait for it is on its way."""
        self._asking[request] = False

    def heard(self, request: str) -> bool:
        """Listen no more; whether it rang."""
        return self._asking.pop(request)

    def _set_timer(self) -> None:
        # One timer for all waiters: setting one each would cost more than the rest of waiting.
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        firsts = [queue[0][0] for queue in (self._deadlines, self._usual) if queue]
        self._timer_at = min(firsts, default=FOREVER)
        if firsts:
            self._timer = self.loop.call_at(self._timer_at, self._time_is_up)

    def _time_is_up(self) -> None:
        now, deadlines, usual = self.loop.time(), self._deadlines, self._usual
        while deadlines and (deadlines[0][2].done() or deadlines[0][0] <= now):
            _be_up(heappop(deadlines)[2])
        while usual and (usual[0][1].done() or usual[0][0] <= now):
            _be_up(usual.popleft()[1])
        self._set_timer()

    def still(self) -> None:
        """Set no timer any more."""
        if self._timer is not None:
            self._timer.cancel()


def _be_up(bell: asyncio.Future[Any]) -> None:
    if not bell.done():
        bell.set_result(False)
