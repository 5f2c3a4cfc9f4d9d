"""B10 and B11: permanent errors fail fast and everywhere, passing ones are retried with sense."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from session_pool import (
    AcquireTimeout,
    Agent,
    AgentPolicy,
    AgentUnavailable,
    AuthError,
    ClientCredentials,
)
from session_pool.emulator import AGENT_RID, Emulator
from session_pool.events import CreationFailed, CreationUnsettled
from tests.pool.house import OTHER_RID, House, house, outcome

pytestmark = pytest.mark.looptime

PERMANENT = (
    "ActionTypeNotFound",
    "AgentNotFound",
    "AgentVersionNotFound",
    "CreateSessionPermissionDenied",
    "FunctionLocatorNotFound",
    "InvalidAgentVersion",
    "NoPublishedAgentVersion",
    "ObjectTypeIdsNotFound",
    "ObjectTypeRidsNotFound",
    "OntologyEntitiesNotFound",
    "UnsupportedLanguageModelRid",
    "ApiFeaturePreviewUsageOnly",
    "403",
    "empty_404",
)
TWO_AGENTS = {"orders": Agent(AGENT_RID), "other": Agent(OTHER_RID)}


def now() -> float:
    """Virtual seconds."""
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize("fault", PERMANENT)
async def test_a_permanent_error_reaches_all_waiters_within_one_creation_latency(
    fault: str,
) -> None:
    async with house(create_latency_s=1.0) as home:
        home.emu.inject(f"create:*:{fault}:effect=no")
        results = await asyncio.gather(*(outcome(home.lease()) for _ in range(20)))
        assert now() <= 1.1
        for error in results:
            assert isinstance(error, AgentUnavailable), error
            assert error.retryable is False
            if fault[0].isupper():
                assert error.error_name == fault
                assert error.error_instance_id
        assert home.emu.requests("create") <= 20
        assert home.stats.created_failed >= 1


async def test_the_empty_404_names_preview() -> None:
    async with house(faults=["create:*:empty_404"]) as home:
        with pytest.raises(AgentUnavailable, match="preview"):
            await home.lease()


async def test_newcomers_fail_for_error_ttl_s_without_a_request_then_one_probe_goes() -> None:
    policy = AgentPolicy(min_idle=0, error_ttl_s=30)
    async with house(
        policy=policy, faults=["create:*:AgentNotFound"], create_latency_s=1.0
    ) as home:
        with pytest.raises(AgentUnavailable):
            await home.lease()
        tried = home.emu.requests("create")
        for _ in range(29):
            with pytest.raises(AgentUnavailable) as caught:
                await home.lease(timeout=0)
            assert caught.value.error_name == "AgentNotFound"
            await asyncio.sleep(0.9)
        assert home.emu.requests("create") == tried
        await asyncio.sleep(5)
        assert home.emu.requests("create") == tried
        results = await asyncio.gather(*(outcome(home.lease()) for _ in range(10)))
        assert {type(error) for error in results} == {AgentUnavailable}
        assert home.emu.requests("create") == tried + 1


async def test_a_probe_that_succeeds_ends_it_for_all() -> None:
    policy = AgentPolicy(min_idle=0, error_ttl_s=30)
    async with house(policy=policy, create_latency_s=1.0) as home:
        home.emu.forget_agent(home.emu.agent_rid)
        with pytest.raises(AgentUnavailable):
            await home.lease()
        home.emu.restore_agent(home.emu.agent_rid)
        await asyncio.sleep(31)
        began = now()
        leases = await asyncio.gather(*(home.lease() for _ in range(5)))
        assert now() - began < 2.5  # the probe, and then the four others together
        for lease in leases:
            await lease.release()


async def test_the_warm_target_is_met_again_by_itself() -> None:
    policy = AgentPolicy(min_idle=3, error_ttl_s=30)
    async with house(policy=policy) as home:
        await home.pool.ready(10)
        home.emu.deny("create")
        for _ in range(3):
            await (await home.lease()).release()
        await asyncio.sleep(300)
        assert home.stats.idle == 0
        home.emu.allow("create")
        await asyncio.sleep(31)
        assert home.stats.idle == 3


async def test_hits_and_waiters_for_an_existing_session_are_not_touched() -> None:
    policy = AgentPolicy(min_idle=0, max_leased=3)
    async with house(policy=policy) as home:
        await home.ask("a")
        held = await home.lease()
        talking = await home.lease(conversation="a")
        waiting = asyncio.create_task(home.lease(conversation="a"))
        home.emu.inject("create:*:NoPublishedAgentVersion")
        with pytest.raises(AgentUnavailable):
            await home.lease()
        await held.release(unused=True)
        again = await home.lease(timeout=0)  # a hit
        await talking.blocking_continue("goes on [[a]]")
        await talking.release()
        await (await waiting).release()
        await again.release(unused=True)


async def test_who_waits_for_room_is_not_touched_either() -> None:
    policy = AgentPolicy(min_idle=0, max_leased=1)
    async with house(policy=policy) as home:
        held = await home.lease()
        waiting = asyncio.create_task(home.lease())
        await asyncio.sleep(1)
        home.emu.inject("create:*:AgentNotFound")
        await asyncio.sleep(1)
        await held.release(unused=True)
        await (await waiting).release(unused=True)


async def test_other_keys_notice_nothing() -> None:
    async with house(agents=TWO_AGENTS) as home:
        home.emu.forget_agent(AGENT_RID)
        with pytest.raises(AgentUnavailable):
            await home.lease()
        async with home.pool.acquire("other", timeout=5) as lease:
            assert lease.rid


async def test_a_refused_token_fails_all_keys_of_the_principal() -> None:
    policy = AgentPolicy(min_idle=0, error_ttl_s=30)
    async with house(policy=policy, agents=TWO_AGENTS, create_latency_s=1.0) as home:
        home.emu.revoke_token(home.emu.token)
        with pytest.raises(AuthError) as caught:
            await home.lease()
        assert "401" in str(caught.value)
        asked = home.emu.requests("any")
        with pytest.raises(AuthError):
            await home.pool.acquire("other")
        assert home.emu.requests("any") == asked


async def test_one_renewal_cures_a_401_for_all_callers_together() -> None:
    async with Emulator() as remote:
        auth = ClientCredentials(remote.client_id, remote.client_secret)
    async with house(pool={"token": None, "auth": auth}) as home:
        await (await home.lease()).release()
        home.emu.expire_tokens()
        leases = await asyncio.gather(*(home.lease() for _ in range(10)))
        assert len({lease.rid for lease in leases}) == 10
        assert home.emu.requests("token") == 2
        for lease in leases:
            await lease.release()


# ------------------------------------------------------------------------------ passing ones


@pytest.mark.parametrize(
    ("fault", "unsettled"),
    [
        ("429", 0),
        ("503", 0),
        ("500", 3),
        ("RateLimitExceeded", 0),
        ("RetryAttemptsExceeded", 0),
        ("RetryDeadlineExceeded", 0),
        ("SessionNotFound", 0),
        ("lost_before", 3),
        ("lost_after", 3),
        ("cut_after", 3),
        ("malformed", 3),
        ("missing_field:field=rid", 3),
        ("hang_before", 3),
        ("hang_after", 3),
    ],
)
async def test_a_passing_error_is_retried_while_somebody_waits(fault: str, unsettled: int) -> None:
    kind, _, option = fault.partition(":")
    line = f"create:1:{kind}:times=3" + (f":{option}" if option else "")
    policy = AgentPolicy(min_idle=0, max_creating=1, create_timeout_s=5)
    async with house(policy=policy, faults=[line]) as home:
        async with home.pool.acquire(home.agent, timeout=120) as lease:
            lease.mark_unused()
        assert home.stats.created_failed == 3
        assert home.stats.unsettled == unsettled  # whatever may have been made is counted (B12)
        assert len(home.happened(CreationUnsettled)) == unsettled
        retries = [event.retry_in_s for event in home.happened(CreationFailed)]
        assert all(retry is not None for retry in retries)


async def test_nobody_waits_and_nothing_is_short_then_it_is_given_up() -> None:
    async with house(faults=["create:*:500"]) as home:
        with pytest.raises(AcquireTimeout):
            await home.lease(timeout=3)
        await asyncio.sleep(60)
        tried = home.emu.requests("create")
        await asyncio.sleep(3600)
        assert home.emu.requests("create") == tried
        assert home.stats.creating == 0


@pytest.mark.parametrize("as_date", [False, True])
async def test_retry_after_is_obeyed(as_date: bool) -> None:
    fault = f"create:1:429:retry_after=20:retry_after_date={'yes' if as_date else 'no'}"
    async with house(faults=[fault]) as home:
        await (await home.lease()).release()
        assert now() >= 19.0  # a `Date` has whole seconds
        assert home.emu.requests("create") == 2


async def test_qos_do_not_retry_is_obeyed() -> None:
    """The very same request would meet the same answer; it is not hammered."""
    async with house(faults=["create:*:429:retry_hint=do-not-retry"]) as home:
        await outcome(home.lease(timeout=25))
        assert home.emu.requests("create") <= 2


async def test_while_throttled_fewer_run_at_once() -> None:
    policy = AgentPolicy(min_idle=0, max_creating=20)
    async with house(policy=policy, create_latency_s=1.0) as home:
        home.emu.inject("create:1:429:times=20")
        await asyncio.gather(*(_take(home) for _ in range(20)))
        late = [call for call in home.emu.calls if call.op == "create" and call.status == 200]
        assert len(late) == 20
        busiest = max(
            sum(1 for other in late if other.at_s <= call.at_s < other.at_s + 1.0) for call in late
        )
        assert busiest < 20


async def _take(home: House) -> None:
    async with home.pool.acquire(home.agent, timeout=300) as lease:
        assert lease.rid


async def test_the_backoff_grows_and_is_jittered() -> None:
    policy = AgentPolicy(min_idle=0, max_creating=1, acquire_timeout_s=None)
    async with house(policy=policy, faults=["create:1:500:times=12"]) as home:
        await (await home.lease()).release()
        calls = [call.at_s for call in home.emu.calls if call.op == "create"]
        gaps = [later - earlier for earlier, later in pairwise(calls)]
        assert max(gaps) <= 30.5
        assert sum(gaps[6:]) > sum(gaps[:6])
        assert len({round(gap, 3) for gap in gaps}) > 6


async def test_born_expired_is_told_and_never_loops() -> None:
    policy = AgentPolicy(min_idle=2, error_ttl_s=30)
    async with house(policy=policy, faults=["create:*:expired_at_birth"]) as home:
        with pytest.raises(AgentUnavailable, match="born expired"):
            await home.lease(timeout=20)
        await asyncio.sleep(600)
        assert home.emu.requests("create") <= 30
