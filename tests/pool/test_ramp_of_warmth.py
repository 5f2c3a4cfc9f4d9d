"""What is to lie ready is made at once, not one after the other (B8, B14), also by small shares.

A user's token may have 30 requests under way at once, of which upkeep has a fifth, and on a store
that is awaited an idle process holds no share of them: it begins with nothing each time, and asks
for more once a second at most (B13).
"""

from __future__ import annotations

import asyncio

import pytest

from session_pool import Agent, AgentPolicy
from session_pool.emulator import AGENT_RID
from tests.pool.house import House, distant_store, house

pytestmark = pytest.mark.looptime

CREATE_S = 0.8
LATENCY_S = 0.002


@pytest.mark.parametrize("min_idle", [2, 4])
async def test_what_was_taken_is_made_again_at_once(min_idle: int) -> None:
    store = distant_store()
    policy = AgentPolicy(min_idle=min_idle)
    async with house(policy=policy, pool={"store": store}, create_latency_s=CREATE_S) as home:
        store.latency_s = LATENCY_S
        await home.pool.ready(10)
        for _ in range(4):
            await asyncio.sleep(5)  # by now it has given its share back
            leases = [await home.lease() for _ in range(min_idle)]
            for lease in leases:
                await lease.release()
            assert await _ready_in(home) <= CREATE_S + 0.1
        store.latency_s = 0.0


async def test_of_what_upkeep_may_send_at_once_little_is_left_unused() -> None:
    store = distant_store()
    policy = AgentPolicy(min_idle=12)  # twice a fifth of 30
    async with house(policy=policy, pool={"store": store}, create_latency_s=CREATE_S) as home:
        store.latency_s = LATENCY_S
        await home.pool.ready(10)
        await asyncio.sleep(5)
        leases = [await home.lease() for _ in range(12)]
        assert await _ready_in(home) <= 3 * CREATE_S + 0.2
        for lease in leases:
            await lease.release()
        store.latency_s = 0.0


async def test_agents_that_are_short_together_do_not_wait_for_one_another() -> None:
    store = distant_store()
    rids = [AGENT_RID, AGENT_RID.replace("732", "832"), AGENT_RID.replace("732", "932")]
    agents = {rid: Agent(rid, AgentPolicy(min_idle=1)) for rid in rids}
    async with house(agents=agents, pool={"store": store}, create_latency_s=CREATE_S) as home:
        store.latency_s = LATENCY_S
        await home.pool.ready(10)
        await asyncio.sleep(5)
        for rid in rids:
            await (await home.pool.acquire(rid)).release()
        assert await _ready_in(home) <= CREATE_S + 0.1
        store.latency_s = 0.0


async def _ready_in(home: House) -> float:
    loop = asyncio.get_running_loop()
    began = loop.time()
    await home.pool.ready(60)
    return loop.time() - began
