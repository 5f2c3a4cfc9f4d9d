"""How a lease on an awaited store ends by itself: the words that its holder and the store share.

Who prolongs it is a protocol here, since the one who does stands above those who hold.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from session_pool.space import Put

MARGIN: Final = 0.05
"""Of a lease's length, at its end: the holder has stopped by then. Two clocks differ by a hundredth
of that; the rest is for what is between the last look at the clock and a request at the remote.
"""


class Renewal(Protocol):
    """Who prolongs leases."""

    def attend(self, ttl_s: float, left_s: float) -> None:
        """A lease of this length is held from now on, and so much of it is left."""

    async def settle(self) -> None:
        """Make this process's leases known to a store that has forgotten them (B27)."""

    async def renew(self, lease: Any) -> None:
        """Prolong one lease now (a `holding.Holding`); returns when that is done, or it is lost."""


def aged(put: Put, by_s: float) -> Put:
    """A change that is asked for again after so long: what it says of life left has grown old."""
    if by_s <= 0 or (put.expires_in_s is None and put.fresh_in_s is None):
        return put
    expires_in_s, fresh_in_s = put.expires_in_s, put.fresh_in_s
    return put._replace(
        expires_in_s=None if expires_in_s is None else expires_in_s - by_s,
        fresh_in_s=None if fresh_in_s is None else max(0.0, fresh_in_s - by_s),
    )
