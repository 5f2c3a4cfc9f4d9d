"""The budget of one process: who may send next, and how much at once and in a minute (B13).

This room knows urgencies, lines and limits; it sends nothing and knows no operation. The share
that this process has of a principal's limits is given to it from outside (`resize`, or `divide`
where it changes with what other processes need).

All of it happens between two awaits of one loop: a place is given by direct hand-over to the first
in line, and a waiter that is cancelled, even at the tick of its turn, gives it on. One timer is set
at most, to the next instant at which something can change for those who wait; without waiters
there is none.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, insort
from collections.abc import Callable
from itertools import count
from types import TracebackType
from typing import Final, NamedTuple, Self

from session_pool.foundry.auth import Auth, ClientCredentials
from session_pool.foundry.quota import (
    INDIVIDUAL_USER,
    RESERVED,
    SERVICE_USER,
    Demand,
    Limits,
    Urgency,
    Window,
)
from session_pool.foundry.quota import room_in as _room_in

__all__ = [
    "Urgency",
    "Limits",
    "INDIVIDUAL_USER",
    "SERVICE_USER",
    "preset_for",
    "Budget",
    "BudgetSnapshot",
    "Demand",
]

# Throttled, the limits shrink to 0.7 of what they are, which halves them in two steps; at most
# once in 5 s, since all that was in flight together brings the same news. They come back by one
# hundredth of the whole every 2 s, so a full recovery takes minutes, as limits per replica and
# neighbours' loads do. Never under a hundredth: something must go out to learn that it is over.
_CUT: Final = 0.7
_CUT_INTERVAL_S: Final = 5.0
_STEP: Final = 0.01
_STEP_S: Final = 2.0
_FLOOR: Final = 0.01
_TICK_S: Final = 0.001  # the shortest timer, so that rounding cannot make it fire without end

Clock = Callable[[], float]


class Part(NamedTuple):
    """What one of several processes may use of the limits at this moment.

    Attributes:
        limits: for this process; their `upkeep_share` is that of the requests at once.
        minute_upkeep: of the requests in a minute, the part for upkeep.
    """

    limits: Limits
    minute_upkeep: float


Portion = Callable[[float], Part]
"""What this process may use, told what throttling leaves of the limits."""

_Place = tuple[float, int, "asyncio.Future[None]"]
"""Where one stands in line: when the need arose, then in order of coming."""


def preset_for(auth: Auth) -> Limits:
    """Return the limits of whoever signs in this way: a service user's, or an individual's."""
    return SERVICE_USER if isinstance(auth, ClientCredentials) else INDIVIDUAL_USER


class BudgetSnapshot(NamedTuple):
    """A budget at one moment.

    Attributes:
        in_use: requests under way, by urgency.
        waiting: in line, by urgency.
        sent_in_minute: started in the last minute, all together.
        limits: as throttling has them now.
        factor: what throttling leaves of the full limits, 0.01 to 1.
        paused_s: seconds until anything may be sent again; 0 where nothing was asked.
    """

    in_use: dict[Urgency, int]
    waiting: dict[Urgency, int]
    sent_in_minute: int
    limits: Limits
    factor: float
    paused_s: float


class Budget:
    """The right to send, in order of urgency and, within one, of the time the need arose.

    Args:
        limits: what may be sent, see `Limits`; zeros let nothing through until `resize`.
        clock: seconds, never going back; None is the running loop's.
    """

    def __init__(self, limits: Limits, *, clock: Clock | None = None) -> None:
        self._full = limits
        self._clock = clock
        self._in_use = [0] * len(Urgency)
        self._window = Window()
        self._lines: dict[Urgency, list[_Place]] = {urgency: [] for urgency in Urgency}
        self._tickets = count()
        self._factor = 1.0
        self._cut_at = float("-inf")
        self._paused_until = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: float | None = None
        self._portion: Portion | None = None
        self._lacks: Callable[[], None] = lambda: None
        self._peak = self._started = 0
        self._served = Urgency.CONFIRM

    def slot(self, urgency: Urgency, since: float | None = None) -> Slot:
        """Return the right to send one request, to be entered: `async with budget.slot(...)`.

        Entering waits for its turn, however long; the caller bounds that. Cancelled, it leaves
        nothing behind. Leaving gives the place to the next.

        Args:
            urgency: what it is for.
            since: when the need arose, by the budget's clock; None is now. Creations of a cold
                agent go before the many later ones of a hot agent (B6).
        """
        return Slot(self, urgency, since)

    def room(self, urgency: Urgency) -> int:
        """Return how many more of an urgency would start at once; none while some wait."""
        self._serve()
        return 0 if self._lines[urgency] else self._room(urgency)

    def throttled(self, retry_after_s: float | None = None) -> bool:
        """Take note that the remote throttled: send less, and nothing at all for as long as asked.

        Args:
            retry_after_s: seconds the remote asked to wait, or None.

        Returns:
            Whether the limits were lowered: once for each burst of such news.
        """
        now = self._now()
        if retry_after_s is not None:
            self._paused_until = max(self._paused_until, now + retry_after_s)
        lowers = now >= self._cut_at + _CUT_INTERVAL_S
        if lowers:
            self._factor = max(_FLOOR, self._factor_at(now) * _CUT)
            self._cut_at = now
        self._serve()
        if lowers:
            self._lacks()
        return lowers

    def resize(self, limits: Limits) -> None:
        """Take another share of the limits; what throttling took off stays off.

        What is under way above a smaller share goes on; nothing starts until it fits.
        """
        self._full = limits
        self._serve()

    def divide(self, portion: Portion, lacks: Callable[[], None]) -> None:
        """From now on only a part of the limits is this process's, and changes with the need.

        Args:
            portion: asked at each turn, so that a share whose time is over is not used even by a
                process that was frozen. What throttling takes off is its matter. Whoever makes it
                larger calls `serve`.
            lacks: called when somebody has to wait, and when the remote throttled.
        """
        self._portion, self._lacks = portion, lacks

    def serve(self) -> None:
        """Give out what is free, now that the portion may be another."""
        self._serve()

    def lack(self) -> None:
        """More would be asked for if there were room."""
        self._lacks()

    def demand(self, *, new_peak: bool) -> Demand:
        """Return what is asked of it.

        Args:
            new_peak: the peak begins anew after this.
        """
        now = self._now()
        self._window.forget_old(now)
        under_way, peak = sum(self._in_use), self._peak
        if new_peak:
            self._peak = under_way
        return Demand(
            under_way=under_way,
            peak=max(peak, under_way),
            in_minute=sum(self._window.used),
            started=self._started,
            urgent=sum(len(line) for urgency, line in self._lines.items() if not urgency.is_upkeep),
            upkeep=sum(len(line) for urgency, line in self._lines.items() if urgency.is_upkeep),
            factor=self._factor_at(now),
        )

    def snapshot(self) -> BudgetSnapshot:
        """Return what is going on."""
        now = self._now()
        self._window.forget_old(now)
        return BudgetSnapshot(
            in_use={urgency: self._in_use[urgency] for urgency in Urgency},
            waiting={urgency: len(line) for urgency, line in self._lines.items()},
            sent_in_minute=sum(self._window.used),
            limits=self._part_at(now).limits,
            factor=self._factor_at(now),
            paused_s=max(0.0, self._paused_until - now),
        )

    # -------------------------------------------------------------------------- for slots only

    async def _enter(self, urgency: Urgency, since: float | None) -> None:
        self._serve()  # those in line first, should their instant have come and the timer be late
        now = self._now()
        if self._room(urgency) > 0:  # so nobody in line before it could use the place
            self._take(urgency, now)
            return
        line = self._lines[urgency]
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        place = (now if since is None else since, next(self._tickets), turn)
        insort(line, place)
        self._serve()
        if not turn.done():
            self._lacks()
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self._leave(urgency)  # it had come, at this very tick: the next one's now
            else:
                self._drop(line, place)
                self._serve()
            raise

    def _leave(self, urgency: Urgency) -> None:
        self._in_use[urgency] -= 1
        self._serve()

    # -------------------------------------------------------------------------------- the turn

    def _serve(self) -> None:
        """Give out what is free, by urgency and then by place; set the timer for the rest."""
        if self._portion is not None and self._is_tiny():
            while any(self._serve_one(urgency) for urgency in self._in_turn()):
                pass
        else:
            for urgency, line in self._lines.items():
                while line and self._serve_one(urgency):
                    pass
        self._set_timer()

    def _serve_one(self, urgency: Urgency) -> bool:
        """Give the first in a line its turn, if there is room; whether that was done."""
        line = self._lines[urgency]
        while line and line[0][2].done():  # cancelled, and its task has not run yet
            del line[0]
        if not line or self._room(urgency) <= 0:
            return False
        turn = line.pop(0)[2]
        self._take(urgency, self._now())
        turn.set_result(None)
        return True

    def _is_tiny(self) -> bool:
        """Whether this is too small a part for the reserves, so that who has one goes in turn."""
        limits = self._part_at(self._now()).limits
        return min(limits.concurrent_requests, limits.requests_per_minute) <= len(RESERVED)

    def _in_turn(self) -> list[Urgency]:
        after = self._served + 1
        first = [*RESERVED[after:], *RESERVED[:after]]
        return [*first, *(urgency for urgency in Urgency if urgency.is_upkeep)]

    def _take(self, urgency: Urgency, now: float) -> None:
        self._in_use[urgency] += 1
        self._window.add(urgency, now)
        if self._portion is not None:
            self._started += 1
            self._peak = max(self._peak, sum(self._in_use))
            if not urgency.is_upkeep:
                self._served = urgency

    def _room(self, urgency: Urgency) -> int:
        now = self._now()
        if now < self._paused_until:
            return 0
        self._window.forget_old(now)
        limits, minute_upkeep = self._part_at(now)
        at_once = _room_in(urgency, self._in_use, limits.concurrent_requests, limits.upkeep_share)
        in_minute = _room_in(urgency, self._window.used, limits.requests_per_minute, minute_upkeep)
        return min(at_once, in_minute)

    @staticmethod
    def _drop(line: list[_Place], place: _Place) -> None:
        index = bisect_left(line, place)
        if index < len(line) and line[index] is place:
            del line[index]

    def _set_timer(self) -> None:
        now = self._now()
        at = self._next_change_at(now) if any(self._lines.values()) else None
        if self._timer is not None:
            if at == self._timer_at:
                return
            self._timer.cancel()
            self._timer = None
        if at is not None:
            delay_s = max(_TICK_S, at - now)
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._on_timer)
            self._timer_at = at

    def _on_timer(self) -> None:
        self._timer = None
        self._serve()

    def _next_change_at(self, now: float) -> float | None:
        """Return when more may be sent without anybody leaving; None if never."""
        if now < self._paused_until:
            return self._paused_until
        instants = [self._window.next_change_at()]
        if self._factor_at(now) < 1.0:
            steps = int((now - self._cut_at) / _STEP_S) + 1
            instants.append(self._cut_at + steps * _STEP_S)
        return min((at for at in instants if at is not None), default=None)

    # ------------------------------------------------------------------------------ the limits

    def _factor_at(self, now: float) -> float:
        """Return what throttling leaves of the limits: as cut, and a step for each `_STEP_S`."""
        if self._factor >= 1.0:
            return 1.0
        return min(1.0, self._factor + _STEP * int((now - self._cut_at) / _STEP_S))

    def _part_at(self, now: float) -> Part:
        factor = self._factor_at(now)
        if self._portion is not None:
            return self._portion(factor)
        limits = self._full if factor >= 1.0 else self._full.scaled(factor)
        return Part(limits, limits.upkeep_share)

    def _now(self) -> float:
        return (self._clock or asyncio.get_running_loop().time)()

    def __repr__(self) -> str:
        waiting = sum(len(line) for line in self._lines.values())
        return f"<Budget {self._full}, in use {sum(self._in_use)}, waiting {waiting}>"


class Slot:
    """One request's place in a budget; entered once."""

    __slots__ = ("_budget", "_since", "_urgency")

    def __init__(self, budget: Budget, urgency: Urgency, since: float | None) -> None:
        self._budget = budget
        self._urgency = urgency
        self._since = since

    async def __aenter__(self) -> Self:
        await self._budget._enter(self._urgency, self._since)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._budget._leave(self._urgency)
