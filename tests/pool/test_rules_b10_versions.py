"""B10 of agent versions: what is refused to one asked for by number concerns nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from session_pool import AcquireTimeout, Agent, AgentPolicy, AgentUnavailable
from session_pool.claims import Claims
from session_pool.emulator import AGENT_RID, AgentSetup
from session_pool.model import Counts
from session_pool.space import NotDone, Put
from session_pool.stores.base import Store
from session_pool.stores.memory import MemoryStore
from tests.pool.house import (
    COLD,
    House,
    another,
    conserve,
    distant_store,
    house,
    kill,
    outcome,
    spin,
)
from tests.stores.awaiting import AwaitingStore

pytestmark = pytest.mark.looptime

TTL_S = 30.0
BRIEF = AgentPolicy(min_idle=0, error_ttl_s=TTL_S)
TWO_VERSIONS = {AGENT_RID: AgentSetup(versions=("1.0", "2.0"))}


def near_store() -> MemoryStore:
    """A store in this process."""
    return MemoryStore(clock=asyncio.get_running_loop().time)


STORES: dict[str, Callable[[], Store]] = {"memory": near_store, "awaited": distant_store}


def now() -> float:
    """Virtual seconds."""
    return asyncio.get_running_loop().time()


async def refused(home: House, version: str | None = "9.9") -> AgentUnavailable:
    """Ask for that version and be refused; the error."""
    with pytest.raises(AgentUnavailable) as caught:
        await home.lease(agent_version=version)
    return caught.value


async def give_and_take(home: House, version: str | None = None) -> None:
    """A new session can be had at once."""
    lease = await home.lease(agent_version=version, timeout=5)
    await lease.release()


# ------------------------------------------------------------------ whom it concerns


@pytest.mark.parametrize("kind", STORES)
async def test_an_unknown_version_concerns_those_alone_who_ask_for_it(kind: str) -> None:
    pool = {"store": STORES[kind]()}
    async with house(policy=BRIEF, pool=pool, emulated=TWO_VERSIONS) as home:
        error = await refused(home)
        assert (error.error_name, error.retryable) == ("AgentVersionNotFound", False)
        await give_and_take(home)
        await give_and_take(home, "1.0")
        asked = home.emu.requests("create")
        again = await refused(home)
        assert (again.error_name, again.error_instance_id) == (
            error.error_name, error.error_instance_id,
        )  # fmt: skip
        with pytest.raises(AgentUnavailable):
            await home.lease(agent_version="9.9", timeout=0)
        assert home.emu.requests("create") == asked


@pytest.mark.parametrize("kind", STORES)
async def test_all_who_wait_for_it_hear_of_it_and_who_waits_for_another_goes_on(kind: str) -> None:
    policy = AgentPolicy(min_idle=0, max_creating=20)
    pool = {"store": STORES[kind]()}
    async with house(policy=policy, pool=pool, create_latency_s=1.0) as home:
        wrong = [asyncio.create_task(home.lease(agent_version="9.9")) for _ in range(5)]
        right = [asyncio.create_task(home.lease(agent_version=v)) for v in ("1.0", None, "1.0")]
        errors = await asyncio.gather(*wrong, return_exceptions=True)
        assert {type(error) for error in errors} == {AgentUnavailable}
        assert now() <= 1.2
        for lease in await asyncio.gather(*right):
            await lease.release()
        assert now() <= 1.2  # nobody's creation was given up for it


@pytest.mark.parametrize("kind", STORES)
async def test_what_is_to_lie_ready_is_made_all_the_same(kind: str) -> None:
    policy = AgentPolicy(min_idle=2, error_ttl_s=TTL_S)
    async with house(policy=policy, pool={"store": STORES[kind]()}) as home:
        home.emu.inject("create:*:503:times=2")
        await refused(home)
        await home.pool.ready(20)
        for _ in range(50):
            await outcome(home.lease(agent_version="9.9", timeout=0))
            await spin(20)
        assert home.stats.idle == 2
        assert home.stats.created == 2  # and nothing for those who can have nothing


@pytest.mark.parametrize("kind", STORES)
async def test_nothing_is_made_for_those_who_cannot_have_it(kind: str) -> None:
    async with house(policy=BRIEF, pool={"store": STORES[kind]()}, create_latency_s=1.0) as home:
        await refused(home)
        await asyncio.sleep(TTL_S)
        results = await asyncio.gather(
            *(outcome(home.lease(agent_version="9.9")) for _ in range(10))
        )
        assert {type(error) for error in results} == {AgentUnavailable}
        assert home.stats.created == 0


CONCERN_THE_VERSION = (
    "AgentVersionNotFound",
    "InvalidAgentVersion",
    "FunctionLocatorNotFound",
    "ObjectTypeIdsNotFound",
    "UnsupportedLanguageModelRid",
    "ActionTypeNotFound",
    "expired_at_birth",
)
CONCERN_THE_AGENT = (
    "AgentNotFound",
    "CreateSessionPermissionDenied",
    "NoPublishedAgentVersion",
    "ApiFeaturePreviewUsageOnly",
    "403",
    "empty_404",
)


@pytest.mark.parametrize("fault", CONCERN_THE_VERSION)
async def test_what_a_version_by_number_meets_is_its_own_matter(fault: str) -> None:
    async with house(policy=BRIEF, emulated=TWO_VERSIONS) as home:
        home.emu.inject(f"create:1:{fault}")
        await refused(home, "1.0")
        await give_and_take(home)
        await give_and_take(home, "2.0")
        await refused(home, "1.0")


@pytest.mark.parametrize("fault", CONCERN_THE_AGENT)
async def test_what_an_error_says_of_the_agent_concerns_all(fault: str) -> None:
    async with house(policy=BRIEF) as home:
        home.emu.inject(f"create:1:{fault}")
        await refused(home, "1.0")
        asked = home.emu.requests("create")
        await refused(home, None)
        assert home.emu.requests("create") == asked


async def test_the_latest_published_failing_concerns_all() -> None:
    async with house(policy=BRIEF) as home:
        home.emu.inject("create:1:FunctionLocatorNotFound")
        await refused(home, None)
        asked = home.emu.requests("create")
        await refused(home, "1.0")
        assert home.emu.requests("create") == asked


async def test_who_asks_for_the_policys_own_version_gets_what_that_meets() -> None:
    policy = AgentPolicy(min_idle=1, error_ttl_s=TTL_S, agent_version="9.9")
    async with house(policy=policy) as home:
        await refused(home, None)
        await give_and_take(home, "1.0")
        asked = home.emu.requests("create")
        await refused(home, None)
        with pytest.raises(AgentUnavailable):
            await home.pool.ready(5)
        assert home.pool._desk(home.agent).lacking(1) == 0  # no budget is wished for it
        assert home.emu.requests("create") == asked
        await asyncio.sleep(10 * TTL_S)
        assert home.emu.requests("create") <= asked + 11  # a probe now and then, for the target


async def test_a_policys_own_version_is_ready_by_itself_once_it_is_there() -> None:
    policy = AgentPolicy(min_idle=1, error_ttl_s=TTL_S, agent_version="1.1")
    async with house(policy=policy) as home:
        await refused(home, None)
        home.emu.save(AGENT_RID)
        await asyncio.sleep(TTL_S + 1)
        assert home.stats.idle == 1
        await give_and_take(home)


# ------------------------------------------------------------------ for how long


@pytest.mark.parametrize("kind", STORES)
async def test_one_probe_for_that_version_and_the_others_go_on(kind: str) -> None:
    pool = {"store": STORES[kind]()}
    async with house(policy=BRIEF, pool=pool, create_latency_s=2.0) as home:
        await refused(home)
        await asyncio.sleep(TTL_S)
        tried = home.emu.requests("create")
        wrong = [asyncio.create_task(outcome(home.lease(agent_version="9.9"))) for _ in range(10)]
        await asyncio.sleep(0.5)
        assert home.emu.requests("create") == tried + 1
        began = now()
        right = await asyncio.gather(*(home.lease() for _ in range(3)))
        assert now() - began < 2.2  # at once, beside the probe
        errors = await asyncio.gather(*wrong)
        assert {type(error) for error in errors} == {AgentUnavailable}
        assert home.emu.requests("create") == tried + 4
        for lease in right:
            await lease.release()


@pytest.mark.parametrize("kind", STORES)
async def test_a_probe_that_succeeds_ends_it(kind: str) -> None:
    pool = {"store": STORES[kind]()}
    async with house(policy=BRIEF, pool=pool, create_latency_s=1.0) as home:
        await refused(home, "1.1")
        home.emu.save(AGENT_RID)
        await asyncio.sleep(TTL_S + 1)
        began = now()
        leases = await asyncio.gather(*(home.lease(agent_version="1.1") for _ in range(5)))
        assert now() - began < 2.5  # the probe, and then the four others together
        assert {lease.agent_version for lease in leases} == {"1.1"}
        for lease in leases:
            await lease.release()


async def test_other_failures_do_not_prolong_it() -> None:
    async with house(policy=BRIEF) as home:
        await refused(home, "1.1")
        home.emu.save(AGENT_RID)
        for other in range(9, 14):
            await asyncio.sleep(5)
            await refused(home, f"{other}.0")
        await asyncio.sleep(6)
        await give_and_take(home, "1.1")


async def test_however_many_are_asked_for_the_note_stays_small() -> None:
    async with house(policy=BRIEF) as home:
        for number in range(9, 60):
            await refused(home, f"{number}.0")
        _, noted = await home.pool._works.store.read(home.pool._desk(home.agent).key)
        assert 0 < len(noted.note.refused) <= 8
        asked = home.emu.requests("create")
        await refused(home, "59.0")
        assert home.emu.requests("create") == asked


async def test_the_agents_own_failure_comes_first() -> None:
    async with house(policy=BRIEF) as home:
        await refused(home)
        home.emu.forget_agent(AGENT_RID)
        await refused(home, "1.0")
        assert (await refused(home)).error_name == "AgentNotFound"
        home.emu.restore_agent(AGENT_RID)
        await asyncio.sleep(TTL_S)
        await give_and_take(home)
        assert (await refused(home)).error_name == "AgentVersionNotFound"


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
