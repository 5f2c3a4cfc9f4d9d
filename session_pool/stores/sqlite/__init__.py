"""The engine behind `sqlite:///path`: one file, shared by the processes of one machine.

Here is what the rest of the package asks for: a store from a URL, and the way from an older schema.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from session_pool.errors import ConfigError

if sys.platform == "win32":
    raise ConfigError("store: sqlite: needs flock and unix sockets, which Windows has not")

from session_pool.stores.base import Store
from session_pool.stores.sqlite.address import address_of
from session_pool.stores.sqlite.migrating import migrate
from session_pool.stores.sqlite.store import SqliteStore

__all__ = ["from_url", "migrate"]


def from_url(
    url: str,
    *,
    realm: str = "",
    begin: bool = True,
    clock: Callable[[], float],  # noqa: ARG001  # this engine goes by the machine's own clock (B20)
) -> Store:
    """Make the store that a URL names; it touches nothing before `open`.

    Args:
        url: `sqlite:///relative/path` or `sqlite:////absolute/path`, with an optional
            `?namespace=name`.
        realm, begin: see `open_store`.
        clock: not used.

    Raises:
        ConfigError: the URL cannot be meant; the message names the part.
    """
    return SqliteStore(address_of(url, realm)._replace(begin=begin))
