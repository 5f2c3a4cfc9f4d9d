"""B1 where the remote is at fault: two creations are answered with one and the same session."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from session_pool import AcquireTimeout, AgentPolicy, RemoteMalformed, SessionPool
from session_pool.events import CreationFailed, CreationUnsettled
from session_pool.foundry import FoundryClient, StaticToken
from session_pool.model import Sighting
from tests.pool.house import COLD, House, another, distant_store, house, outcome
from tests.stores.awaiting import AwaitingStore

pytestmark = pytest.mark.looptime


class Repeating(FoundryClient):
    """Its creations are answered as one before was, as often as a test says."""

    repeats = 0
    rid = ""

    async def create_session(self, *args: Any, **more: Any) -> Sighting:
        """See `Api.create_session`."""
        seen = await super().create_session(*args, **more)
        if self.repeats > 0 and self.rid:
            self.repeats -= 1
            return seen._replace(session=replace(seen.session, rid=self.rid))
        self.rid = seen.session.rid
        return seen


@asynccontextmanager
async def repeating(pool: SessionPool, home: House) -> AsyncIterator[Repeating]:
    """Its api repeats answers."""
    api = Repeating(home.emu.url, StaticToken(home.emu.token))
    await api.open()
    pool._works.paced.api = pool._works.api = api
    try:
        yield api
    finally:
        pool._works.paced.api = pool._works.api = pool._api
        await api.aclose()


async def test_a_session_that_was_answered_before_is_not_leased_twice() -> None:
    async with house(exact=False) as home, repeating(home.pool, home) as api:
        first = await home.lease()
        api.repeats = 2
        second = await home.lease(timeout=60)
        assert second.rid != first.rid
        assert home.emu.requests("create") == 4
        told = [event.error for event in home.happened(CreationFailed)]
        assert len(told) == 2
        assert all("rid" in error and first.rid not in error for error in told)
        assert all(event.retry_in_s is not None for event in home.happened(CreationFailed))
        assert len(home.happened(CreationUnsettled)) == 2  # what was made instead is looked for
        await first.release()
        await second.release()


async def test_two_answers_at_once_are_told_apart() -> None:
    policy = AgentPolicy(min_idle=0, max_creating=5)
    async with (
        house(policy=policy, exact=False, create_latency_s=1.0) as home,
        repeating(home.pool, home) as api,
    ):
        api.repeats = 1
        leases = await asyncio.gather(*(home.lease(timeout=60) for _ in range(3)))
        assert len({lease.rid for lease in leases}) == 3
        for lease in leases:
            await lease.release()


async def test_it_is_told_what_was_wrong_to_who_waits_in_vain() -> None:
    async with house(exact=False) as home, repeating(home.pool, home) as api:
        first = await home.lease()
        api.repeats = 10**6
        late = await outcome(home.lease(timeout=5))
        assert isinstance(late, AcquireTimeout)
        assert isinstance(late.__cause__, RemoteMalformed)
        assert "there before" in str(late)
        assert home.stats.leased == 1
        await first.release()


async def test_what_another_process_had_in_answer_is_known_by_the_store() -> None:
    store = distant_store()
    second = AwaitingStore(store._clock, shared=store)
    async with (
        house(policy=COLD, pool={"store": store}, exact=False) as home,
        another(home, second) as pool,
        repeating(pool, home) as api,
    ):
        first = await home.lease()
        api.rid, api.repeats = first.rid, 1
        finds = second.calls["find"]
        other = await pool.acquire(home.agent, timeout=60)
        assert other.rid != first.rid
        assert second.calls["find"] <= finds + 2  # one for each answer
        await first.release()
        await other.release()


async def test_a_store_that_cannot_be_asked_loses_no_session_for_it() -> None:
    store = distant_store()
    async with house(policy=COLD, pool={"store": store}) as home:
        store.latency_s = 0.05
        store.fail("find", "before", times=200)
        await (await home.lease(timeout=60)).release()
        assert home.stats.created == home.emu.requests("create") == 1
        assert store.mishaps_left > 0  # it was never told
        store.latency_s = 0.0
        store.forgive()
