"""The pool and its peers, each with its cheapest way to hold one of several items for a moment.

Each has two loops of its own, written as its users write them, so that none pays for a wrapper:
`cycles` takes and gives back with nobody else about, `turns` is one of many tasks that contend. A
peer whose package is not installed is left out and named.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any, ClassVar

import aiohttp
import yarl
from aiohttp.client_reqrep import ClientRequest

from session_pool import Agent, AgentPolicy, SessionPool
from tests.benchmarks.remote import AGENT, Remote

Note = Callable[[int], object]
"""Told of each turn as it ends."""


class Peer(ABC):
    """Something that hands out `size` items, exclusively.

    Attributes:
        name: as printed.
        does: what it does per cycle.
    """

    name: ClassVar[str]
    does: ClassVar[str]

    @abstractmethod
    async def open(self, size: int) -> None:
        """Make the items ready."""

    @abstractmethod
    async def aclose(self) -> None:
        """Let go of everything."""

    @abstractmethod
    async def cycles(self, many: int) -> None:
        """Take an item and give it back, so many times."""

    @abstractmethod
    async def turns(self, turns: Iterator[int], note: Note) -> None:
        """For each turn: take an item, hold it over a `sleep(0)`, give it back, note it."""


class Pool(Peer):
    """The product, by its public API."""

    name = "session_pool"
    does = "async with pool.acquire(agent): a live session"

    async def open(self, size: int) -> None:
        policy = AgentPolicy(min_idle=0, max_leased=size, reuse="anyone")
        agents = {"agent": Agent(AGENT, policy)}
        self.pool = SessionPool(
            url="https://stack.invalid", token="benchmark", agents=agents, api=Remote()
        )
        await self.pool.open()
        leases = [await self.pool.acquire(AGENT) for _ in range(size)]
        for lease in leases:
            await lease.release()

    async def aclose(self) -> None:
        await self.pool.aclose()

    async def cycles(self, many: int) -> None:
        pool = self.pool
        for _ in range(many):
            async with pool.acquire(AGENT):
                pass

    async def turns(self, turns: Iterator[int], note: Note) -> None:
        pool = self.pool
        for turn in turns:
            async with pool.acquire(AGENT):
                await asyncio.sleep(0)
            note(turn)


class Queue(Peer):
    """The least that hands out items."""

    name = "asyncio.Queue"
    does = "get(), put_nowait(item)"

    async def open(self, size: int) -> None:
        self._queue: asyncio.Queue[int] = asyncio.Queue()
        for number in range(size):
            self._queue.put_nowait(number)

    async def aclose(self) -> None:
        """Nothing to let go of."""

    async def cycles(self, many: int) -> None:
        queue = self._queue
        for _ in range(many):
            item = await queue.get()
            queue.put_nowait(item)

    async def turns(self, turns: Iterator[int], note: Note) -> None:
        queue = self._queue
        for turn in turns:
            item = await queue.get()
            await asyncio.sleep(0)
            queue.put_nowait(item)
            note(turn)


class Semaphore(Peer):
    """Hands out nothing, but in turn: the fair floor."""

    name = "asyncio.Semaphore"
    does = "async with semaphore: a place, no item"

    async def open(self, size: int) -> None:
        self._semaphore = asyncio.Semaphore(size)

    async def aclose(self) -> None:
        """Nothing to let go of."""

    async def cycles(self, many: int) -> None:
        semaphore = self._semaphore
        for _ in range(many):
            async with semaphore:
                pass

    async def turns(self, turns: Iterator[int], note: Note) -> None:
        semaphore = self._semaphore
        for turn in turns:
            async with semaphore:
                await asyncio.sleep(0)
            note(turn)


class AiohttpConnector(Peer):
    """The connection pool of an HTTP client."""

    name = "aiohttp connector"
    does = "connect(), release(): a kept-alive socket"

    async def open(self, size: int) -> None:
        loop = asyncio.get_running_loop()
        self._ends: list[_ServerEnd] = []
        self._server = await loop.create_server(lambda: _ServerEnd(self._ends), "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self._connector = aiohttp.TCPConnector(limit=size, keepalive_timeout=3600)
        self._request = ClientRequest("GET", yarl.URL(f"http://127.0.0.1:{port}/"), loop=loop)
        self._timeout = aiohttp.ClientTimeout(total=None)
        held = [await self._connect() for _ in range(size)]
        for connection in held:
            connection.release()

    async def aclose(self) -> None:
        await self._connector.close()
        self._server.close()
        for end in self._ends:
            end.transport.abort()
        await asyncio.sleep(0)  # the transports close in the loop's next round
        await self._server.wait_closed()

    async def _connect(self) -> aiohttp.connector.Connection:
        return await self._connector.connect(self._request, [], self._timeout)

    async def cycles(self, many: int) -> None:
        connector, request, timeout = self._connector, self._request, self._timeout
        for _ in range(many):
            connection = await connector.connect(request, [], timeout)
            connection.release()

    async def turns(self, turns: Iterator[int], note: Note) -> None:
        connector, request, timeout = self._connector, self._request, self._timeout
        for turn in turns:
            connection = await connector.connect(request, [], timeout)
            await asyncio.sleep(0)
            connection.release()
            note(turn)


class _ServerEnd(asyncio.Protocol):
    """A server that accepts and says nothing."""

    transport: asyncio.Transport

    def __init__(self, ends: list[_ServerEnd]) -> None:
        self._ends = ends

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._ends.append(self)


class SqlAlchemy(Peer):
    """An async engine's queue pool, over SQLite in memory."""

    name = "SQLAlchemy async"
    does = "raw_connection(), close(): aiosqlite, no reset, no SQL"
    packages = ("sqlalchemy", "aiosqlite", "greenlet")

    async def open(self, size: int) -> None:
        # By name: these are in the extra `bench` alone, and types must check without them.
        create_async_engine = import_module("sqlalchemy.ext.asyncio").create_async_engine
        self._engine: Any = create_async_engine(
            "sqlite+aiosqlite:///:memory:",
            poolclass=import_module("sqlalchemy.pool").AsyncAdaptedQueuePool,
            pool_size=size,
            max_overflow=0,
            pool_reset_on_return=None,
        )
        held = [await self._engine.raw_connection() for _ in range(size)]
        for connection in held:
            connection.close()

    async def aclose(self) -> None:
        await self._engine.dispose()

    async def cycles(self, many: int) -> None:
        engine = self._engine
        for _ in range(many):
            connection = await engine.raw_connection()
            connection.close()

    async def turns(self, turns: Iterator[int], note: Note) -> None:
        engine = self._engine
        for turn in turns:
            connection = await engine.raw_connection()
            await asyncio.sleep(0)
            connection.close()
            note(turn)


def everybody() -> tuple[list[Peer], tuple[str, ...]]:
    """The pool first, then its peers; and a note for each that is not installed."""
    peers: list[Peer] = [Pool(), Queue(), Semaphore(), AiohttpConnector()]
    absent = []
    # Imported late: they are peers like those here.
    for module, name in (
        ("peers", "SqlAlchemy"), ("database_peers", "Asyncpg"), ("database_peers", "Psycopg"),
    ):  # fmt: skip
        peer = getattr(import_module(f"tests.benchmarks.{module}"), name)
        if all(find_spec(package) for package in peer.packages):
            peers.append(peer())
        else:
            known = peer.name.partition(" ")[0]
            absent.append(f"{known} is left out: it is not installed (`make bench` does it).")
    return peers, tuple(absent)
