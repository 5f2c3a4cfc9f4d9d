"""From a URL to a store: the one place that knows which engines there are.

An engine is a module with `from_url(url, *, clock, realm, begin) -> Store`, and
`migrate(url) -> str` where it has a schema. It is imported, and with it its driver, only when it is
asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Final, NamedTuple, cast
from urllib.parse import SplitResult, parse_qs, urlsplit

from session_pool.errors import ConfigError
from session_pool.stores.base import Store
from session_pool.stores.memory import MemoryStore


class _Engine(NamedTuple):
    module: str
    extra: str | None = None  # what pip has to install for it


_ENGINES: Final = {
    "sqlite": _Engine("session_pool.stores.sqlite"),
    "redis": _Engine("session_pool.stores.redis", "redis"),
    "rediss": _Engine("session_pool.stores.redis", "redis"),
    "postgresql": _Engine("session_pool.stores.postgres", "postgres"),
    "postgres": _Engine("session_pool.stores.postgres", "postgres"),
}

KNOWN: Final = "memory://, sqlite:///path, redis://, rediss:// or postgresql://"


def open_store(
    url: str, *, clock: Callable[[], float], realm: str = "", begin: bool = True
) -> Store:
    """Make the store that a URL names; `await store.open()` connects it.

    Args:
        url: `memory://`, `sqlite:///relative`, `sqlite:////absolute`, `redis://host`,
            `rediss://host` or `postgresql://host/database`; each with an optional
            `?namespace=name`.
        clock: seconds, for engines that live in this process.
        realm: for whom upkeep is done, a stack's host: a part of the namespace of its own, so that
            pools of several stacks on one URL never claim what only the other can look after.
        begin: a store is begun where there is none; if not, opening it raises ConfigError there,
            and leaves nothing behind.

    Raises:
        ConfigError: the URL names no engine, or has parts that mean nothing, or its driver is not
            installed; the message says which `pip install` mends that.
    """
    parts = _parts(url)
    if parts.scheme != "memory":
        return cast("Store", _engine(url).from_url(url, clock=clock, realm=realm, begin=begin))
    unknown = sorted(set(parse_qs(parts.query, keep_blank_values=True)) - {"namespace"})
    if parts.netloc or parts.path.strip("/") or unknown or parts.fragment:
        raise ConfigError(
            "store: memory:// takes no host, path or option but ?namespace=name; "
            "remove the rest, it would mean nothing"
        )
    return MemoryStore(clock=clock)


def migrate(url: str) -> str:
    """Bring the schema of a store to this release's version, while no pool uses it.

    Blocks; runs its own event loop where it needs one.

    Args:
        url: as for `open_store`.

    Returns:
        What was done, in one line for a terminal.

    Raises:
        ConfigError: this engine has no schema, or the URL cannot be meant.
        StoreError: it cannot be reached, or is of a later release.
    """
    scheme = _parts(url).scheme
    if scheme == "memory" or not hasattr(engine := _engine(url), "migrate"):
        raise ConfigError(f"store: {scheme}:// has no schema, so nothing to migrate")
    return cast("str", engine.migrate(url))


def _parts(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        # Not quoted: a password may stand in it, and be what cannot be read.
        raise ConfigError(
            "store: the URL cannot be read; write odd characters of user and password in percent, "
            "as %5B for ["
        ) from None


def _engine(url: str) -> ModuleType:
    scheme = _parts(url).scheme
    engine = _ENGINES.get(scheme)
    if engine is None:
        named = repr(scheme) if scheme else "a text without ://"
        raise ConfigError(f"store: {named} is no engine; use {KNOWN}")
    try:
        return import_module(engine.module)
    except ModuleNotFoundError as error:
        if engine.extra is None or (error.name or "").startswith("session_pool"):
            raise
        raise ConfigError(
            f"store: {scheme}:// needs a driver that is not installed; "
            f"run: pip install 'session-pool[{engine.extra}]'"
        ) from error
