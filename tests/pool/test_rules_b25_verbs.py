"""B25: what holds for every order.

`where` is explained in `ordered_house`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

import pytest

from session_pool import (
    AgentPolicy,
    ConfigError,
    PoolClosed,
    SessionPool,
    StoreUnavailable,
)
from session_pool.emulator import Emulator
from tests.pool.house import COLD, distant_store, house, outcome
from tests.pool.ordered_house import WARM, alive

pytestmark = pytest.mark.looptime


Verb = Callable[[SessionPool, str], Coroutine[Any, Any, None]]
VERBS: Final[dict[str, Verb]] = {
    "pause": lambda pool, agent: pool.pause(agent),
    "resume": lambda pool, agent: pool.resume(agent),
    "drain": lambda pool, agent: pool.drain(agent),
    "recycle": lambda pool, agent: pool.recycle(agent),
    "warm": lambda pool, agent: pool.warm(agent, 1),
}
each = pytest.mark.parametrize("verb", VERBS)


@each
async def test_an_agent_that_nobody_knows_is_refused(verb: str) -> None:
    async with house() as home:
        with pytest.raises(ConfigError, match="neither a listed name"):
            await VERBS[verb](home.pool, "nobody")


@pytest.mark.parametrize("verb", [*VERBS, "evict"])
async def test_before_it_is_open_after_it_is_closed_and_in_another_loop(verb: str) -> None:
    async with Emulator() as emu:
        pool = SessionPool(url=emu.url, token=emu.token, policy=COLD)

        async def order() -> None:
            if verb == "evict":
                await pool.evict("ri.aip-agents..session.1")
            else:
                await VERBS[verb](pool, emu.agent_rid)

        def elsewhere() -> None:
            with pytest.raises(PoolClosed, match="another event loop"):
                asyncio.run(order())

        with pytest.raises(PoolClosed):
            await order()
        async with pool:
            await asyncio.get_running_loop().run_in_executor(None, elsewhere)
        with pytest.raises(PoolClosed):
            await order()


@pytest.mark.parametrize("verb", [*VERBS, "evict"])
async def test_a_store_that_is_away_bounds_each(verb: str) -> None:
    store = distant_store()
    policy = AgentPolicy(min_idle=0, acquire_timeout_s=20)
    async with house(policy=policy, pool={"store": store}, exact=False) as home:
        await home.pool.warm(home.agent, 1)
        rid = min(alive(home))
        store.away = True
        began = asyncio.get_running_loop().time()
        pool, agent = home.pool, home.agent
        match verb:
            case "evict":
                order = pool.evict(rid)
            case "warm":
                order = pool.warm(agent, 2, timeout=20)
            case _:
                order = VERBS[verb](pool, agent)
        with pytest.raises(StoreUnavailable):
            await order
        assert asyncio.get_running_loop().time() - began <= 21
        store.away = False
        await asyncio.sleep(5)
        if verb == "evict":
            await outcome(home.pool.evict(rid))
        else:
            await VERBS[verb](home.pool, home.agent)
        await home.pool.resume(home.agent)
        await (await home.lease()).release()


async def test_ready_ends_when_the_pool_closes() -> None:
    async with house(policy=WARM, create_latency_s=5.0) as home:
        waiting = asyncio.create_task(outcome(home.pool.ready()))
        warming = asyncio.create_task(outcome(home.pool.warm(home.agent, 3)))
        await asyncio.sleep(1)
        await home.pool.aclose()
        assert isinstance(await waiting, PoolClosed)
        assert isinstance(await warming, PoolClosed)


async def test_two_may_wait_until_it_is_ready() -> None:
    async with house(policy=WARM) as home:
        await asyncio.gather(home.pool.ready(10), home.pool.ready(10))
        assert home.stats.idle == 2
