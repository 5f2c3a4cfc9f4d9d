"""The first words with a server: who we are, what it is, and whether it can keep a pool.

One clear sentence for each thing that is wrong. Knows no operation of the store.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, cast

import hiredis

from session_pool.errors import ConfigError, StoreUnavailable
from session_pool.stores.redis.address import Address
from session_pool.stores.redis.trouble import code_of, translated
from session_pool.stores.redis.wire import Wire, command

OLDEST: Final = (6, 2)
SHARDED: Final = (7, 0)
"""Since when a bell can be rung on one shard alone."""

Node = tuple[str, int]
"""Host and port."""


class Greeting(NamedTuple):
    """What a server said of itself.

    Attributes:
        identity: changes when it restarts, or is another.
        publish, subscribe: the commands by which bells are rung and heard.
        owner: the node of a cluster that has the keys, where this one has not.
        nodes: those of the cluster that may have them one day.
    """

    identity: str
    publish: bytes
    subscribe: bytes
    owner: Node | None = None
    nodes: tuple[Node, ...] = ()


async def greet(wire: Wire, address: Address, key: bytes) -> Greeting:
    """Come in, and look whether this server will do.

    Args:
        wire: as it was just made.
        address: how to come in.
        key: any key of the namespace; all are in one slot.

    Raises:
        ConfigError: what the URL says is refused, or the server can never keep a pool as it is.
        StoreUnavailable: not now.
    """
    await _enter(wire, address)
    told = _sections(await _ask(wire, address, b"INFO"))
    version = _version(told)
    if version < OLDEST:
        raise ConfigError(
            f"store: {address.shown} is Redis {told.get('redis_version')}; the store needs 6.2 or "
            "later, or Valkey"
        )
    enabled = told.get("cluster_enabled") == "1"
    if address.cluster and not enabled:
        raise ConfigError(f"store: {address.shown} is no cluster; remove cluster=true from the URL")
    cluster = enabled and address.cluster is not False
    if enabled and address.database:
        raise ConfigError(f"store: {address.shown} is a cluster, which has no database but 0")
    identity = told.get("run_id", "")
    owner, nodes = await _owner(wire, address, key) if cluster else (None, ())
    if owner is None:
        _check(address, told)
    sharded = cluster and version >= SHARDED
    return Greeting(
        identity,
        b"SPUBLISH" if sharded else b"PUBLISH",
        b"SSUBSCRIBE" if sharded else b"SUBSCRIBE",
        owner,
        nodes,
    )


def _check(address: Address, told: dict[str, str]) -> None:
    if told.get("loading") == "1":
        raise StoreUnavailable(f"opening the store: {address.shown} is still loading its data")
    if told.get("role", "master") != "master":
        raise ConfigError(
            f"store: {address.shown} is a read-only replica of {told.get('master_host', 'another')}"
            "; name its primary in the URL"
        )
    policy = told.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise ConfigError(
            f"store: {address.shown} has maxmemory-policy {policy}, by which it may forget who "
            "holds a session; set it to noeviction (CONFIG SET maxmemory-policy noeviction)"
        )


async def _enter(wire: Wire, address: Address) -> None:
    words = [b"HELLO", b"3"]
    if address.password is not None or address.username is not None:
        user, password = address.username or "default", address.password or ""
        words += [b"AUTH", user.encode(), password.encode()]
    answer = await wire.ask(command(*words))
    if isinstance(answer, hiredis.ReplyError):
        if code_of(answer) == "ERR" and "unknown command" in str(answer).lower():
            raise ConfigError(
                f"store: {address.shown} is older than Redis 6; the store needs 6.2 or later, or "
                "Valkey"
            ) from answer
        raise translated(answer, address.shown, "opening the store") from answer
    if address.database:
        answer = await wire.ask(command(b"SELECT", str(address.database).encode()))
        if isinstance(answer, hiredis.ReplyError):
            if code_of(answer) == "NOPERM":
                raise translated(answer, address.shown, "opening the store") from answer
            raise ConfigError(
                f"store: {address.shown} has no database {address.database}; use a smaller number "
                "in the URL, and ?namespace= for several pools in one database"
            ) from answer


async def _owner(wire: Wire, address: Address, key: bytes) -> tuple[Node | None, tuple[Node, ...]]:
    """The node that has the keys (None for this one), and all the others."""
    slot = int(await _ask(wire, address, b"CLUSTER", b"KEYSLOT", key))
    me = await _ask(wire, address, b"CLUSTER", b"MYID")
    owner: tuple[Node, Any] | None = None
    nodes: list[Node] = []
    for first, last, *there in await _ask(wire, address, b"CLUSTER", b"SLOTS"):
        for host, port, *more in there:
            nodes.append((host.decode() if host else address.host, int(port)))
            if first <= slot <= last and owner is None:
                owner = (nodes[-1], more[0] if more else None)
    if owner is None:
        raise StoreUnavailable(
            f"opening the store: no node of the cluster at {address.shown} has slot {slot}"
        )
    return (None if owner[1] == me else owner[0]), tuple(dict.fromkeys(nodes))


async def _ask(wire: Wire, address: Address, *words: bytes) -> Any:
    answer = await wire.ask(command(*words))
    if isinstance(answer, hiredis.ReplyError):
        raise translated(answer, address.shown, "opening the store") from answer
    return answer


def _sections(text: Any) -> dict[str, str]:
    lines = cast("bytes", text).decode("utf-8", "replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))


def _version(told: dict[str, str]) -> tuple[int, ...]:
    parts = told.get("redis_version", "0.0").split(".")[:2]
    return tuple(int(part) if part.isdigit() else 0 for part in parts)
