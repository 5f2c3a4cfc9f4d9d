"""The request limits of one user (contract section 7); off unless a setting says so.

Time is the loop's, since limits are about pace and not about dates.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from .errors import throttled
from .settings import EmulatorSettings

_MINUTE_S: Final = 60.0


class Limits:
    """Counts each user's requests of the last minute, and those under way."""

    def __init__(self, settings: EmulatorSettings) -> None:
        self._settings = settings
        self._recent: dict[str, deque[float]] = {}
        self._under_way: Counter[str] = Counter()

    @contextmanager
    def admit(self, user: str) -> Iterator[None]:
        """Count a request for as long as the block lasts.

        Raises:
            ApiError: a bare 429 (or the setting's status), over either limit.
        """
        at_once, per_minute = self._settings.concurrent_requests, self._settings.requests_per_minute
        over = at_once is not None and self._under_way[user] >= at_once
        if per_minute is not None:
            now = asyncio.get_running_loop().time()
            recent = self._recent.setdefault(user, deque())
            while recent and recent[0] <= now - _MINUTE_S:
                recent.popleft()
            over = over or len(recent) >= per_minute
            if not over:
                recent.append(now)
        if over:
            raise throttled(self._settings.throttle_status)
        self._under_way[user] += 1
        try:
            yield
        finally:
            self._under_way[user] -= 1
