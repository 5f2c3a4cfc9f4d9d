"""Another clock for a whole process, as on a machine whose clock is wrong (B20).

Shifts what the package asks for the time: civil time, and the clock by which a pool keeps its
leases. What a store on this machine goes by itself (SQLite's is the machine's own) is not moved, as
no two processes of one machine disagree about it; the loop's clock only ever measures durations.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from session_pool import events, holding, pool, works


def shift(ahead_s: float) -> None:
    """From now on this process's clocks are ahead by so much, or behind."""
    if not ahead_s:
        return
    real_time, real_clock_of = time.time, works.clock_of

    def clock_of(loop: asyncio.AbstractEventLoop) -> Callable[[], float]:
        clock = real_clock_of(loop)
        return lambda: clock() + ahead_s

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz or UTC) + timedelta(seconds=ahead_s)

    time.time = lambda: real_time() + ahead_s
    pool.clock_of = clock_of  # type: ignore[attr-defined]  # imported there by name
    for room in (events, holding):
        room.datetime = Shifted  # type: ignore[attr-defined]  # imported there by name
