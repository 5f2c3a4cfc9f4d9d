"""Who gives the orders of B25, and how the agent stands then.

`where` says who gives the order: the one process that there is, on a store of its own or on one
that is awaited, or another process, which knows nothing of what the first one does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, Literal

import pytest

from session_pool import (
    AgentPolicy,
    Lease,
    SessionPool,
)
from session_pool.events import (
    SessionRetired,
)
from session_pool.model import Counts, State
from tests.pool.house import COLD, House, another, conserve, distant_store, house
from tests.stores.awaiting import AwaitingStore

Where = Literal["local", "awaited", "there"]
WHERE: Final[tuple[Where, ...]] = ("local", "awaited", "there")

everywhere = pytest.mark.parametrize("where", WHERE)
WARM: Final = AgentPolicy(min_idle=2)
SOON_S: Final = 6.0
"""By then a lost bell, the first look for what was recalled, and a creation are over."""


@asynccontextmanager
async def ordered(
    where: Where, *, policy: AgentPolicy = COLD, **more: Any
) -> AsyncIterator[tuple[House, SessionPool]]:
    """A house, and the pool in which orders are given."""
    if where == "local":
        async with house(policy=policy, **more) as home:
            yield home, home.pool
        return
    store = distant_store()
    async with house(policy=policy, pool={"store": store}, exact=False, **more) as home:
        if where == "awaited":
            yield home, home.pool
        else:
            far = AwaitingStore(store._clock, shared=store)
            async with another(home, far, policy=policy) as pool:
                yield home, pool
            conserve(pool.stats())
        home.pool.stats()
        await asyncio.sleep(SOON_S)  # the first process reads how things stand by now


async def counts(home: House) -> Counts:
    """How the agent stands, as the store says; the account balances."""
    desk = home.pool._desks.of(home.agent)
    found, _ = await home.pool._works.store.read(desk.key)
    there = found.of("idle", "ageing", "leased", "parked", "quarantined", "retiring")
    made = found.tally.get("created", 0) + found.tally.get("adopted", 0)
    assert made == there + found.tally.get("retired", 0), found
    return found


async def state_of(home: House, rid: str) -> State | None:
    """The state of a session, as the store says; None if there is none of it."""
    desk = home.pool._desks.of(home.agent)
    found = await home.pool._works.store.find(desk.key, rid=rid)
    return found[0].state if found else None


def alive(home: House) -> set[str]:
    """The sessions that are there at the remote."""
    return {rid for rid in home.emu.sessions if home.emu.is_alive(rid)}


def reasons(home: House) -> set[str]:
    """Why sessions were retired, as the first process told."""
    return {event.reason for event in home.happened(SessionRetired)}


async def give_back(lease: Lease) -> None:
    """Give a session back that nobody did anything with."""
    lease.mark_unused()
    await lease.release()
