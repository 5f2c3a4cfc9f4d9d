"""What time the server believes it is, and how it writes it down.

Instants are integer nanoseconds since 1970 UTC, the form that the API's own timestamps need. The
clock advances with the running loop's time, so that virtual time moves it; no other room reads a
clock. It knows nothing of sessions.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from itertools import cycle
from typing import Final, Literal

SECOND: Final = 1_000_000_000

# The last second that `datetime` can hold: the far future of a session that never expires.
FAR_FUTURE_NS: Final = 253_402_300_799 * SECOND

FractionDigits = int | Literal["vary"]

# The lengths that "vary" goes through: Java prints 0, 3, 6 or 9 digits; the odd ones are for
# parsers that only thought of those.
_LENGTHS: Final = (9, 3, 6, 0, 7, 1)


class ServerClock:
    """The server's clock.

    Args:
        read: seconds since 1970, or None for the wall clock at `start` moved on by the loop's time.
        offset_s: seconds by which the server's belief is ahead of that; may be negative.
        digits: digits of a second that a recorded instant keeps, or "vary".
    """

    def __init__(
        self, read: Callable[[], float] | None, *, offset_s: float, digits: FractionDigits
    ) -> None:
        self._read = read
        self._offset_ns = round(offset_s * SECOND)
        self._digits = digits
        self._lengths = cycle(_LENGTHS)
        self._base_ns = 0
        self._latest_ns = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Take the running loop's time as now."""
        self._loop = asyncio.get_running_loop()
        self._base_ns = time.time_ns() - round(self._loop.time() * SECOND)

    def now_ns(self) -> int:
        """The instant it is, as the server believes."""
        if self._read is not None:
            return round(self._read() * SECOND) + self._offset_ns
        if self._loop is None:
            raise RuntimeError("the emulator has not been started")
        return self._base_ns + round(self._loop.time() * SECOND) + self._offset_ns

    def stamp_ns(self) -> int:
        """The instant it is, with as many digits as are recorded.

        With "vary" the digits differ from stamp to stamp, and stamps still never go back: one that
        would is kept whole.
        """
        now = self.now_ns()
        digits = next(self._lengths) if self._digits == "vary" else self._digits
        rounded: int = now - now % 10 ** (9 - digits)
        if self._digits == "vary" and rounded < self._latest_ns:
            rounded = now
        self._latest_ns = rounded
        return rounded

    def text(self, instant_ns: int) -> str:
        """An instant as the API writes it: RFC 3339, UTC, `Z` (contract section 2)."""
        seconds, fraction = divmod(instant_ns, SECOND)
        digits = f"{fraction:09d}"
        shown = digits.rstrip("0") if self._digits == "vary" else digits[: self._digits]
        whole = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return f"{whole}.{shown}Z" if shown else f"{whole}Z"

    def date_header(self) -> str:
        """The `Date` header: the server's belief, truncated to the second."""
        return _http_date(self.now_ns() // SECOND)

    def retry_after(self, seconds: float, *, as_date: bool) -> str:
        """A `Retry-After` header: whole seconds, rounded up, or a date by the server's clock."""
        if as_date:
            return _http_date(math.ceil(self.now_ns() / SECOND + seconds))
        return str(math.ceil(seconds))


def _http_date(seconds: int) -> str:
    return format_datetime(datetime.fromtimestamp(seconds, UTC), usegmt=True)


def later(instant_ns: int, seconds: float) -> int:
    """An instant some seconds later, at most the far future."""
    if math.isinf(seconds):
        return FAR_FUTURE_NS
    return min(instant_ns + round(seconds * SECOND), FAR_FUTURE_NS)


def as_datetime(instant_ns: int) -> datetime:
    """An instant as an aware `datetime`, truncated to microseconds."""
    seconds, fraction = divmod(instant_ns, SECOND)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=fraction // 1000)
