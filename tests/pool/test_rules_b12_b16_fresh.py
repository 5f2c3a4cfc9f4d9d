"""B12 to B16, B20 and B24: what is accounted for, paced, kept fresh, learnt and counted."""

from __future__ import annotations

import asyncio

import pytest

from session_pool import AgentPolicy, AgentUnavailable, RequestLimits, SessionGone
from session_pool.events import (
    CreationUnsettled,
    SessionDeleted,
    SessionDied,
    SessionRetired,
    ThresholdsScaled,
)
from session_pool.telemetry import PoolStats
from tests.pool.house import LEFT, House, conserve, house, spin

pytestmark = pytest.mark.looptime

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S


def now() -> float:
    """Virtual seconds."""
    return asyncio.get_running_loop().time()


# ------------------------------------------------------------------------------ B12


async def test_b12_a_creation_whose_answer_was_lost_is_counted_apart() -> None:
    async with house(faults=["create:1:lost_after", "create:2:hang_after"]) as home:
        await (await home.lease(timeout=60)).release()
        stats = home.stats
        assert (stats.created, stats.unsettled, stats.adopted) == (1, 2, 0)
        assert len(home.happened(CreationUnsettled)) == 2
        assert len(home.emu.sessions) == 3  # two of them nobody may take or delete by inference
        await asyncio.sleep(DAY_S - 100)
        assert home.emu.requests("delete") == 0


async def test_b12_what_is_known_not_to_have_been_sent_is_not_unsettled() -> None:
    async with house() as home:
        async with home.emu.outage():
            waiting = asyncio.create_task(home.lease(timeout=60))
            await asyncio.sleep(10)
        await (await waiting).release()
        assert home.stats.unsettled == 0


# ------------------------------------------------------------------------------ B13


async def test_b13_never_more_at_once_than_the_limit() -> None:
    limits = RequestLimits(concurrent_requests=5)
    policy = AgentPolicy(min_idle=4, acquire_timeout_s=None)
    async with house(
        policy=policy,
        pool={"limits": limits},
        create_latency_s=0.5,
        exchange_latency_s=0.5,
        concurrent_requests=5,
    ) as home:
        await asyncio.gather(*(home.ask(f"c{n}") for n in range(60)))
        assert home.emu.audit().throttled == 0


async def test_b13_never_more_in_a_minute_than_the_limit() -> None:
    limits = RequestLimits(requests_per_minute=60)
    policy = AgentPolicy(min_idle=0, acquire_timeout_s=None)
    async with house(policy=policy, pool={"limits": limits}, requests_per_minute=60) as home:
        await asyncio.gather(*(home.ask(f"c{n}") for n in range(100)))
        assert home.emu.audit().throttled == 0
        assert now() > 100


async def test_b13_exchanges_go_before_creations_and_those_before_upkeep() -> None:
    limits = RequestLimits(concurrent_requests=4)
    policy = AgentPolicy(min_idle=40, max_creating=40, acquire_timeout_s=None)
    async with house(policy=policy, pool={"limits": limits}, create_latency_s=2.0) as home:
        began = now()
        lease = await home.lease()  # forty warm ones are in front of it in time, not in order
        assert now() - began <= 4.1
        began = now()
        await lease.blocking_continue("not behind a line of creations")
        assert now() - began < 0.1
        await lease.release()


async def test_b13_many_are_verified_by_list_and_few_by_get() -> None:
    policy = AgentPolicy(min_idle=20, verify_after_s=600)
    async with house(policy=policy) as home:
        await home.pool.ready(30)
        await asyncio.sleep(700)
        assert (home.emu.requests("list"), home.emu.requests("get")) == (1, 0)


async def test_b13_one_among_many_parked_is_verified_by_get() -> None:
    policy = AgentPolicy(min_idle=1, verify_after_s=600)
    async with house(policy=policy) as home:
        await home.pool.ready(30)
        for n in range(120):
            await home.ask(f"c{n}")
        home.emu.calls.clear()
        await asyncio.sleep(700)
        assert home.emu.requests("list") == 0
        assert home.emu.requests("get") >= 1


async def test_b13_what_was_deleted_elsewhere_is_noticed() -> None:
    policy = AgentPolicy(min_idle=3, verify_after_s=1800)
    async with house(policy=policy) as home:
        await home.pool.ready(30)
        gone = next(iter(home.emu.sessions))
        home.emu.expire(gone)
        await asyncio.sleep(1900)
        assert gone in [event.session_rid for event in home.happened(SessionDied)]
        assert home.stats.idle == 3


# ------------------------------------------------------------------------------ B14


async def test_b14_the_new_one_is_ready_before_the_old_one_is_retired() -> None:
    policy = AgentPolicy(min_idle=4)
    async with house(policy=policy, lifetime_s=HOUR_S, create_latency_s=5.0) as home:
        await home.pool.ready(30)
        lowest = 4
        for _ in range(6 * 60):
            await asyncio.sleep(30)
            lowest = min(lowest, home.stats.idle)
        assert lowest == 4


async def test_b14_replacement_is_spread() -> None:
    policy = AgentPolicy(min_idle=30, max_creating=30)
    async with house(policy=policy, lifetime_s=2 * HOUR_S) as home:
        await home.pool.ready(30)
        await asyncio.sleep(1.9 * HOUR_S)
        late = [call.at_s for call in home.emu.calls if call.op == "create" and call.at_s > 60]
        assert len(late) >= 30
        busiest = max(sum(1 for other in late if at <= other < at + 60) for at in late)
        assert busiest <= 6
        assert min(late) >= 2 * HOUR_S - 900 - 1


async def test_b14_upkeep_wakes_for_what_is_due_before_all_else_it_knows_of() -> None:
    policy = AgentPolicy(min_idle=1, max_creating=1, verify_after_s=DAY_S)
    faults = ["create:2:wrong_estimate:by_s=-5000"]
    async with house(policy=policy, lifetime_s=7200.0, faults=faults) as home:
        await home.pool.ready(10)
        held = await home.lease()
        await asyncio.sleep(5)
        assert home.stats.idle == 1  # this one is due long before the verification of the first
        await asyncio.sleep(2200 - 299)
        assert home.emu.requests("create") >= 3
        assert home.stats.idle == 1
        await held.release()


async def test_b14_what_came_back_late_and_is_due_is_not_forgotten() -> None:
    policy = AgentPolicy(min_idle=0, reuse="anyone")
    async with house(policy=policy, lifetime_s=7200.0) as home:
        lease = await home.lease()
        await asyncio.sleep(4000)
        await lease.release()
        assert home.stats.idle == 1
        await asyncio.sleep(2 * 7200)
        assert (home.stats.idle, home.stats.retired) == (0, 1)


async def test_b14_above_max_idle_the_earliest_to_expire_is_retired() -> None:
    policy = AgentPolicy(min_idle=0, max_idle=2)
    async with house(policy=policy) as home:
        leases = []
        for _ in range(5):
            leases.append(await home.lease())
            await asyncio.sleep(10)
        rids = list(home.emu.sessions)
        for lease in leases:
            await lease.release(unused=True)
        await asyncio.sleep(5)
        assert home.stats.idle == 2
        assert [event.reason for event in home.happened(SessionRetired)] == ["surplus"] * 3
        assert {event.session_rid for event in home.happened(SessionDeleted)} == set(rids[:3])


# ------------------------------------------------------------------------------ B15


@pytest.mark.parametrize("how", ["blocking", "streaming", "touch"])
async def test_b15_each_exchange_extends_the_life(how: str) -> None:
    async with house(lifetime_s=HOUR_S) as home:
        for step in range(5):
            async with home.pool.acquire(home.agent, conversation="a") as lease:
                if how == "blocking":
                    await lease.blocking_continue(f"{step} [[a]]")
                elif how == "streaming":
                    assert [piece async for piece in lease.streaming_continue(f"{step} [[a]]")]
                else:
                    home.emu.exchange_elsewhere(lease.rid)
                    await lease.touch()
                assert 3590 < lease.remaining_s() <= 3600
                assert not lease.is_new
            await asyncio.sleep(3000)
        assert len(home.emu.sessions) == 1
        assert home.emu.requests("get") == 0


async def test_b15_an_exchange_counts_from_its_beginning_at_worst() -> None:
    async with house(lifetime_s=HOUR_S, exchange_latency_s=200.0) as home:
        lease = await home.lease(conversation="a")
        await lease.blocking_continue("long [[a]]")
        (record,) = home.emu.sessions.values()
        true_s = record.dies_ns / 1e9 - home.emu.now()
        assert true_s - 201 <= lease.remaining_s() <= true_s + 1e-6
        await lease.release()


# ------------------------------------------------------------------------------ B16


async def test_b16_found_dead_early_those_as_old_are_confirmed_before_a_hand_out() -> None:
    policy = AgentPolicy(min_idle=0, max_idle=10)
    async with house(policy=policy, dirty=["exchanges_on_dead_sessions"]) as home:
        leases = [await home.lease() for _ in range(5)]
        await home.ask("a")
        await asyncio.sleep(1000)
        for lease in leases:
            await lease.release(unused=True)
        rids = list(home.emu.sessions)
        for rid in rids:
            home.emu.expire(rid)
        (mine,) = [rid for rid, it in home.emu.sessions.items() if it.marks]
        reply = await home.ask("a")
        # Of the dead ones on the way it knows nothing, and of its own loss it does.
        assert (reply.context, reply.generation, reply.replaces) == ("lost", 2, mine)
        assert home.emu.audit().exchanges_on_dead_sessions == 1
        async with home.pool.acquire(home.agent, timeout=30) as lease:
            assert lease.rid not in rids  # one look each, and the dead are gone
            lease.mark_unused()
        assert len(home.happened(SessionDied)) == 6
        conserve(home.stats)


async def test_b16_until_one_outlives_that_age() -> None:
    async with house(
        policy=AgentPolicy(min_idle=0, max_idle=10, verify_after_s=DAY_S),
        dirty=["exchanges_on_dead_sessions"],
    ) as home:
        lease = await home.lease()
        await home.ask("a")
        await asyncio.sleep(1000)
        (dying,) = [rid for rid, it in home.emu.sessions.items() if it.marks]
        home.emu.expire(dying)
        await home.ask("a")
        await lease.release(unused=True)
        for looks in (1, 1):  # suspected once; seen alive at that age, and trusted again
            async with home.pool.acquire(home.agent, timeout=5) as again:
                again.mark_unused()
            await spin(5)
            assert home.emu.requests("get") == looks


@pytest.mark.parametrize("fault", ["403", "AgentNotFound", "empty_404", "401"])
async def test_b16_these_are_never_death(fault: str) -> None:
    async with house(policy=AgentPolicy(min_idle=2, verify_after_s=600)) as home:
        await home.pool.ready(10)
        home.emu.inject(f"get:*:{fault}", f"list:*:{fault}", f"exchange:*:{fault}")
        lease = await home.lease(conversation="a")
        with pytest.raises(Exception) as caught:
            await lease.blocking_continue("x [[a]]")
        assert not isinstance(caught.value, SessionGone)
        await lease.release()
        await asyncio.sleep(2000)
        assert home.happened(SessionDied) == []
        assert home.stats.idle == 2


async def test_b16_far_future_expiries_are_valid() -> None:
    async with house(policy=AgentPolicy(min_idle=2), lifetime_s=float("inf")) as home:
        await home.pool.ready(10)
        await home.ask("a")
        await asyncio.sleep(DAY_S)
        assert (await home.ask("a")).context == "kept"
        assert home.stats.created == home.emu.requests("create") == 3
        async with home.pool.acquire(home.agent, min_remaining_s=1e6) as lease:
            assert lease.remaining_s() > 1e9
            assert lease.expires_at.year > 2100


@pytest.mark.parametrize("lifetime_s", [2.0, 20.0, 400.0, 899.0, 901.0])
async def test_b16_short_lives_scale_the_thresholds_with_one_warning(
    lifetime_s: float, caplog: pytest.LogCaptureFixture
) -> None:
    async with house(policy=AgentPolicy(min_idle=2), lifetime_s=lifetime_s) as home:
        await home.pool.ready(10)
        await asyncio.sleep(20 * lifetime_s)
        made = len(home.emu.sessions)
        assert 30 <= made <= 2 + 2 * 20 * 4
        warned = [it for it in caplog.records if "ThresholdsScaled" in it.message]
        assert len(warned) == len(home.happened(ThresholdsScaled)) == (lifetime_s < 900)
        async with home.pool.acquire(home.agent, timeout=1) as lease:
            await lease.blocking_continue("in time")


async def test_b16_a_life_that_grows_again_scales_back() -> None:
    faults = [f"create:{n}:wrong_estimate:by_s=-7100" for n in (1, 2)]
    async with house(policy=AgentPolicy(min_idle=1), lifetime_s=7200.0, faults=faults) as home:
        await asyncio.sleep(7200)
        async with home.pool.acquire(home.agent, timeout=5) as lease:
            assert lease.remaining_s() >= 300
            lease.mark_unused()


async def test_b16_born_expired_never_loops_and_never_hands_out() -> None:
    async with house(policy=AgentPolicy(min_idle=1), lifetime_s=0.0) as home:
        with pytest.raises(AgentUnavailable, match="born expired"):
            await home.lease(timeout=30)
        assert home.emu.requests("create") <= 4


# ------------------------------------------------------------------------------ B20


@pytest.mark.parametrize("offset_s", [-300.0, 300.0])
async def test_b20_a_remote_clock_that_is_off_changes_nothing(offset_s: float) -> None:
    policy = AgentPolicy(min_idle=2, verify_after_s=1800)
    async with house(policy=policy, clock_offset_s=offset_s, lifetime_s=2 * HOUR_S) as home:
        await home.pool.ready(10)
        for _ in range(8):
            async with home.pool.acquire(home.agent, timeout=5) as lease:
                record = home.emu.sessions[lease.rid]
                true_s = record.dies_ns / 1e9 - home.emu.now()
                assert 300 <= lease.remaining_s() <= true_s + 1e-6
                await lease.blocking_continue("alive")
            await home.ask("a")
            await asyncio.sleep(1.7 * HOUR_S)
        assert home.emu.audit().errors_by_name == {}


@pytest.mark.parametrize("digits", [0, 3, "vary"])
async def test_b20_timestamps_of_any_length(digits: int | str) -> None:
    async with house(fraction_digits=digits, lifetime_s=2 * HOUR_S) as home:
        for _ in range(6):
            await home.ask("a")
            await asyncio.sleep(1.9 * HOUR_S)
        assert len(home.emu.sessions) == 1


async def test_b20_the_time_that_the_request_took_is_taken_off() -> None:
    async with house(create_latency_s=9.0, lifetime_s=HOUR_S) as home:
        home.emu.inject("create:1:delay_after:delay=0.9")
        async with home.pool.acquire(home.agent) as lease:
            record = home.emu.sessions[lease.rid]
            assert lease.remaining_s() <= record.dies_ns / 1e9 - home.emu.now() + 1e-6
            assert lease.remaining_s() >= HOUR_S - 10


# ------------------------------------------------------------------------------ B24


async def test_b24_stats_give_every_term_and_the_agents_sum_up() -> None:
    async with house(policy=AgentPolicy(min_idle=2, max_leased=2), dirty=LEFT) as home:
        await home.pool.ready(10)
        await _mixed(home)
        stats = home.stats
        assert set(stats.agents) == {"orders"}
        assert stats.agents["orders"] == home.pool.stats("orders")
        for name in ("created", "idle", "leased", "parked", "retired", "waiting", "waited"):
            assert getattr(stats, name) == getattr(stats.agents["orders"], name)
        assert stats.wait.count >= 4
        assert stats.create.count == stats.created
        assert stats.lease.count >= 3
        assert isinstance(stats, PoolStats)


async def _mixed(home: House) -> None:
    await home.ask("a")
    lease = await home.lease()
    await lease.release()
    held = await home.lease()
    await home.pool.conversation(home.agent, "a").forget()
    await held.release(unused=True)
