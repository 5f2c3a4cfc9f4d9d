"""Shares: this process's part of the principal's limits, leased from the store (B13).

One task per pool, on stores that are awaited. It looks at what is asked of the budget, and wishes
for as much of both limits, at most once a second each; a budget that is idle costs the store
nothing. It knows neither what is sent nor how a store divides; how much to wish for is decided in
`portions`.

A share ends by this process's own clock, taken before it was asked for, so a frozen process finds
it gone. While the store does not answer, what is left of the share is used until its end, and from
then on `FLOOR_AT_ONCE`: exchanges on held leases go on (B27, decision 8).
"""

from __future__ import annotations

import asyncio
from math import ceil
from typing import Final, NamedTuple

from session_pool.bells import TICK_S
from session_pool.creator import Creator
from session_pool.desks import PRINCIPAL
from session_pool.errors import StoreUnavailable
from session_pool.foundry import RESERVED, Limits, Part
from session_pool.lapse import MARGIN
from session_pool.model import FOREVER
from session_pool.portions import Need, Portion, with_reserves
from session_pool.telemetry import log
from session_pool.works import TELL_S, Works

LOOK_S: Final = 0.5
"""Between two looks at the budget while a share is held: what was not used between two of them is
given back, within a second of its last use."""

USABLE_S: Final = 30.0 * (1 - MARGIN)
"""A share is used for so long after it was asked for, as long as leases last (`lease_ttl_s`): who
cannot reach the store loses both, and a share that was renewed every 5 s outlives any hiccup."""

AT_ONCE_FOR_S: Final = 30.0
"""The store keeps a share of the requests at once for as long: what a killed process had under way
is over as its connections break."""

MINUTE_S: Final = 61.0
"""What was sent counts for so long, to the budget's own precision."""

MINUTE_FOR_S: Final = AT_ONCE_FOR_S + MINUTE_S
"""And a share of the requests in a minute for so much longer: nobody else may have it before the
last request of a killed process is a minute old."""

FIRST_AT_ONCE: Final = 3
FIRST_OF_MINUTE: Final = 10
"""Asked for at the start: one of so many parts. A cold start is a burst of requests at once; of the
minute it needs less, and a process that dies in its first second keeps that from others longest."""

FLOOR_AT_ONCE: Final = 1
FLOOR_OF_MINUTE: Final = 100
"""While the store does not answer, a process may send one at once, and this part of a minute's."""

SHARES: Final = "shares"
"""Rung when somebody waits for a share."""


class Wish(NamedTuple):
    """What is asked of the store for one limit."""

    portion: Portion
    name: str
    amount: float
    for_s: float


class Sharer:
    """Leases this process's part of the limits.

    Args:
        works: the pool's means; their store is one that is awaited.
        limits: the whole, as this process knows it.
        host: of the stack.
        creator: who may start more when there is more room, and knows what is missing.
        floor: requests at once that are open while the store does not answer; with 0 there is no
            floor, and no live shares ever sum above the limit.
    """

    def __init__(
        self,
        works: Works,
        limits: Limits,
        host: str,
        creator: Creator,
        floor: int = FLOOR_AT_ONCE,
    ) -> None:
        self._works = works
        self._limits = limits
        self._creator = creator
        self._names = (f"{host}/{PRINCIPAL}/at once", f"{host}/{PRINCIPAL}/minute")
        self._portions = (
            Portion(
                limits.concurrent_requests, for_s=AT_ONCE_FOR_S, usable_s=USABLE_S,
                first_of=FIRST_AT_ONCE,
            ),
            Portion(
                limits.requests_per_minute, for_s=MINUTE_FOR_S, usable_s=USABLE_S,
                first_of=FIRST_OF_MINUTE,
            ),
        )  # fmt: skip
        self._floors = (0, 0)
        self._floor = floor
        self._unheard = False
        self._hurried = False
        self._epoch = works.store.epoch
        self._looked_at = -FOREVER
        self._started = 0
        works.sharing = self
        works.paced.budget.divide(self._may_use, self._hurry)

    async def run(self) -> None:
        """Hold as much as is needed, for ever."""
        works = self._works
        while True:
            in_s = await self.step()
            if not self._hurried:  # else somebody came while the store was asked
                await works.wait(SHARES, works.loop.time() + in_s, alone=True)

    async def step(self) -> float:
        """Look once at what is needed, and ask for it; seconds until the next look."""
        works, now = self._works, self._works.clock()
        self._hurried = False
        if works.store.epoch != self._epoch:
            self._epoch = works.store.epoch
            for portion in self._portions:
                portion.forgotten(now)
        factor, needs = self._needs(now)
        if works.away:
            self._heard(False)
        else:
            wishes = [
                Wish(portion, name, amount, portion.for_s)
                for portion, name, need in zip(self._portions, self._names, needs, strict=True)
                if (amount := portion.ask(need, factor, now)) is not None
            ]
            if wishes:
                await works.owned(self._ask(wishes, factor), "share")
        if all(portion.idle for portion in self._portions) and not any(
            need.wanted for need in needs
        ):
            return FOREVER
        now = works.clock()
        ahead = [portion.next_at for portion in self._portions if portion.next_at > now]
        return max(TICK_S, min(*ahead, self._looked_at + LOOK_S) - now) if ahead else LOOK_S

    async def aclose(self) -> None:
        """Give back what is held; what was sent in the last minute stays taken until it is over."""
        demand = self._works.paced.budget.demand(new_peak=False)
        at_once, minute = (
            Wish(portion, name, amount, for_s)
            for portion, name, amount, for_s in zip(
                self._portions,
                self._names,
                (0, demand.in_minute),
                (AT_ONCE_FOR_S, MINUTE_S),
                strict=True,
            )
        )
        if not self._works.away:  # else it ends by itself
            await self._ask([at_once, minute], demand.factor)

    # ------------------------------------------------------------------ with the budget

    def _may_use(self, factor: float) -> Part:
        now, upkeep = self._works.clock(), self._limits.upkeep_share
        at_once, minute = (portion.may_use(factor, now) for portion in self._portions)
        if self._unheard and self._floor:
            at_once, minute = max(at_once, self._floors[0]), max(minute, self._floors[1])
        return Part(
            Limits(minute, at_once, self._portions[0].upkeep(at_once, upkeep, now)),
            self._portions[1].upkeep(minute, upkeep, now),
        )

    def _hurry(self) -> None:
        self._hurried = True
        self._works.ring(SHARES)

    def _needs(self, now: float) -> tuple[float, tuple[Need, Need]]:
        """What throttling leaves of the whole, and what is needed of both limits."""
        in_time = now >= self._looked_at + LOOK_S - TICK_S
        demand, limits = self._works.paced.budget.demand(new_peak=in_time), self._limits
        recent = demand.started - self._started
        if in_time:
            self._looked_at, self._started = now, demand.started
        missing, lacking = self._creator.missing()
        urgent, upkeep = demand.urgent + missing, demand.upkeep + lacking
        reserves = len(RESERVED) - (upkeep == 0)  # its own reserve is in nobody's way

        def need(spent: int, used: int, whole: int, coming: int) -> Need:
            waiting = urgent + min(upkeep, max(1, int(whole * limits.upkeep_share)))
            active = demand.peak + waiting > 0
            return Need(spent, used + waiting, waiting > 0, reserves, active, coming)

        return demand.factor, (
            need(demand.under_way, demand.peak, limits.concurrent_requests, 0),
            need(demand.in_minute, demand.in_minute, limits.requests_per_minute, recent),
        )

    # ------------------------------------------------------------------ with the store

    async def _ask(self, wishes: list[Wish], factor: float) -> None:
        before = self._may_use(1.0).limits
        answers = await asyncio.gather(*(self._wish(wish, factor) for wish in wishes))
        self._heard(all(answers))
        now = self._may_use(1.0).limits
        if any(most > least for most, least in zip(now[:2], before[:2], strict=True)):
            self._works.paced.budget.serve()
            self._creator.look()

    async def _wish(self, wish: Wish, factor: float) -> bool:
        works, portion = self._works, wish.portion
        until = works.loop.time() + TELL_S
        ask = works.store.share(
            wish.name,
            works.holder,
            limit=portion.named(factor),
            wish=wish.amount,
            for_s=wish.for_s,
        )
        try:
            share = await works.limits.within(until, ask)
        except StoreUnavailable as error:
            log.debug("a share of the limits could not be asked for", exc_info=error)
            portion.unheard()
            return False
        portion.answered(share.granted, share.lacking, factor)
        return True

    def _heard(self, heard: bool) -> None:
        """Take note whether the store answers; while it does not, the floor is open."""
        if not heard:
            now, budget, limits = self._works.clock(), self._works.paced.budget, self._limits
            for portion in self._portions:
                portion.unheard()
            if not self._unheard or self._portions[1].may_use(1.0, now):
                # Beside what was sent while there was a share: that is not to close the floor.
                sent = budget.demand(new_peak=False).in_minute
                floor_of_minute = with_reserves(
                    sent + ceil(limits.requests_per_minute / FLOOR_OF_MINUTE)
                )
                self._floors = (
                    min(self._floor, limits.concurrent_requests),
                    min(floor_of_minute, limits.requests_per_minute),
                )
        if heard is self._unheard:
            self._unheard = not heard
            self._works.paced.budget.serve()
