"""The Redis engines in the conformance suite: real servers, a namespace for each scene."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import count
from typing import Any, Final

from session_pool.stores.redis import RedisStore
from session_pool.stores.redis.address import address_of
from session_pool.stores.redis.wire import command
from tests.servers import cluster, valkey
from tests.stores.redis_audit import audit

START: Final = 1000.0

CLUSTER: Final = bool(os.environ.get("SESSION_POOL_TEST_CLUSTER"))
"""Six servers at once are asked for (`make test-cluster`)."""

_namespaces = count(1)


class RedisEngine:
    """`redis://`, on a clock that stands still.

    Args:
        start: gives the server that the URL names, started when it is first needed.
        owner: gives the one that has a key.
    """

    def __init__(
        self, start: Callable[[], valkey.Server], owner: Callable[[str], valkey.Server]
    ) -> None:
        self.now = START
        self._namespace = f"scene-{os.getpid()}-{next(_namespaces)}"
        self._start, self._owner = start, owner
        self._store: RedisStore | None = None

    @property
    def store(self) -> RedisStore:
        """The store; its server is started now at the latest."""
        if self._store is None:
            url = f"{self._start().url}?namespace={self._namespace}"
            self._store = RedisStore(address_of(url), clock=lambda: self.now)
        return self._store

    def advance(self, seconds: float) -> None:
        """Let the store's clock go on."""
        self.now += seconds

    def check(self) -> None:
        """What is kept says the same everywhere."""
        base = f"session-pool:{{{self._namespace}}}:"
        with self._owner(f"{base}meta").raw() as ask:
            audit(ask, base, self.now)

    async def hear(self) -> None:
        """Bells come on the same connection as answers, so one answer is behind them all."""
        wire = await self.store._link.ready()
        await wire.ask(command(b"PING"))


def _alone(program: str) -> Callable[[], RedisEngine]:
    def start() -> valkey.Server:
        return valkey.shared(program)

    return lambda: RedisEngine(start, lambda key: start())


def _clustered() -> RedisEngine:
    return RedisEngine(lambda: cluster.shared().servers[0], lambda key: cluster.shared().owner(key))


def _engines() -> dict[str, Callable[[], Any]]:
    packaged, on_path = valkey.packaged(), valkey.on_path()
    found: dict[str, Callable[[], Any]] = {}
    if packaged is not None:
        found["valkey"] = _alone(packaged)
    if on_path is not None:
        found["redis"] = _alone(on_path)
    if CLUSTER:
        found["cluster"] = _clustered
    return found


REDIS_ENGINES: Final = _engines()
