"""B12, B27: a creation is on record while its creator lives, and not for ever when it does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from session_pool import Agent, AgentPolicy, SessionPool
from session_pool.events import CreationUnsettled
from session_pool.model import Counts, PoolKey
from tests.pool.house import House, distant_store, house, outcome, spin
from tests.stores.awaiting import AwaitingStore

pytestmark = pytest.mark.looptime

TTL_S = 5.0
BRIEF = AgentPolicy(min_idle=0, lease_ttl_s=TTL_S, create_timeout_s=60)


async def counts_of(home: House, store: AwaitingStore) -> Counts:
    """How the agent stands, as the store has it."""
    return (await store.inner.read(PoolKey(home.emu.host, "default", home.emu.agent_rid)))[0]


async def always_creating(home: House, store: AwaitingStore, seconds: float) -> None:
    for _ in range(int(seconds)):
        await asyncio.sleep(1.0)
        counts = await counts_of(home, store)
        assert (counts.of("creating"), counts.of("unsettled")) == (1, 0)


async def test_b12_a_claim_is_kept_while_its_request_is_under_way() -> None:
    store = distant_store()
    async with house(policy=BRIEF, pool={"store": store}, create_latency_s=40.0) as home:
        waiting = asyncio.create_task(home.lease(timeout=60))
        await always_creating(home, store, 39)
        await (await waiting).release()
        assert home.emu.requests("create") == 1


async def test_b12_a_claim_is_kept_while_its_creation_waits_its_turn() -> None:
    store = distant_store()
    faults = ["create:1:429:retry_after=40"]
    async with house(policy=BRIEF, pool={"store": store}, faults=faults) as home:
        waiting = asyncio.create_task(home.lease(timeout=120))
        await always_creating(home, store, 39)
        await (await waiting).release()


async def test_b12_a_claim_costs_a_quick_creation_nothing() -> None:
    store = distant_store()
    async with house(policy=BRIEF, pool={"store": store}, create_latency_s=0.8) as home:
        first = await home.lease()
        asked = store.calls["put"]
        second = await home.lease()
        assert store.calls["put"] - asked == 2  # claimed, and there
        await first.release()
        await second.release()


@pytest.mark.parametrize("when", ["before", "after"])
async def test_b12_a_prolongation_whose_answer_is_lost_loses_nothing(when: str) -> None:
    store = distant_store()
    async with house(policy=BRIEF, pool={"store": store}, create_latency_s=20.0) as home:
        waiting = asyncio.create_task(home.lease(timeout=60))
        await asyncio.sleep(1.0)
        store.fail("put", when)  # type: ignore[arg-type]
        await always_creating(home, store, 18)
        assert store.mishaps_left == 0
        await (await waiting).release()
        assert (home.stats.created, home.stats.unsettled) == (1, 0)


@asynccontextmanager
async def another_process(home: House, store: AwaitingStore) -> AsyncIterator[SessionPool]:
    agents = {home.agent: Agent(home.emu.agent_rid)}
    async with SessionPool(
        url=home.emu.url, token=home.emu.token, policy=BRIEF, agents=agents, store=store
    ) as other:
        yield other
    home.pool.stats()
    await asyncio.sleep(6)  # until the first one knows what the second has done last


async def test_b12_what_was_given_up_for_lost_is_not_sent() -> None:
    """Its creator was silent in line, and others know nothing of what it may still send."""
    store = distant_store()
    theirs = AwaitingStore(store._clock, shared=store)
    faults = ["create:1:429:retry_after=30"]
    async with (
        house(policy=BRIEF, pool={"store": store}, faults=faults) as home,
        another_process(home, theirs) as other,
    ):
        waiting = asyncio.create_task(outcome(other.acquire(home.agent, timeout=3)))
        await asyncio.sleep(4.0)
        theirs.away = True
        await home.until(lambda: home.pool.stats().unsettled == 1, within_s=30)
        await waiting
        await asyncio.sleep(30.0)  # its turn would have come
        theirs.away = False
        await asyncio.sleep(5.0)
        assert home.emu.requests("create") == 1
        counts = await counts_of(home, store)
        assert counts.of("creating", "unsettled") == 0  # nothing is left to be looked for


@pytest.mark.parametrize("away", [False, True])
async def test_b12_a_claim_whose_answer_is_lost_as_the_pool_closes_is_not_for_ever(
    away: bool,
) -> None:
    store = distant_store()
    theirs = AwaitingStore(store._clock, shared=store)
    async with (
        house(policy=BRIEF, pool={"store": store}) as home,
        another_process(home, theirs) as other,
    ):
        theirs.fail("put", "after")
        waiting = asyncio.create_task(outcome(other.acquire(home.agent, timeout=60)))
        while not (await counts_of(home, store)).of("creating"):
            await spin(1)
        theirs.away = away
        await other.aclose(0)
        await waiting
        counts = await counts_of(home, store)
        assert counts.of("creating") == away
        assert home.emu.requests("create") == 0
        await asyncio.sleep(2 * TTL_S)  # what could not be dropped is taken over
        assert (await counts_of(home, store)).of("creating") == 0
        await asyncio.sleep(250.0)
        assert (await counts_of(home, store)).of("unsettled") == 0


async def test_b12_a_creation_that_the_close_cuts_off_is_left_to_others() -> None:
    store = distant_store()
    async with house(policy=BRIEF, pool={"store": store}, create_latency_s=30.0) as home:
        waiting = asyncio.create_task(outcome(home.lease(timeout=60)))
        await asyncio.sleep(10.0)
        await home.pool.aclose(1)
        await waiting
        (entry,) = await store.inner.find(PoolKey(home.emu.host, "default", home.emu.agent_rid))
        assert entry.state == "unsettled"
        sought = entry.facts.sought
        assert sought is not None
        assert 10 <= sought.since_s <= 12
        assert len(home.happened(CreationUnsettled)) == 1
