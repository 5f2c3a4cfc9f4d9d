"""How much of a limit a process asks for: what it needs, what it yields to others (B13).

One `Portion` is the part that this process has of one limit, and decides what to wish for next. It
asks nobody and looks at no clock: what is asked of it says what time it is. Who carries the wishes
to the store is the sharer.

Two things must never be given back, since somebody else would use them at once: what is under way,
or was sent within the minute (`spent`); and what the budget could still start while the request is
on its way, so a portion is smaller from the moment at which that is asked for. Larger it is only
when the answer is there.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

EVERY_S: Final = 1.0
"""Between two requests for more of one limit; and what gives back comes so long after any other
(B13). Who gave back what it did not use may need it a moment later, and need not wait."""

RENEW_S: Final = 5.0
"""Between two requests while nothing changes. It is also how long a process may not know that
others lack, so it is much shorter than the lease."""


HEAD_OF: Final = 10
"""While anything is sent, one of so many of the whole is kept free for what comes next."""

RESERVE_OF: Final = 10
"""One of so many is what the budget keeps for each urgency that others may not take, at least one:
with less than that beside what is needed, what waits could not be sent."""

YIELDS: Final = 8
"""Of what it has, a process yields one of so many when others lack, and again every other second as
long as they do. All do, so shares become equal whatever they were; who yielded stands in line again
behind those it yielded to."""

PASS_ON_S: Final = 8
"""A share too small for that is passed on one by one, every so many seconds."""

MENTION: Final = 0.001
"""Wished for by a throttled process that needs nothing: who holds nothing names no limit in the
store, and its lowered one is to stay until it has recovered. Nothing can be sent with it."""

WHOLE: Final = 0.05
"""Mentions of others may make what is granted this much less than whole requests."""

SHORT_S: Final = 10.0
"""So long after others lacked nothing is kept free that nobody waits for."""

SETTLE_S: Final = 2.0
"""After the store forgot all shares a process asks for no more than it had, so that the others say
first what they had."""

EARLY_S: Final = 1e-3
"""A look may come this much before its time."""


def with_reserves(amount: int, reserves: int = 2) -> int:
    """How large a part must be for so much of it to be of use to those who have one reserve.

    Args:
        amount: of use.
        reserves: so many urgencies keep something for themselves.
    """
    return amount + max(reserves, math.ceil(amount * reserves / (RESERVE_OF - reserves)))


class Need(NamedTuple):
    """What is asked of one limit at this moment.

    Attributes:
        spent: what counts against the limit whatever happens.
        wanted: spent of late at most, and what waits.
        waiting: somebody waits.
        reserves: so many urgencies keep something that those who wait may not take.
        active: something was sent just now, or waits.
        recent: started of late; as much may come again.
    """

    spent: int
    wanted: int
    waiting: bool
    reserves: int
    active: bool
    recent: int


class Portion:
    """The part of one limit that this process has.

    Args:
        whole: the limit.
        for_s: how long the store keeps a share for a process that says nothing.
        usable_s: how long the process uses it: shorter than the above by as long as what was sent
            last goes on counting.
        first_of: at the start one of so many parts of the limit is asked for; what is not used of
            it is given back a second later.

    Attributes:
        granted: what it has.
        due: something is to be asked whatever is needed.
    """

    def __init__(self, whole: int, *, for_s: float, usable_s: float, first_of: int) -> None:
        self.whole = whole
        self.for_s = for_s
        self.granted = 0
        self.due = whole > 0
        self.next_at = -math.inf
        self._usable_s = usable_s
        self._first = math.ceil(whole / first_of)
        self._asked_at = -math.inf
        self._asked_more_at = -math.inf
        self._ends = -math.inf
        self._factor = 1.0
        self._wished = 0.0
        self._cap: int | None = None
        self._lacking = 0
        self._lacked = False
        self._debt = 0.0
        self._short_until = -math.inf
        self._settles_at = -math.inf

    def may_use(self, factor: float, now: float) -> int:
        """How much of it may be used at this moment.

        Args:
            factor: what throttling leaves of the whole; what is granted has felt it as it was when
                that was asked for, and only what was taken off since is taken off here.
            now: by the clock that the requests are timed by.
        """
        if now >= self._ends:
            return 0
        most = self.granted if self._cap is None else min(self.granted, self._cap)
        if factor < self._factor:
            return max(min(most, 1), int(most * factor / self._factor))
        return most

    def upkeep(self, most: int, part: float, now: float) -> float:
        """The part of what may be used that upkeep may use.

        Args:
            most: what may be used at this moment.
            part: of the whole limit. As long as nobody lacks anything, it is the whole's: a share
                is as large as what is needed, so a part of a share would be next to nothing.
            now: by the clock that the requests are timed by.
        """
        if now < self._short_until or most <= 0:
            return part
        return min(1.0, self.whole * part / most + EARLY_S / most)

    def named(self, factor: float) -> int:
        """The whole as this process knows it."""
        return max(min(self.whole, 1), int(self.whole * factor))

    def ask(self, need: Need, factor: float, now: float) -> float | None:
        """What to wish for now; None where there is nothing to ask, or it was asked just now.

        What is given back is not used from here on. The answer goes to `answered` or `unheard`.
        """
        if now >= self._ends:
            self.granted, self._cap = 0, None
        if self._cap is None:
            self._yield(need)
        wish, head = self._wish(need, factor, now)
        lowered = factor < self._factor
        mention = MENTION if wish == 0 and factor < 1.0 else 0.0
        recovered = 0 < self._wished < 1 and wish == mention
        if not (self.due or lowered or recovered or self._wants(wish, head, need, now)):
            self.next_at = math.inf
            return None
        more = wish > self.granted
        self.next_at = EVERY_S + (self._asked_more_at if more else self._asked_at)
        if now < self.next_at - EARLY_S:
            return None
        if more:
            self._asked_more_at = now
        self.granted = min(self.granted, wish)
        self.due, self._first = False, 0
        self._asked_at, self._wished = now, wish + mention
        self.next_at = now + EVERY_S
        return self._wished

    def answered(self, granted: float, lacking: float, factor: float) -> None:
        """Take what was granted.

        Args:
            granted: of what was wished for last.
            lacking: what others lack.
            factor: as it was when that was asked.
        """
        now = self._asked_at
        self._lacked = self._lacking > 0
        self.granted, self._factor = math.floor(granted + WHOLE), factor
        self._lacking = math.floor(lacking + WHOLE)
        self._ends = now + self._usable_s
        if self._lacking or self.granted < int(self._wished):
            self._short_until = now + SHORT_S
        if not self._lacking:
            self._cap, self._debt = None, 0.0
        elif self._cap is None:
            first = not self._lacked
            part = self.granted / YIELDS
            self._debt += max(1.0, part) if first else max(part / 2, 1 / PASS_ON_S)
        elif self.granted <= self._cap:
            self._cap = None  # the next wish stands in line, and only the one after it yields

    def unheard(self) -> None:
        """The store gave no answer: ask again, and use what there was until its end."""
        self.due = True

    def forgotten(self, now: float) -> None:
        """The store knows no shares any more: say what this one was."""
        self._settles_at = now + SETTLE_S
        self.due = self.due or self.granted > 0

    @property
    def idle(self) -> bool:
        """Nothing is held, and nothing is stood in line for: the store need not be told of it."""
        return self.granted == self._wished == 0 and not self.due

    # ------------------------------------------------------------------ deciding

    def _wish(self, need: Need, factor: float, now: float) -> tuple[int, int]:
        head = 0
        if need.waiting or (need.active and now >= self._short_until):
            # What is kept for others is not free: beside it there is room for what comes next.
            kept = with_reserves(need.wanted, need.reserves) - need.wanted
            free = self.whole // HEAD_OF if now >= self._short_until else 0
            head = max(kept + free, 2 * need.recent)
        most = self.named(factor)
        wish = min(most, max(self._first, need.wanted + head))
        if self._cap is not None:
            wish = min(wish, self._cap)
        if now < self._settles_at:
            wish = min(wish, self.granted)
        return max(wish, need.spent), head

    def _wants(self, wish: int, head: int, need: Need, now: float) -> bool:
        if max(int(self._wished), need.wanted) > self.granted or (self._lacking and self.granted):
            return True  # it stands in line, or others do
        if self._wished > 0 and now >= self._asked_at + RENEW_S:
            return True
        if wish > self.granted:
            least = need.wanted + head // 2
            if need.waiting:  # it waits for more than its own: with less it could not be sent
                least = max(least, with_reserves(need.wanted, need.reserves))
            return need.wanted > self.granted or self.granted < least
        spare = self.granted - wish
        if wish == 0 or self._cap is not None:
            return spare > 0
        return spare > head + self.whole // 100  # a hundredth is not worth a request

    def _yield(self, need: Need) -> None:
        if not (self._lacking and self.granted):
            return
        spare = max(0, self.granted - need.wanted)
        owed = int(self._debt) if self._debt >= max(1, self.granted // YIELDS) else 0
        amount = min(self._lacking, max(spare, owed))
        if amount > 0:
            self._debt = 0.0 if owed else self._debt
            self._cap = max(0, self.granted - amount)
