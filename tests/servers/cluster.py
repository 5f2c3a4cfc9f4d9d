"""A Redis Cluster on loopback: six servers, three of them replicas, made by commands alone."""

from __future__ import annotations

import atexit
import os
import time
from functools import cache
from types import TracebackType
from typing import Any, Final, Self

from tests.servers.valkey import Server

SLOTS: Final = 16_384
READY_S: Final = 30.0


class Cluster:
    """Three primaries, each with a replica; a context manager.

    Attributes:
        servers: the primaries, then their replicas in the same order.
    """

    def __init__(self) -> None:
        self.servers: list[Server] = []

    def __enter__(self) -> Self:
        try:
            for _ in range(6):
                server = Server("--cluster-node-timeout", "1500", cluster=True)
                self.servers.append(server)
                server.start()
            self._join()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all of them."""
        for server in self.servers:
            server.close()

    def owner(self, key: str) -> Server:
        """Who has the slot of a key now, as a majority sees it."""
        alive = [server for server in self.servers if server.running]
        with alive[0].raw() as way:
            slot = way("CLUSTER", "KEYSLOT", key)
            for first, last, (_, port, *_), *_ in way("CLUSTER", "SLOTS"):
                if first <= slot <= last:
                    return next(server for server in self.servers if server.port == port)
        raise LookupError(key)

    def _join(self) -> None:
        primaries, replicas = self.servers[:3], self.servers[3:]
        for number, server in enumerate(self.servers):
            with server.raw() as way:
                way("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
                if number < 3:
                    first, last = SLOTS * number // 3, SLOTS * (number + 1) // 3 - 1
                    way("CLUSTER", "ADDSLOTS", *map(str, range(first, last + 1)))
        for server in self.servers:
            with server.raw() as way:
                for other in self.servers:
                    bus = str(other.cluster_port)
                    way("CLUSTER", "MEET", "127.0.0.1", str(other.port), bus)
        for primary, replica in zip(primaries, replicas, strict=True):
            with primary.raw() as way:
                name = way("CLUSTER", "MYID")
            _until(replica, lambda way, name=name: name in way("CLUSTER", "NODES"))
            with replica.raw() as way:
                way("CLUSTER", "REPLICATE", name)
        for server in self.servers:
            _until(server, lambda way: b"cluster_state:ok" in way("CLUSTER", "INFO"))
            _until(server, lambda way: way("CLUSTER", "NODES").count(b"slave ") == 3)
        for replica in replicas:
            _until(replica, lambda way: b"master_link_status:up" in way("INFO", "replication"))


def _until(server: Server, holds: Any) -> None:
    ends = time.monotonic() + READY_S
    with server.raw() as way:
        while not holds(way):
            if time.monotonic() > ends:
                raise RuntimeError(f"the cluster comes not together: {way('CLUSTER', 'NODES')!r}")
            time.sleep(0.02)  # before any event loop: there is nothing to be told by


@cache
def shared() -> Cluster:
    """One cluster for all tests of this process; started when it is first asked for."""
    cluster = Cluster()
    cluster.__enter__()
    owner = os.getpid()

    def end() -> None:
        if os.getpid() == owner:  # not in a child that was forked
            cluster.close()

    atexit.register(end)
    return cluster
