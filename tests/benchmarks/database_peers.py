"""The pools of PostgreSQL's drivers, each over a real server: what users would call a pool.

Their cheapest way is measured: no reset, no transaction, no health check, so that no cycle goes
over the network. Both packages are looked up by name: types must check where they are not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from tests.benchmarks.peers import Note, Peer
from tests.servers.postgres import shared_server


class Asyncpg(Peer):
    """asyncpg's own pool."""

    name = "asyncpg.Pool"
    does = "acquire(), release(): a connection; its reset query left out"
    packages = ("asyncpg",)

    async def open(self, size: int) -> None:
        async def no_reset(connection: object) -> None:
            """Not over the network."""

        url = shared_server().url()
        self._pool: Any = await import_module("asyncpg").create_pool(
            url, min_size=size, max_size=size, reset=no_reset
        )

    async def aclose(self) -> None:
        await self._pool.close()

    async def cycles(self, many: int) -> None:
        pool = self._pool
        for _ in range(many):
            connection = await pool.acquire()
            await pool.release(connection)

    async def turns(self, turns: Iterator[int], note: Note) -> None:
        pool = self._pool
        for turn in turns:
            connection = await pool.acquire()
            await asyncio.sleep(0)
            await pool.release(connection)
            note(turn)


class Psycopg(Peer):
    """psycopg's asynchronous pool."""

    name = "psycopg_pool"
    does = "getconn(), putconn(): a connection, no check, no transaction"
    packages = ("psycopg", "psycopg_pool")

    async def open(self, size: int) -> None:
        self._pool: Any = import_module("psycopg_pool").AsyncConnectionPool(
            shared_server().url(), min_size=size, max_size=size, open=False
        )
        await self._pool.open(wait=True)

    async def aclose(self) -> None:
        await self._pool.close()

    async def cycles(self, many: int) -> None:
        pool = self._pool
        for _ in range(many):
            connection = await pool.getconn()
            await pool.putconn(connection)

    async def turns(self, turns: Iterator[int], note: Note) -> None:
        pool = self._pool
        for turn in turns:
            connection = await pool.getconn()
            await asyncio.sleep(0)
            await pool.putconn(connection)
            note(turn)


async def psycopg_ramp(waiters: int, latency_s: float) -> float:
    """Seconds until the last of so many waiters is served by an empty pool that may grow to hold.

    Each connection takes that long to make, on top of what it takes anyway.
    """
    pools, psycopg = import_module("psycopg_pool"), import_module("psycopg")
    loop = asyncio.get_running_loop()
    served: list[float] = []
    all_served = asyncio.Event()

    async def slowly(connection: object) -> None:
        await asyncio.sleep(latency_s)

    async def caller() -> None:
        connection = await pool.getconn()
        served.append(loop.time())
        if len(served) == waiters:
            all_served.set()
        await all_served.wait()
        await pool.putconn(connection)

    pool = pools.AsyncConnectionPool(
        shared_server().url(), connection_class=psycopg.AsyncConnection, configure=slowly,
        min_size=0, max_size=waiters, open=False,
    )  # fmt: skip
    await pool.open()
    try:
        began = loop.time()
        await asyncio.gather(*(caller() for _ in range(waiters)))
        return served[-1] - began
    finally:
        await pool.close()
