"""Statistics of a store that is awaited: the counts of its last answer, kept from growing old.

Other processes change what this one only hears of when it asks. So while somebody looks at the
statistics, or subscribes, each agent's counts are read every few seconds; otherwise nothing is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

from session_pool.desk import Desk
from session_pool.errors import StoreUnavailable
from session_pool.model import FOREVER
from session_pool.works import Works

FRESH_S: Final = 5.0
"""How old a count may be while somebody looks: one short question per agent and process."""

LOOKING_S: Final = 60.0
"""Who asked this long ago is taken to look still: metrics are fetched every 15 to 60 seconds."""


class Figures:
    """Keeps the counts of all agents fresh while somebody looks.

    Args:
        works: the pool's means.
        desks: all agents of the pool.
    """

    def __init__(self, works: Works, desks: Callable[[], list[Desk]]) -> None:
        self._works = works
        self._desks = desks
        self._asked_at = 0.0
        self._looking: asyncio.Task[None] | None = None

    def asked(self) -> None:
        """Somebody looks at the statistics now."""
        works = self._works
        self._asked_at = works.loop.time()
        if works.local is not None or works.limits.ends != FOREVER:
            return
        if self._looking is None or self._looking.done():
            self._looking = works.spawn(self._look(), "figures")

    async def _look(self) -> None:
        works = self._works
        while works.bus.heard or works.loop.time() - self._asked_at < LOOKING_S:
            began = works.loop.time()
            for desk in self._desks():
                with suppress(StoreUnavailable):  # told elsewhere; the last counts stand meanwhile
                    read = partial(works.store.read, desk.key)
                    counts, _ = await works.limits.within(began + FRESH_S, read())
                    works.on_change(desk.key, counts, None)
            await asyncio.sleep(max(0.0, began + FRESH_S - works.loop.time()))
