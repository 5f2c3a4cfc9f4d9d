"""`redis://` and `rediss://`: Redis 6.2 or later, or Valkey, for processes on many machines.

The scripts in `lua` say what each operation does; `store` asks for them, `asking` brings the
question there, `link`, `greeting` and `wire` are the way. `hiredis` parses what comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from session_pool.stores.base import Store
from session_pool.stores.redis.address import address_of
from session_pool.stores.redis.asking import SCHEMA
from session_pool.stores.redis.store import RedisStore

__all__ = ["RedisStore", "from_url", "migrate"]


def from_url(
    url: str,
    *,
    realm: str = "",
    begin: bool = True,
    clock: Callable[[], float],  # noqa: ARG001  # for engines in this process; here the server's counts
) -> Store:
    """The store at a URL; see `open_store`.

    Args:
        url: `redis[s]://[[user]:password@]host[:port][/database]`, with the options `namespace`,
            `cluster` (true or false; else the server says), `unix` (a socket's path, in place of
            the host), and for `rediss` `ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile` (paths).
        realm, begin: see `open_store`.
        clock: not used: instants go by the server's clock (B20).

    Raises:
        ConfigError: the URL cannot be meant.
    """
    return RedisStore(replace(address_of(url, realm), begin=begin))


def migrate(url: str) -> str:
    """See `open.migrate`. There is one version so far, so nothing can be older.

    Raises:
        StoreMismatch: what is kept there is of a later release.
    """

    async def look() -> str:
        store = RedisStore(address_of(url))
        await store.open()
        await store.aclose()
        return f"redis: version {SCHEMA} is what this release speaks; nothing to do"

    return asyncio.run(look())
