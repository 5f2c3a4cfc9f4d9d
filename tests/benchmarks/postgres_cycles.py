"""What the PostgreSQL benchmarks share: keys with idle sessions, and ids."""

from __future__ import annotations

from itertools import count
from typing import Final

from session_pool.model import PoolKey
from session_pool.space import Done, Put, Want
from session_pool.stores.postgres.store import PostgresStore

_ids: Final = count(1)


def key(number: int = 0) -> PoolKey:
    """One of several agents."""
    return PoolKey("stack.example.com", "default", f"ri.aip-agents..agent.{number}")


def next_id() -> str:
    """An id that was not there yet."""
    return f"id-{next(_ids)}"


def want(of: PoolKey, conversation: str | None = None) -> Want:
    """What every caller wants."""
    return Want(of, "me", conversation, None, 0.0, 30.0, 1_000_000, 1_000_000)


async def stock(store: PostgresStore, of: PoolKey, many: int) -> None:
    """Idle sessions."""
    for number in range(many):
        done = await store.put(
            Put(
                of, f"{of.agent_rid}-{next_id()}", next_id(), "idle", rid=f"rid-{number}",
                agent_version="1.0", expires_in_s=50_000.0 + number, deadline_in_s=40_000.0,
            )
        )  # fmt: skip
        assert isinstance(done, Done)
