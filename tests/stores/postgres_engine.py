"""`postgresql://` under test: a real server, and a namespace of its own for each scene."""

from __future__ import annotations

from itertools import count
from typing import Final

from session_pool.stores.postgres.address import address_of
from session_pool.stores.postgres.bell import HELLO
from session_pool.stores.postgres.store import PostgresStore
from session_pool.stores.postgres.wire import Wire
from tests.servers.postgres import shared_server

START: Final = 1000.0
_names: Final = count(1)


class PostgresEngine:
    """A real PostgreSQL, on a clock that stands still."""

    def __init__(self) -> None:
        self.now = START
        url = f"{shared_server().url()}&namespace=scene-{next(_names)}"
        self.store = PostgresStore(address_of(url), clock=lambda: self.now)

    def advance(self, seconds: float) -> None:
        """Let the store's clock go on."""
        self.now += seconds

    def check(self) -> None:
        """What its parts must agree on is asked of the database by `test_postgres_parts`."""

    async def hear(self) -> None:
        """A ring to oneself comes after all that were rung before."""
        bell = self.store._bell

        async def ring(wire: Wire, channel: str, asked: list[str]) -> list[None]:
            await wire.execute("SELECT pg_notify($1, $2)", channel, asked[0])
            return [None]

        bell._hello.clear()
        await self.store._lanes.ask(bell.channel, "hear", ring, HELLO)
        await bell._hello.wait()
