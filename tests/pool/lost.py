"""Sessions whose creation's answer was lost, and what was told of them; for the tests of B12."""

from __future__ import annotations

import asyncio

from session_pool.events import (
    CreationSettled,
    OrphanAdopted,
)
from session_pool.model import PoolKey
from tests.pool.house import House

OURS = {"sole_owner": True}
SEARCHED_S = 200.0
"""By then what was lost has been looked for to the end."""


def now() -> float:
    return asyncio.get_running_loop().time()


async def made_elsewhere(home: House, version: str | None = None) -> str:
    """A session that somebody else made, with the same credentials."""
    api = home.pool._works.api
    seen = await api.create_session(home.emu.agent_rid, agent_version=version, timeout_s=10)
    return seen.session.rid


def key_of(home: House) -> PoolKey:
    return PoolKey(home.emu.host, "default", home.emu.agent_rid)


def outcomes(home: House) -> list[str]:
    return [event.outcome for event in home.happened(CreationSettled)]


def adopted(home: House) -> list[str]:
    return [event.session_rid for event in home.happened(OrphanAdopted)]
