"""How a limit is divided among what is sent: pure arithmetic on counts, no clock and no waiting.

The same division holds for requests at once and for requests in a minute (B13). `budget` does the
waiting.
"""

from __future__ import annotations

from collections import deque
from enum import IntEnum
from typing import Final, NamedTuple


class Urgency(IntEnum):
    """What a request is for, the most urgent first (B13). Deletions count as VERIFY."""

    EXCHANGE = 0
    CREATE = 1
    CONFIRM = 2
    REPLACE = 3
    WARM = 4
    VERIFY = 5
    ORPHAN = 6

    @property
    def is_upkeep(self) -> bool:
        """Whether nobody waits for it at this moment."""
        return self >= Urgency.REPLACE


RESERVED: Final = (Urgency.EXCHANGE, Urgency.CREATE, Urgency.CONFIRM)
"""Each of these keeps a share of every limit that the others may not take."""


class Limits(NamedTuple):
    """What a principal may send.

    Attributes:
        requests_per_minute: in any 60 seconds.
        concurrent_requests: at once.
        upkeep_share: at most this part of either is for REPLACE to ORPHAN together, at least one.
    """

    requests_per_minute: int
    concurrent_requests: int
    upkeep_share: float = 0.2

    def scaled(self, factor: float) -> Limits:
        """Return the limits times `factor`; what was not zero stays at least one."""
        rate, at_once = self.requests_per_minute, self.concurrent_requests
        return self._replace(
            requests_per_minute=max(int(rate * factor), min(rate, 1)),
            concurrent_requests=max(int(at_once * factor), min(at_once, 1)),
        )


# From the API's pages on limits; presets by how one signs in, since that says who one is (B13).
INDIVIDUAL_USER: Final = Limits(requests_per_minute=5_000, concurrent_requests=30)
SERVICE_USER: Final = Limits(requests_per_minute=10_000, concurrent_requests=800)


def reserve_of(urgency: Urgency, limit: int) -> int:
    """Return how much of `limit` is kept for an urgency: a tenth, at least one.

    A limit under four is too small for three reserves; they are given in order of urgency, and
    always leave one for whatever is first in line.
    """
    if urgency.is_upkeep or urgency + 1 >= limit:
        return 0
    return max(1, limit // 10)


def room_in(urgency: Urgency, used: list[int], limit: int, upkeep_share: float) -> int:
    """Return how many more of an urgency fit under a limit.

    Args:
        urgency: of what is to be sent.
        used: what is sent already, by urgency.
        limit: for all together.
        upkeep_share: the part that REPLACE to ORPHAN may use together.
    """
    kept = sum(max(0, reserve_of(u, limit) - used[u]) for u in RESERVED if u != urgency)
    room = limit - sum(used) - kept
    if urgency.is_upkeep:
        room = min(room, max(1, int(limit * upkeep_share)) - sum(used[Urgency.REPLACE :]))
    return max(0, room)


class Demand(NamedTuple):
    """What is asked of a budget, for whoever gets it a larger or smaller share.

    Attributes:
        under_way: requests sent and not over.
        peak: the most of them at once since the peak was taken last.
        in_minute: started in the last minute.
        started: altogether.
        urgent: in line, and somebody waits for them.
        upkeep: in line, and nobody does.
        factor: what throttling leaves of the full limits.
    """

    under_way: int
    peak: int
    in_minute: int
    started: int
    urgent: int
    upkeep: int
    factor: float


class Window:
    """What was sent in the last minute, by urgency, counted in cells of a second.

    A cell counts until all of it is a minute old, so that no 60 s hold more than was let through,
    wherever they begin; the price is that a place comes back up to a second late. Against a token
    bucket: a bucket that keeps the same promise has to give up as much of the sustained rate as it
    allows for bursts, and a pool lives on bursts (a cold start, a deploy, the refresh of a day). A
    burst may take the whole minute's worth here, save the reserves, which is what keeps exchanges
    flowing behind ten thousand creations. Memory is 61 cells, whatever the limit.
    """

    SPAN_S: Final = 60.0
    CELL_S: Final = 1.0

    __slots__ = ("_cells", "used")

    def __init__(self) -> None:
        self.used: list[int] = [0] * len(Urgency)
        self._cells: deque[tuple[float, list[int]]] = deque()

    def add(self, urgency: Urgency, now: float) -> None:
        """Count one as sent now."""
        if not self._cells or now >= self._cells[-1][0] + self.CELL_S:
            self._cells.append((now, [0] * len(Urgency)))
        self._cells[-1][1][urgency] += 1
        self.used[urgency] += 1

    def forget_old(self, now: float) -> None:
        """Let go of what is older than the span."""
        while self._cells and now >= self._leaves_at(self._cells[0]):
            for urgency, count in enumerate(self._cells.popleft()[1]):
                self.used[urgency] -= count

    def next_change_at(self) -> float | None:
        """Return when the oldest of it leaves; None if it is empty."""
        return self._leaves_at(self._cells[0]) if self._cells else None

    def _leaves_at(self, cell: tuple[float, list[int]]) -> float:
        return cell[0] + self.CELL_S + self.SPAN_S
