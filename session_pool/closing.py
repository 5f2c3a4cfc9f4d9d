"""The end of a pool, in order: who waits, who holds, what is under way, what is left (B25).

It waits for leases and creations until a deadline, takes back what is still held, and lets go of
everything whatever fails on the way. What is refused from then on is the pool's matter.
"""

from __future__ import annotations

import asyncio
from typing import Final

from session_pool.creator import Creator
from session_pool.desks import Desks
from session_pool.errors import StoreError
from session_pool.keeper import Keeper
from session_pool.lease import Lease
from session_pool.sharer import Sharer
from session_pool.telemetry import log
from session_pool.works import Works

CLOSING: Final = "closing"
"""Rung at each change while the pool closes."""

AT_LEAST_S: Final = 1.0
"""For each of the last things to do, even where leases took up all of the time."""

AWAY_S: Final = 1.0
"""For all that a store that is away was not told yet: it may have blinked, and be back."""


class Closing:
    """Closes a pool.

    Args:
        works, desks, creator, keeper: its parts.
    """

    def __init__(self, works: Works, desks: Desks, creator: Creator, keeper: Keeper) -> None:
        self._works = works
        self._desks = desks
        self._creator = creator
        self._keeper = keeper

    async def run(self, endless: set[asyncio.Task[None]], timeout_s: float) -> None:
        """Close; runs in a task of the pool, so nobody's cancellation stops it half-way.

        Args:
            endless: the tasks that end with the pool only.
            timeout_s: seconds for leases and creations.
        """
        works = self._works
        try:
            await self._wind_up(endless, works.loop.time() + timeout_s)
        except StoreError as error:
            log.warning("the pool closed while its store was away: %s", error)
        finally:
            await works.cancel({task for task in endless if not task.done()})
            await let_go(works)

    async def _wind_up(self, endless: set[asyncio.Task[None]], deadline: float) -> None:
        works = self._works
        # A store that is away may keep nobody beyond this.
        works.end(deadline + AT_LEAST_S)
        for bell in works.watchers:
            works.ring(bell)
        for desk in self._desks.all():
            if desk.lender is not None:  # who waits the short way
                desk.lender.rouse()
            for request in tuple(desk.asking):  # who waits, and whose answer is on its way
                request.give_up()
        while self._leases() and works.loop.time() < deadline:
            await works.wait(CLOSING, deadline)
        creating = self._creator.aclose(max(0.0, deadline - works.loop.time()))
        await self._patiently(works.spawn(creating, "creations"), deadline)
        self._hurry()
        await self._creator.aclose(0.0)
        await works.cancel(endless)
        # Lost at once, all of them; those that the store cannot be told of lapse into quarantine.
        self._hurry()
        await asyncio.gather(*(lease.evict() for lease in self._leases()))
        self._hurry()
        await self._keeper.aclose()
        left_s = max(AT_LEAST_S, deadline - works.loop.time())
        written = works.spawn(works.written(left_s), "writes")
        await self._patiently(written, works.loop.time() + left_s)
        if not works.store.durable:
            await self._clear(max(AT_LEAST_S, deadline - works.loop.time()))

    async def _patiently(self, work: asyncio.Task[None], deadline: float) -> None:
        """See it end by the deadline, or while the store is away soon; cancelled if it does not."""
        works, until = self._works, deadline
        work.add_done_callback(lambda _: works.ring(CLOSING))
        while not work.done() and works.loop.time() < until:
            until = min(until, works.loop.time() + AWAY_S) if works.away else deadline
            await works.wait(CLOSING, until)
        if not work.done():
            await works.cancel({work})

    def _hurry(self) -> None:
        """Keep nobody who waits for the end, if the store is away: what it is not told lapses."""
        if self._works.away:
            self._works.end(min(self._works.limits.ends, self._works.loop.time() + AWAY_S))
            self._works.ring_all()  # who waits for its return waits until then only

    async def _clear(self, timeout_s: float) -> None:
        """Delete the never-used sessions of a store that ends here."""
        try:
            async with asyncio.timeout(timeout_s):
                for desk in self._desks.all():
                    await self._keeper.clear(desk)
                await self._keeper.step()
        except TimeoutError:
            log.warning("the pool closed before all never-used sessions were deleted")

    def _leases(self) -> list[Lease]:
        held = (ref() for desk in self._desks.all() for ref in desk.leases.values())
        return [lease for lease in held if lease is not None]


async def let_go(works: Works) -> None:
    """Let go of everything that a pool has open; each thing, whatever becomes of the others."""
    await works.settle(AT_LEAST_S)
    if isinstance(works.sharing, Sharer):  # last of all: deletions and upkeep went through it
        await works.sharing.aclose()
    works.close()
    try:
        await works.api.aclose()
    finally:
        await works.store.aclose()
        works.bus.close()
