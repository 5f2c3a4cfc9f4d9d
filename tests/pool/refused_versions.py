"""An agent that refuses versions by number; for the tests of B10."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from session_pool import AgentPolicy, AgentUnavailable
from session_pool.emulator import AGENT_RID, AgentSetup
from session_pool.stores.base import Store
from session_pool.stores.memory import MemoryStore
from tests.pool.house import (
    House,
    distant_store,
)

TTL_S = 30.0
BRIEF = AgentPolicy(min_idle=0, error_ttl_s=TTL_S)
TWO_VERSIONS = {AGENT_RID: AgentSetup(versions=("1.0", "2.0"))}


def near_store() -> MemoryStore:
    """A store in this process."""
    return MemoryStore(clock=asyncio.get_running_loop().time)


STORES: dict[str, Callable[[], Store]] = {"memory": near_store, "awaited": distant_store}


def now() -> float:
    """Virtual seconds."""
    return asyncio.get_running_loop().time()


async def refused(home: House, version: str | None = "9.9") -> AgentUnavailable:
    """Ask for that version and be refused; the error."""
    with pytest.raises(AgentUnavailable) as caught:
        await home.lease(agent_version=version)
    return caught.value


async def give_and_take(home: House, version: str | None = None) -> None:
    """A new session can be had at once."""
    lease = await home.lease(agent_version=version, timeout=5)
    await lease.release()
