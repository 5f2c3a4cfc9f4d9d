"""What upkeep costs in requests, counted by the emulator (G3)."""

from __future__ import annotations

import asyncio

import pytest

from session_pool import AgentPolicy
from tests.pool.house import house


@pytest.mark.looptime
async def test_many_idle_sessions_are_verified_by_reading_the_list_once_a_period() -> None:
    policy = AgentPolicy(min_idle=450, max_idle=500, verify_after_s=1800)
    async with house(policy=policy) as home:
        await home.pool.ready(60)
        before = dict(home.emu.audit().requests_by_operation)
        await asyncio.sleep(2 * 1800 + 60)
        after = home.emu.audit().requests_by_operation
    pages = after.get("list", 0) - before.get("list", 0)
    looks = after.get("get", 0) - before.get("get", 0)
    assert 0 < pages <= 2 * 5 + 5
    assert looks == 0
