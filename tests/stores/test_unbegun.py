"""Who only looks at a store finds out that there is none, and leaves nothing there."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest

from session_pool.errors import ConfigError
from session_pool.model import PoolKey
from session_pool.stores.open import open_store
from tests.servers import valkey
from tests.servers.postgres import shared_server

HOST: Final = "stack.example.com"
KEY: Final = PoolKey(HOST, "default", "ri.agent")
_names: Final = count(1)


def place(url: str, **options: Any) -> Any:
    """A store at a URL, not open yet."""
    return open_store(url, clock=lambda: 0.0, realm=HOST, **options)


async def begun(url: str, **options: Any) -> None:
    """A pool was there, and has gone."""
    store = place(url, **options)
    await store.open()
    await store.aclose()


async def refused(url: str) -> str:
    """What somebody is told who looks."""
    with pytest.raises(ConfigError) as caught:
        await begun(url, begin=False)
    text = str(caught.value)
    assert text.startswith("store: no pool has ")
    return text


def inside(folder: Path) -> list[Path]:
    """All that is in it."""
    return sorted(folder.iterdir())


def on_redis() -> str:
    return f"{valkey.shared().url}?namespace=unbegun-{os.getpid()}-{next(_names)}"


def on_postgres() -> str:
    return f"{shared_server().url()}&namespace=unbegun-{next(_names)}"


def on_sqlite() -> str:
    return f"sqlite:///{{}}/pool.db?namespace=unbegun-{next(_names)}"


SERVED: Final = [
    *([on_redis] if valkey.packaged() or valkey.on_path() else []),
    on_postgres,
    on_sqlite,
]


@pytest.mark.parametrize("make_url", SERVED)
async def test_another_namespace_is_not_begun_by_a_look(
    make_url: Callable[[], str], short_path: Path
) -> None:
    await begun(make_url().format(short_path))  # so that the place itself is there
    url = make_url().format(short_path)
    assert url.partition("namespace=")[2] in await refused(url)
    assert HOST in await refused(url)  # the first look has begun nothing


@pytest.mark.parametrize("make_url", SERVED)
async def test_what_a_pool_has_begun_can_be_looked_at(
    make_url: Callable[[], str], short_path: Path
) -> None:
    url = make_url().format(short_path)
    await begun(url)
    store = place(url, begin=False)
    await store.open()
    try:
        counts, _ = await store.read(KEY)
        assert counts.of("idle", "creating") == 0
        assert store.epoch
    finally:
        await store.aclose()


@pytest.mark.parametrize("there", [None, b""], ids=["nothing", "an empty file"])
async def test_no_file_is_made_by_a_look(short_path: Path, there: bytes | None) -> None:
    path = short_path / "pool.db"
    if there is not None:
        path.write_bytes(there)
    before = inside(short_path)
    assert str(path) in await refused(f"sqlite:///{path}")
    assert inside(short_path) == before
    assert there is None or path.read_bytes() == there


async def test_a_file_that_goes_while_it_is_looked_at_is_not_made_again(short_path: Path) -> None:
    path = short_path / "pool.db"
    await begun(f"sqlite:///{path}")
    store = place(f"sqlite:///{path}", begin=False)
    await store.open()
    try:
        path.unlink()
        with pytest.raises(ConfigError, match="no pool has"):
            await store.read(KEY)
        assert not path.exists()
    finally:
        await store.aclose()


async def test_no_schema_is_made_by_a_look() -> None:
    server = shared_server()
    server.sql("CREATE DATABASE unbegun")
    url = server.url(database="unbegun")
    assert "unbegun" in await refused(url)
    schemas = "SELECT count(*) FROM pg_namespace WHERE nspname = 'session_pool'"
    assert server.sql(schemas, database="unbegun") == "0"
