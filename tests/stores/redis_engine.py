"""The Redis engine in the conformance suite: a real server, a namespace for each scene."""

from __future__ import annotations

from itertools import count
from typing import Final

from session_pool.stores.redis import RedisStore
from session_pool.stores.redis.address import address_of
from session_pool.stores.redis.wire import command
from tests.servers.valkey import shared

START: Final = 1000.0
_namespaces = count(1)


class RedisEngine:
    """`redis://`, on a clock that stands still."""

    def __init__(self, program: str | None = None) -> None:
        self.now = START
        self.server = shared(program)
        namespace = f"scene-{next(_namespaces)}"
        self.store = RedisStore(
            address_of(f"{self.server.url}?namespace={namespace}"), clock=lambda: self.now
        )

    def advance(self, seconds: float) -> None:
        """Let the store's clock go on."""
        self.now += seconds

    def check(self) -> None:
        """Nothing yet."""

    async def hear(self) -> None:
        """Bells come on the same connection as answers, so one answer is behind them all."""
        wire = await self.store._link.ready()
        await wire.ask(command(b"PING"))
