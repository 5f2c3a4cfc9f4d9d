"""B13 through whole pools: several on one store, and a stack that enforces its limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from session_pool import Agent, AgentPolicy, RequestLimits, SessionPool
from session_pool.emulator import Emulator
from session_pool.stores.base import Store
from tests.pool.house import LocalClock, audit_is_clean
from tests.stores.awaiting import AwaitingStore, as_store


@asynccontextmanager
async def fleet(
    stores: Sequence[str | Store], *, at_once: int, in_minute: int, takes_s: float
) -> AsyncIterator[tuple[Emulator, list[SessionPool]]]:
    """Pools of one principal, each with its own way to the store that they share."""
    async with (
        Emulator(
            create_latency_s=takes_s,
            exchange_latency_s=takes_s,
            concurrent_requests=at_once,
            requests_per_minute=in_minute,
        ) as emu,
        AsyncExitStack() as stack,
    ):
        pools = [
            SessionPool(
                url=emu.url,
                token=emu.token,
                policy=AgentPolicy(min_idle=1, acquire_timeout_s=None),
                agents={"orders": Agent(emu.agent_rid)},
                store=store,
                limits=RequestLimits(concurrent_requests=at_once, requests_per_minute=in_minute),
            )
            for store in stores
        ]
        for pool in pools:
            await stack.enter_async_context(pool)
        yield emu, pools
    audit_is_clean(emu)


async def talk(pools: list[SessionPool], turns: int) -> None:
    """So many turns of each pool, each of a conversation of its own, all at once."""
    await asyncio.gather(
        *(
            pool.conversation("orders", f"p{number}c{turn}").ask(f"hello [[p{number}c{turn}]]")
            for number, pool in enumerate(pools)
            for turn in range(turns)
        )
    )


@pytest.mark.looptime
async def test_nodejs_spanner_1432_three_pools_keep_under_one_limit() -> None:
    first = AwaitingStore(LocalClock(), latency_s=0.002)
    stores = [first, *(AwaitingStore(LocalClock(), shared=first) for _ in range(2))]
    ways = [as_store(store) for store in stores]
    async with fleet(ways, at_once=5, in_minute=60, takes_s=0.5) as (emu, pools):
        await talk(pools, 20)
        took_s = asyncio.get_running_loop().time()
        assert emu.audit().throttled == 0
        assert took_s < 10 * 60
        for store in stores:
            assert store.calls["share"] <= 2 * 2 * took_s + 4


async def test_nodejs_spanner_1432_pools_share_one_limit_through_a_file(tmp_path: Path) -> None:
    stores = [f"sqlite:///{tmp_path}/pool.db"] * 3
    async with fleet(stores, at_once=5, in_minute=1000, takes_s=0.05) as (emu, pools):
        async with asyncio.timeout(45):
            await talk(pools, 6)
        assert emu.audit().throttled == 0
