"""B10: whom the refusal of a version does not touch, here and in other processes."""

from __future__ import annotations

import asyncio

import pytest

from session_pool import AcquireTimeout, Agent, AgentPolicy, AgentUnavailable
from session_pool.claims import Claims
from session_pool.emulator import AGENT_RID
from session_pool.model import Counts
from session_pool.space import NotDone, Put
from tests.pool.house import (
    COLD,
    another,
    conserve,
    distant_store,
    house,
    kill,
    outcome,
)
from tests.pool.refused_versions import BRIEF, TTL_S, TWO_VERSIONS, give_and_take, now, refused
from tests.stores.awaiting import AwaitingStore

pytestmark = pytest.mark.looptime


# ------------------------------------------------------------------ who is not touched


async def test_hits_of_that_version_are_not_touched() -> None:
    policy = AgentPolicy(min_idle=0, error_ttl_s=TTL_S, max_leased=3)
    async with house(policy=policy) as home:
        held = await home.lease(agent_version="1.0")
        talking = await home.lease(conversation="a", agent_version="1.0")
        waiting = asyncio.create_task(home.lease(conversation="a", agent_version="1.0"))
        home.emu.inject("create:1:FunctionLocatorNotFound")
        await refused(home, "1.0")
        await held.release(unused=True)
        again = await home.lease(agent_version="1.0", timeout=0)
        await talking.blocking_continue("goes on [[a]]")
        await talking.release()
        await (await waiting).release()
        await again.release(unused=True)


async def test_the_short_way_is_not_left_for_it() -> None:
    async with house(policy=BRIEF) as home:
        await refused(home)
        desk = home.pool._desk(home.agent)
        assert desk.noted.note.refused
        assert desk.lends is not None


async def test_a_place_that_a_probe_takes_keeps_nobody_else_waiting_for_long() -> None:
    policy = AgentPolicy(min_idle=0, error_ttl_s=TTL_S, max_creating=2, create_timeout_s=60)
    async with house(policy=policy, create_latency_s=1.0) as home:
        await refused(home)
        await asyncio.sleep(TTL_S)
        home.emu.inject("create:1:hang_before")
        wrong = [
            asyncio.create_task(outcome(home.lease(agent_version="9.9", timeout=20)))
            for _ in range(5)
        ]
        await asyncio.sleep(1)
        for _ in range(3):
            began = now()
            await give_and_take(home)
            assert now() - began < 1.1
        assert {type(error) for error in await asyncio.gather(*wrong)} == {AcquireTimeout}


async def test_who_waits_in_vain_for_something_else_is_not_told_of_it() -> None:
    policy = AgentPolicy(min_idle=0, max_leased=1)
    async with house(policy=policy, emulated=TWO_VERSIONS) as home:
        home.emu.inject("create:2:delay_before:delay=3")
        await refused(home)
        late = await outcome(home.lease(timeout=1))
        assert isinstance(late, AcquireTimeout)
        assert late.__cause__ is None
        assert "9.9" not in str(late)


# ------------------------------------------------------------------ in every process


async def test_it_is_known_in_every_process_and_tried_by_one() -> None:
    store = distant_store()
    second = AwaitingStore(store._clock, shared=store)
    async with (
        house(policy=BRIEF, pool={"store": store}, create_latency_s=1.0) as home,
        another(home, second, policy=BRIEF) as pool,
    ):
        away = [
            asyncio.create_task(outcome(pool.acquire(home.agent, agent_version="9.9").__aenter__()))
            for _ in range(3)
        ]
        error = await refused(home)
        for other in await asyncio.gather(*away):
            assert isinstance(other, AgentUnavailable)
        assert now() < 1.5
        tried = home.emu.requests("create")
        with pytest.raises(AgentUnavailable) as caught:
            await pool.acquire(home.agent, agent_version="9.9")
        assert caught.value.error_name == error.error_name
        assert home.emu.requests("create") == tried
        async with pool.acquire(home.agent, timeout=5) as lease:
            assert lease.agent_version == "1.0"
        tried = home.emu.requests("create")
        await asyncio.sleep(TTL_S)
        both = (home.pool, pool)
        results = await asyncio.gather(
            *(outcome(both[n % 2].acquire(home.agent, agent_version="9.9").__aenter__())
              for n in range(10))
        )  # fmt: skip
        assert {type(error) for error in results} == {AgentUnavailable}
        assert home.emu.requests("create") == tried + 1
        home.emu.publish(AGENT_RID)
        await asyncio.sleep(TTL_S)
        conserve(pool.stats())


async def test_one_policy_that_is_wrong_does_not_fail_the_others() -> None:
    store = distant_store()
    second = AwaitingStore(store._clock, shared=store)
    wrong = AgentPolicy(min_idle=1, error_ttl_s=TTL_S, agent_version="9.9")
    async with (
        house(policy=AgentPolicy(min_idle=1), pool={"store": store}) as home,
        another(home, second, policy=wrong) as pool,
    ):
        assert isinstance(await outcome(pool.acquire(home.agent).__aenter__()), AgentUnavailable)
        leases = [await home.lease(timeout=5) for _ in range(3)]
        for lease in leases:
            await lease.release()


async def test_a_probe_that_died_with_its_process_is_made_up_for() -> None:
    store, policy = distant_store(), BRIEF.model_copy(update={"lease_ttl_s": 10.0})
    second = AwaitingStore(store._clock, shared=store)
    async with (
        house(policy=policy, pool={"store": store}, create_latency_s=1.0, exact=False) as home,
        another(home, second, policy=policy) as pool,
    ):
        await refused(home, "1.1")
        home.emu.save(AGENT_RID)
        await asyncio.sleep(TTL_S)
        asking = asyncio.create_task(
            outcome(pool.acquire(home.agent, agent_version="1.1").__aenter__())
        )
        await asyncio.sleep(0.5)
        await kill(pool, second)
        await asking
        lease = await home.lease(agent_version="1.1", timeout=600)
        await lease.release()


async def test_a_probe_under_way_is_left_to_whoever_is_at_it() -> None:
    async with house(policy=BRIEF, pool={"store": distant_store()}) as home:
        await refused(home)
        await asyncio.sleep(TTL_S)
        works, desk = home.pool._works, home.pool._desk(home.agent)
        claims, counts = Claims(works), Counts({}, 2, 2, {})
        desk.waiting = {"r1": ("9.9", "new"), "r2": ("9.9", "new")}
        put = claims.asked(desk, counts, 0, 5)
        assert put is not None
        assert put.id == desk.noted.note.refused[0].probe != put.op
        desk.creating["here"] = "9.9"
        assert claims.asked(desk, counts, 0, 5) is None
        del desk.creating["here"]
        claims.denied(desk, put, NotDone("guard", counts))  # that says nothing of others
        assert claims.asked(desk, counts, 0, 5) is not None
        claims.denied(desk, put, NotDone("changed", counts))
        assert claims.asked(desk, counts, 0, 5) is None
        await asyncio.sleep(5)
        assert claims.asked(desk, counts, 0, 5) is not None
        desk.waiting = {}


async def test_what_rests_until_its_next_attempt_is_not_sent_once_it_is_refused() -> None:
    policy = AgentPolicy(min_idle=0, max_creating=2)
    async with house(policy=policy) as home:
        home.emu.inject("create:1:500")
        both = (home.lease(agent_version="9.9"), home.lease(agent_version="9.9"))
        errors = await asyncio.gather(*both, return_exceptions=True)
        assert {type(error) for error in errors} == {AgentUnavailable}
        await asyncio.sleep(60)
        assert home.emu.requests("create") == 2


async def test_a_probe_that_is_taken_back_is_not_another_processs() -> None:
    async with house(policy=BRIEF, pool={"store": distant_store()}) as home:
        works, desk = home.pool._works, home.pool._desk(home.agent)
        mine, others = (
            Put(desk.key, "probe", works.next_id(), "creating", deadline_in_s=60.0)
            for _ in range(2)
        )
        await works.put(others)
        claims = Claims(works)
        await claims.undo(desk, mine, works.clock())
        (entry,) = await works.store.find(desk.key, states=("creating",))
        assert entry.op == others.op
        # Nor is what has come in its place, once its own time is up.
        late = claims.begin(desk, mine, works.clock())
        late.ends = works.clock()
        await claims.drop(late)
        assert await claims.end(late, mine._replace(state="idle")) == "absent"
        (entry,) = await works.store.find(desk.key, states=("creating",))
        assert entry.op == others.op
        await claims.undo(desk, others, works.clock())
        assert await works.store.find(desk.key, states=("creating",)) == []


async def test_a_session_of_that_version_ends_it_whoever_made_it() -> None:
    agents = {"orders": Agent(AGENT_RID)}
    async with house(policy=BRIEF, agents=agents) as home:
        await refused(home, "2.0")
        home.emu.publish(AGENT_RID)
        await give_and_take(home)  # the latest published is 2.0 by now
        await give_and_take(home, "2.0")


async def test_a_cold_agent_is_as_ever() -> None:
    async with house(policy=COLD) as home:
        await give_and_take(home, "1.0")
        assert home.pool._desk(home.agent).noted.note.refused == ()
