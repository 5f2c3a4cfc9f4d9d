"""`postgresql://`: the shared state in a PostgreSQL database, for shops without Redis.

Every operation is one call of a function inside the database, which locks the key's row first: the
meaning lives in the `.sql` files next door, and `schema` brings them there. `store` turns questions
and answers into rows (`rows`), `lanes` carries them over a few connections, `bell` listens. This is
the one package that knows asyncpg.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from session_pool.stores.base import Store
from session_pool.stores.postgres.address import address_of
from session_pool.stores.postgres.schema import migrate as migrate
from session_pool.stores.postgres.store import PostgresStore


def from_url(
    url: str,
    *,
    realm: str = "",
    begin: bool = True,
    clock: Callable[[], float],  # noqa: ARG001  # the server's clock counts
) -> Store:
    """The store that a `postgresql://` URL names; see `open_store`."""
    return PostgresStore(replace(address_of(url, realm), begin=begin))
