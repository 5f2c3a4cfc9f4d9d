"""B10 of agent versions: what is refused to one asked for by number concerns nobody else."""

from __future__ import annotations

import asyncio

import pytest

from session_pool import AgentPolicy, AgentUnavailable
from session_pool.emulator import AGENT_RID
from tests.pool.house import (
    house,
    outcome,
    spin,
)
from tests.pool.refused_versions import (
    BRIEF,
    STORES,
    TTL_S,
    TWO_VERSIONS,
    give_and_take,
    now,
    refused,
)

pytestmark = pytest.mark.looptime


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
