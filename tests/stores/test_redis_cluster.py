"""A Redis Cluster: the node that has the namespace is found, and found again (`make test-cluster`).

The whole conformance suite runs on it as well, as the engine "cluster".
"""

from __future__ import annotations

import pytest

from session_pool.errors import ConfigError
from session_pool.space import Ticket
from session_pool.stores.base import EPOCH
from session_pool.stores.redis import RedisStore
from session_pool.stores.redis.address import address_of
from tests.servers.cluster import Cluster, shared
from tests.stores.redis_scene import namespace, process
from tests.stores.scene import KEY


async def test_any_node_leads_to_the_one_that_has_the_namespace() -> None:
    name = namespace()
    owner = shared().owner(f"session-pool:{{{name.split('=')[1]}}}:meta")
    for server in shared().servers:
        async with process(server.url + name) as one:
            assert one.store._link.shown == owner.url
    async with process(f"{owner.url}{name}&cluster=true") as one:
        assert one.store._link.shown == owner.url


async def test_bells_ring_between_processes_that_came_by_different_nodes() -> None:
    name, servers = namespace(), shared().servers
    async with process(servers[0].url + name) as one, process(servers[4].url + name) as two:
        assert isinstance(await two.take(request="r"), Ticket)
        await one.stock("a")
        await two.hears("r")
        await two.granted(request="r")


async def test_a_cluster_has_one_database() -> None:
    store = RedisStore(address_of(f"{shared().servers[0].url}/1"))
    with pytest.raises(ConfigError, match="has no database 1"):
        await store.open()


async def test_a_namespace_that_moves_to_another_node_is_followed() -> None:
    with Cluster() as cluster:
        owner = cluster.owner("session-pool:{default}:meta")
        successor = cluster.servers[cluster.servers.index(owner) + 3]
        first = cluster.servers[(cluster.servers.index(owner) + 1) % 3]
        async with process(first.url) as one:
            await one.stock("a")
            grant = await one.granted()
            with successor.raw() as way:
                way("CLUSTER", "FAILOVER")
            await one.hears(EPOCH)
            assert one.store._link.shown == successor.url
            assert await one.give_back(grant)
            # And back again, by a node that was killed.
            one.heard.clear()
            with owner.raw() as way:
                while b"master_link_status:up" not in way("INFO", "replication"):
                    pass
            successor.kill()
            await one.hears(EPOCH)
            assert one.store._link.shown == owner.url
            assert (await one.store.read(KEY))[0].of("idle") == 1
