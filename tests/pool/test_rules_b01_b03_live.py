"""B1 to B3: exclusive, live, and the one that ends first."""

from __future__ import annotations

import asyncio
import random

import pytest

from session_pool import AgentPolicy, AgentUnavailable, AuthError, ConfigError
from session_pool.events import SessionDied
from session_pool.stores.memory import MemoryStore
from tests.pool.house import LEFT, House, LocalClock, house, spin

pytestmark = pytest.mark.looptime

HOUR_S = 3600.0


async def test_b1_no_two_live_leases_name_the_same_session() -> None:
    policy = AgentPolicy(min_idle=2, max_leased=7, acquire_timeout_s=None)
    chance = random.Random(11)
    async with house(policy=policy, create_latency_s=0.3) as home:
        held: dict[str, int] = {}
        fences: dict[str, int] = {}

        async def worker(n: int) -> None:
            for turn in range(15):
                key = f"c{chance.randrange(6)}" if n % 2 else None
                async with home.pool.acquire(home.agent, conversation=key) as lease:
                    rid = lease._entry.rid  # read without counting as read
                    assert rid not in held, (n, turn)
                    held[rid] = n
                    assert lease.fence > fences.get(rid, 0)
                    fences[rid] = lease.fence
                    await asyncio.sleep(chance.random())
                    if chance.random() < 0.5:
                        lease.mark_unused()
                    del held[rid]

        await asyncio.gather(*(worker(n) for n in range(20)))


async def test_b2_nothing_with_less_than_min_remaining_is_handed_out() -> None:
    policy = AgentPolicy(min_idle=0, min_remaining_s=300, refresh_ahead_s=301)
    async with house(policy=policy, lifetime_s=HOUR_S) as home:
        await (await home.lease()).release(unused=True)
        await asyncio.sleep(HOUR_S - 302)
        lease = await home.lease(timeout=0)
        assert 300 <= lease.remaining_s() <= 302
        await lease.release(unused=True)
        await asyncio.sleep(3)
        async with home.pool.acquire(home.agent) as lease:
            assert lease.remaining_s() > 3500
        assert home.emu.requests("create") == 2


async def test_b2_a_callers_larger_wish_is_met() -> None:
    async with house(lifetime_s=4 * HOUR_S) as home:
        await (await home.lease()).release(unused=True)
        await asyncio.sleep(HOUR_S)
        async with home.pool.acquire(home.agent, min_remaining_s=3.5 * HOUR_S) as lease:
            assert lease.remaining_s() >= 3.5 * HOUR_S
            lease.mark_unused()
        async with home.pool.acquire(home.agent, min_remaining_s=2 * HOUR_S) as lease:
            assert 2 * HOUR_S <= lease.remaining_s() <= 3 * HOUR_S  # the older one will do
            lease.mark_unused()
        assert home.emu.requests("create") == 2


async def test_b2_its_own_session_is_handed_out_for_as_long_as_it_lives() -> None:
    policy = AgentPolicy(min_idle=0, min_remaining_s=300)
    async with house(policy=policy, lifetime_s=HOUR_S) as home:
        first = await home.ask("a")
        await asyncio.sleep(HOUR_S - 100)  # less than min_remaining_s, more than doubt_s
        second = await home.ask("a")
        assert second.session_rid == first.session_rid
        assert home.emu.requests("get") == 0
        await asyncio.sleep(HOUR_S - 10)  # less than doubt_s: one GET decides
        third = await home.ask("a")
        assert third.session_rid == first.session_rid
        assert home.emu.requests("get") == 1


async def test_b2_past_its_estimate_one_get_decides_for_life() -> None:
    async with house(lifetime_s=HOUR_S, expiry_error_s=HOUR_S) as home:
        first = await home.ask("a")
        await asyncio.sleep(1.5 * HOUR_S)
        assert (await home.ask("a")).session_rid == first.session_rid
        assert home.emu.requests("get") == 1


async def test_b2_past_its_estimate_one_get_decides_for_death() -> None:
    async with house(lifetime_s=HOUR_S) as home:
        first = await home.ask("a")
        await asyncio.sleep(1.5 * HOUR_S)
        reply = await home.ask("a")
        assert (reply.context, reply.replaces) == ("lost", first.session_rid)
        assert home.emu.requests("get") == 1
        assert home.emu.audit().exchanges_on_dead_sessions == 0
        assert [event.early_s < 0 for event in home.happened(SessionDied)] == [True]


async def test_b2_two_lifetimes_past_its_estimate_it_counts_as_gone() -> None:
    async with house(lifetime_s=HOUR_S, expiry_error_s=100 * HOUR_S, dirty=LEFT) as home:
        await home.ask("a")
        await home.ask("b")
        await asyncio.sleep(2.9 * HOUR_S)
        assert (await home.ask("a")).context == "kept"
        asked = home.emu.requests("get")
        await asyncio.sleep(0.2 * HOUR_S)
        reply = await home.ask("b")
        assert reply.context == "lost"
        assert home.emu.requests("get") == asked  # nobody is asked about it any more
        assert (await home.ask("a")).context == "kept"


async def test_b2_frozen_for_two_lifetimes_it_counts_as_gone_at_the_hand_out() -> None:
    clock = LocalClock()
    async with house(
        pool={"store": MemoryStore(clock=clock)},
        lifetime_s=HOUR_S,
        expiry_error_s=100 * HOUR_S,
        dirty=LEFT,
    ) as home:
        await home.ask("a")
        clock.ahead_s += 3.1 * HOUR_S
        assert (await home.ask("a")).context == "lost"
        assert home.emu.requests("get") == 0


async def test_b2_only_death_wear_and_its_timeouts_replace_a_conversations_session() -> None:
    policy = AgentPolicy(min_idle=2, max_idle=2)
    async with house(policy=policy, lifetime_s=HOUR_S) as home:
        rids = set()
        for _ in range(12):
            rids.add((await home.ask("a")).session_rid)
            await asyncio.sleep(0.99 * HOUR_S)
        assert len(rids) == 1


async def test_b2_a_refusal_of_the_get_is_no_death() -> None:
    async with house(lifetime_s=HOUR_S, expiry_error_s=HOUR_S) as home:
        first = await home.ask("a")
        await asyncio.sleep(1.2 * HOUR_S)
        for fault in ("403", "AgentNotFound"):
            home.emu.inject(f"get:1:{fault}")
            async with home.pool.acquire(home.agent, conversation="a", timeout=30) as lease:
                assert lease.rid == first.session_rid, fault
            home.emu.clear_faults()
        home.emu.inject("get:1:empty_404")
        with pytest.raises(AgentUnavailable, match="preview"):
            await home.ask("a")
        home.emu.inject("get:1:401")
        with pytest.raises(AuthError):
            await home.ask("a")
        assert (await home.ask("a")).session_rid == first.session_rid
        assert home.happened(SessionDied) == []


async def test_b3_the_one_that_ends_first_of_those_that_will_do() -> None:
    async with house(policy=AgentPolicy(min_idle=0, max_idle=10)) as home:
        leases = []
        for _ in range(4):
            leases.append(await home.lease())
            await asyncio.sleep(100)
        for lease in reversed(leases):
            await lease.release(unused=True)
        fences = []
        again = [await home.lease(timeout=0) for _ in range(4)]
        fences = [lease._entry.expires for lease in again]
        assert fences == sorted(fences)
        for lease in again:
            await lease.release(unused=True)


async def test_b3_an_expiring_one_goes_first_while_it_will_do(
    caplog: pytest.LogCaptureFixture,
) -> None:
    policy = AgentPolicy(min_idle=1, max_idle=5, refresh_ahead_s=900, min_remaining_s=300)
    async with house(policy=policy, lifetime_s=HOUR_S) as home:
        await home.pool.ready(5)
        await asyncio.sleep(HOUR_S - 310)
        await _drain(home)


async def _drain(home: House) -> None:
    lease = await home.lease(timeout=1)
    assert lease.remaining_s() >= 300
    await lease.release(unused=True)
    await spin(2)


async def test_b8_a_wish_for_more_than_they_are_born_with_is_refused() -> None:
    async with house(lifetime_s=HOUR_S) as home:
        await (await home.lease()).release(unused=True)
        with pytest.raises(ConfigError, match=r"min_remaining_s.*born with"):
            await home.lease(min_remaining_s=2 * HOUR_S)
        async with home.pool.acquire(home.agent, min_remaining_s=0.9 * HOUR_S) as lease:
            assert lease.remaining_s() >= 0.9 * HOUR_S


async def test_b8_such_a_wish_is_refused_to_one_who_waits_already() -> None:
    async with house(lifetime_s=HOUR_S, create_latency_s=1.0) as home:
        with pytest.raises(ConfigError, match="min_remaining_s"):
            await home.lease(min_remaining_s=2 * HOUR_S, timeout=30)
        assert home.emu.requests("create") <= 2
