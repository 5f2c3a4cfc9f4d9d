"""Doorbells: who waits under which id, and one timer for all of them.

Setting a timer for each waiter would cost more than the rest of waiting. Nothing here knows what is
waited for.
"""

from __future__ import annotations

import asyncio
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

    def __init__(self, loop: asyncio.AbstractEventLoop, *, lossy: bool) -> None:
        self.loop = loop
        self._lossy = lossy
        self._bells: dict[str, asyncio.Future[bool]] = {}
        self._asking: dict[str, bool] = {}
        self._next = count(1).__next__
        self._deadlines: list[tuple[float, int, asyncio.Future[bool]]] = []
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

    def stand(self, request: str, bell: asyncio.Future[Any], timeout_s: float | None) -> float:
        """Ring a bell as one under this id, and with False when its time is up.

        Args:
            request: under which id; to be silenced like any other.
            bell: somebody else may ring it as well.
            timeout_s: seconds from now; None for as long as it takes.

        Returns:
            Now, by the loop's clock.
        """
        self._bells[request] = bell
        now = self.loop.time()
        if timeout_s is not None:
            self._time(bell, now + timeout_s)
        return now

    def _time(self, bell: asyncio.Future[Any], until: float) -> None:
        deadlines = self._deadlines
        heappush(deadlines, (until, self._next(), bell))
        if self._timer is None or until < self._timer_at:
            self._set_timer()
        if len(deadlines) > self._many:
            self._deadlines = [item for item in deadlines if not item[2].done()]
            heapify(self._deadlines)
            self._many = 64 + 2 * len(self._deadlines)

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
        self._timer_at = self._deadlines[0][0]
        self._timer = self.loop.call_at(self._timer_at, self._time_is_up)

    def _time_is_up(self) -> None:
        self._timer = None
        now = self.loop.time()
        while self._deadlines and (self._deadlines[0][2].done() or self._deadlines[0][0] <= now):
            _, _, future = heappop(self._deadlines)
            if not future.done():
                future.set_result(False)
        if self._deadlines:
            self._set_timer()

    def still(self) -> None:
        """Set no timer any more."""
        if self._timer is not None:
            self._timer.cancel()
