"""Renewal: the leases of this process are prolonged, end in time, and are known to the store (B21).

One task per pool, on stores that are awaited. It asks in one batch for each length of lease, a
third of the way through; what fails is tried again until the leases' own ends, and what has come to
its end is taken from its holder, whether or not the store is there. A store that has forgotten what
it knew is told what is held here (B27). It holds leases weakly, and sleeps while there are none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final
from weakref import ref

from session_pool.bells import ASK_AGAIN_S, TICK_S
from session_pool.desk import Desk
from session_pool.errors import StoreUnavailable
from session_pool.events import StoreForgot
from session_pool.holding import Holding
from session_pool.model import FOREVER
from session_pool.notes import write_note
from session_pool.stores.base import EPOCH
from session_pool.telemetry import log
from session_pool.works import RETRY_S, Works

AHEAD: Final = 1 / 3
"""Of a lease's length, between two renewals: two of them may fail, and the third is in time."""

REFUSED: Final = "its renewal was refused: it had lapsed, or is another's"


class Renewer:
    """Prolongs the leases of one process.

    Args:
        works: the pool's means; their store is one that is awaited.
        desks: all agents of the pool.
    """

    def __init__(self, works: Works, desks: Callable[[], list[Desk]]) -> None:
        self._works = works
        self._desks = desks
        self._due: dict[float, float] = {}
        self._failed = 0
        self._wakes_at = 0.0
        self._settling = asyncio.Lock()
        works.renewal = self

    def attend(self, ttl_s: float, left_s: float) -> None:
        """A lease is held from now on; see `lapse.Renewal`."""
        works, due = self._works, self._due
        at = works.clock() + AHEAD * left_s
        if at < due.get(ttl_s, FOREVER):
            due[ttl_s] = at
            if at < self._wakes_at:
                self._wakes_at = at
                works.ring(EPOCH)

    async def run(self) -> None:
        """Prolong what is held, for ever."""
        works = self._works
        while True:
            await self.step()
            if works.store.epoch == works.epoch:
                # The epoch's own doorbell is the renewer's: it may ring at any time.
                in_s = self._wakes_at - works.clock()
                await works.wait(EPOCH, works.loop.time() + max(0.0, in_s), alone=True)

    async def step(self) -> None:
        """Look once after all leases: what has ended, what is to be prolonged, and when to come."""
        works = self._works
        self._held()
        try:
            await self.settle()
            now = works.clock()
            for ttl_s in [ttl_s for ttl_s, at in self._due.items() if at <= now + TICK_S]:
                await self._renew(ttl_s)
        except StoreUnavailable as error:
            self._failed += 1
            pause_s = ASK_AGAIN_S if works.away else works.pause_s(self._failed)
            log.debug("leases are renewed again in %.1f s", pause_s, exc_info=error)
            await works.wait(EPOCH, works.loop.time() + self._until_next_end(pause_s), alone=True)
        else:
            self._failed = 0
        # What is due stays so though nothing may be held now: it spares leases that come and go
        # a bell each, and costs one look once nobody holds any more.
        ends = [lease.ends for leases in self._held().values() for lease in leases]
        self._wakes_at = min((*self._due.values(), *ends), default=FOREVER)

    async def settle(self) -> None:
        """Make this process's leases known to a store that has forgotten them (B27).

        Raises:
            StoreUnavailable: it is away again.
        """
        if self._works.store.epoch != self._works.epoch:
            async with self._settling:  # once, however many find out
                if self._works.store.epoch != self._works.epoch:
                    await self._register()

    async def renew(self, lease: Holding) -> None:
        """Prolong one lease now; a store that is away is asked again until the lease's end."""
        works, attempt = self._works, 0
        while not lease.over:
            token, asked_at = lease.token, works.clock()
            until = works.loop.time() + lease.ends - asked_at
            try:
                answers = await works.limits.within(
                    until, works.store.renew(works.holder, [token], lease.ttl_s)
                )
                if answers[0]:
                    lease.prolong(token[1], asked_at, lease.ttl_s)
                    return
                await self.settle()
            except StoreUnavailable:
                if not await works.back(attempt, until):
                    return
                attempt += 1
            else:
                if lease.token == token:
                    lease.lose(REFUSED)

    # ------------------------------------------------------------------ what is held

    def _held(self) -> dict[float, list[Holding]]:
        """The leases by their length; those at their end are taken from their holders."""
        now = self._works.clock()
        held: dict[float, list[Holding]] = {}
        for desk in self._desks():
            for weak in tuple(desk.leases.values()):
                lease = weak()
                if lease is None:
                    continue
                if lease.ends <= now + TICK_S:
                    lease.lapse()
                else:
                    held.setdefault(desk.policy.lease_ttl_s, []).append(lease)
        return held

    def _until_next_end(self, at_most_s: float) -> float:
        now = self._works.clock()
        ends = (lease.ends for leases in self._held().values() for lease in leases)
        return max(0.0, min((at_most_s, *(end - now for end in ends))))

    # ------------------------------------------------------------------ with the store

    async def _renew(self, ttl_s: float) -> None:
        works, asked_at = self._works, self._works.clock()
        batch = [(ref(lease), *lease.token) for lease in self._held().get(ttl_s, ())]
        if not batch:
            del self._due[ttl_s]
            return
        tokens = [(entry_id, fence) for _, entry_id, fence in batch]
        until = works.loop.time() + self._until_next_end(AHEAD * ttl_s)
        answers = await works.limits.within(until, works.store.renew(works.holder, tokens, ttl_s))
        self._due[ttl_s] = asked_at + AHEAD * ttl_s
        for (weak, entry_id, fence), prolonged in zip(batch, answers, strict=True):
            lease = weak()
            if lease is None or lease.token != (entry_id, fence):
                continue  # dropped, or it goes on with another session
            if prolonged:
                lease.prolong(fence, asked_at, ttl_s)
            elif works.store.epoch == works.epoch:
                lease.lose(REFUSED)

    async def _register(self) -> None:
        """Tell another epoch what is held here, and hear what else it does not know."""
        works, epoch, lost, told = self._works, self._works.store.epoch, 0, 0
        for ttl_s, leases in self._held().items():
            asked_at = works.clock()
            batch = [(ref(lease), lease.known_as()) for lease in leases]
            until = works.loop.time() + self._until_next_end(AHEAD * ttl_s)
            del leases
            answers = await works.limits.within(
                until, works.store.register(works.holder, [held for _, held in batch], ttl_s)
            )
            for (weak, held), entry in zip(batch, answers, strict=True):
                lease, told = weak(), told + 1
                if lease is None or lease.over or lease.token[0] != held.entry.id:
                    continue
                if entry is not None:
                    lease.registered(entry, asked_at)
                else:
                    lost += 1
                    lease.lose("the store has forgotten it, and somebody else has its session")
        for desk in self._desks():
            await self._doubt(desk)
        if epoch == works.store.epoch:
            works.epoch = epoch
        works.bus.publish(StoreForgot(held=told, lost=lost))
        for desk in self._desks():
            read = partial(works.store.read, desk.key)
            counts, noted = await works.again(read, works.loop.time() + RETRY_S)
            desk.take_note(noted, works.clock())
            works.on_change(desk.key, counts, None)
        works.ring_all()

    async def _doubt(self, desk: Desk) -> None:
        """What lies ready in a state that may be an older one may have been used since (B4)."""
        works, until = self._works, self._works.loop.time() + RETRY_S
        counts, noted = await works.again(partial(works.store.read, desk.key), until)
        desk.take_note(noted, works.clock())
        if counts.of("idle", "ageing"):
            ask = partial(works.store.due, works.holder, limit=0, for_s=0.0)
            now = (await works.again(ask, until)).now
            await write_note(
                works, desk, lambda note: note._replace(doubted_before=now), for_s=RETRY_S
            )
