"""From a URL to a store: the one place that knows which engines there are.

Drivers are imported only when their engine is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

from session_pool.errors import ConfigError
from session_pool.stores.base import Store
from session_pool.stores.memory import MemoryStore


def open_store(url: str, *, clock: Callable[[], float]) -> Store:
    """Make the store that a URL names; `await store.open()` connects it.

    Args:
        url: `memory://`, with an optional `?namespace=name`.
        clock: seconds, for engines that live in this process.

    Raises:
        ConfigError: the URL names no engine of this release, or has parts that mean nothing.
    """
    parts = urlsplit(url)
    if parts.scheme != "memory":
        raise ConfigError(
            f"store: {parts.scheme or url!r} is no engine of this release; "
            "use memory:// (shared stores come with the next one)"
        )
    unknown = sorted(set(parse_qs(parts.query, keep_blank_values=True)) - {"namespace"})
    if parts.netloc or parts.path.strip("/") or unknown or parts.fragment:
        raise ConfigError(
            "store: memory:// takes no host, path or option but ?namespace=name; "
            "remove the rest, it would mean nothing"
        )
    return MemoryStore(clock=clock)
