"""Short ways to several stores on one real server, for what the common suite cannot show."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import Final

from session_pool.model import FOREVER
from session_pool.space import Done, Grant, Put, Refusal, Ticket
from session_pool.stores.redis import RedisStore
from session_pool.stores.redis.address import address_of
from tests.stores.scene import KEY, START, want

_ids = count(1)


class Clock:
    """Stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


class Process:
    """One process's store, and what it heard."""

    def __init__(self, url: str, clock: Callable[[], float] | None = None) -> None:
        self.store = RedisStore(address_of(url), clock=clock)
        self.heard: list[str] = []
        self._news = asyncio.Event()
        self.store.watch(self._ring)

    def _ring(self, request: str) -> None:
        self.heard.append(request)
        self._news.set()

    async def hears(self, request: str) -> None:
        """Return once that was rung."""
        while request not in self.heard:
            self._news.clear()
            async with asyncio.timeout(10):
                await self._news.wait()

    async def take(
        self, conversation: str | None = None, request: str | None = None, *,
        patience: float = 30.0, ttl: float = 30.0, **wanted: object,
    ) -> Grant | Ticket | Refusal:  # fmt: skip
        """Ask for a session."""
        asked = want(conversation, ttl=ttl, **wanted)  # type: ignore[arg-type]  # as a test says it
        request = request or f"r#{next(_ids)}"
        return await self.store.take(asked, request, patience_s=patience, note_version=0)

    async def granted(self, conversation: str | None = None, **asked: object) -> Grant:
        """Ask, and get one."""
        answer = await self.take(conversation, **asked)  # type: ignore[arg-type]  # the same
        assert isinstance(answer, Grant), answer
        return answer

    async def stock(self, *ids: str, expires: float = 600.0) -> None:
        """Insert idle sessions."""
        for entry_id in ids:
            put = Put(
                KEY, entry_id, f"op#{next(_ids)}", "idle", rid=f"rid-{entry_id}",
                agent_version="1.0", expires_in_s=expires, deadline_in_s=FOREVER,
            )  # fmt: skip
            assert isinstance(await self.store.put(put), Done)

    async def give_back(self, grant: Grant, state: str = "idle") -> bool:
        """End a lease; whether it was still the holder's."""
        entry = grant.entry
        put = Put(KEY, entry.id, f"op#{next(_ids)}", state, fence=entry.fence)  # type: ignore[arg-type]  # a state, by name
        return isinstance(await self.store.put(put), Done)


@asynccontextmanager
async def process(url: str, clock: Callable[[], float] | None = None) -> AsyncIterator[Process]:
    """A process whose store is open."""
    one = Process(url, clock)
    await one.store.open()
    try:
        yield one
    finally:
        await one.store.aclose()


_fresh: Final = count(1)


def namespace() -> str:
    """One that no other test uses."""
    return f"?namespace=own-{next(_fresh)}"
