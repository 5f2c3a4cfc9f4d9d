"""Pools of two stacks on one URL: neither sees the upkeep of the other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from session_pool.model import PoolKey
from session_pool.space import Put
from session_pool.stores.open import open_store
from session_pool.stores.postgres import address as postgres
from session_pool.stores.redis import address as redis
from session_pool.stores.sqlite import address as sqlite

ONE, TWO = "one.example.com:8443", "two.example.com"


@pytest.mark.parametrize(
    ("read", "url"),
    [
        (postgres.address_of, "postgresql://host/database"),
        (redis.address_of, "redis://host"),
        (sqlite.address_of, "sqlite:///pool.db"),
    ],
)
def test_each_realm_has_its_own_part_of_a_namespace(read: Callable[..., Any], url: str) -> None:
    named = f"{url}?namespace=mine"
    assert read(url).namespace == "default"
    assert read(url, ONE).namespace == f"default@{ONE}"
    assert read(named, ONE).namespace == f"mine@{ONE}"
    assert read(named, ONE).namespace != read(named, TWO).namespace


async def test_two_stacks_on_one_url_do_not_see_each_others_upkeep(tmp_path: Path) -> None:
    url, key = f"sqlite:///{tmp_path}/pool.db", PoolKey(ONE, "default", "ri.agent")
    one = open_store(url, clock=lambda: 0.0, realm=ONE)
    two = open_store(url, clock=lambda: 0.0, realm=TWO)
    await one.open()
    await two.open()
    try:
        await one.put(Put(key, "x", "x", "chore", deadline_in_s=0.0))
        assert (await two.due("them", limit=10, for_s=60.0)).entries == ()
        due = await one.due("us", limit=10, for_s=60.0)
        assert [entry.id for _, entry in due.entries] == ["x"]
    finally:
        await one.aclose()
        await two.aclose()
