"""Expiry: how other pools handed out the dead, or made everything anew at once; one test each."""

from __future__ import annotations

import asyncio
import gc
import time
from collections import Counter

import pytest

from session_pool import (
    AcquireTimeout,
    AgentPolicy,
    AgentUnavailable,
    RequestLimits,
    SessionGone,
    SessionPool,
)
from session_pool.emulator import Emulator
from session_pool.events import SessionCreated, SessionDied, TaskRestarted
from session_pool.stores.memory import MemoryStore
from session_pool.works import clock_of
from tests.pool.house import COLD, House, LocalClock, conserve, distant_store, house

pytestmark = pytest.mark.looptime

DAY_S = 86_400.0
FLOAT_S = 1e-6
"""What a float of seconds since 1970 cannot tell apart."""

WARM = AgentPolicy(min_idle=30, max_creating=30, verify_after_s=DAY_S)


async def _creations_by_minute(home: House, days: int) -> Counter[int]:
    minutes: Counter[int] = Counter()
    await home.pool.ready(60)
    for _ in range(days):
        before = len(home.emu.sessions)
        await asyncio.sleep(DAY_S)
        assert len(home.emu.sessions) >= before + 27
    for call in home.emu.calls:
        if call.op == "create" and call.at_s > 100:
            minutes[int(call.at_s // 60)] += 1
    return minutes


async def test_nodejs_spanner_649_not_all_sessions_are_created_again_on_the_hour() -> None:
    async with house(policy=WARM) as home:
        minutes = await _creations_by_minute(home, days=1)
        assert max(minutes.values()) <= 6, minutes  # 30 in the 9 minutes there are for it


async def test_posthog_49745_what_was_spread_once_stays_spread() -> None:
    async with house(policy=WARM) as home:
        minutes = await _creations_by_minute(home, days=3)
        assert max(minutes.values()) <= 8, minutes
        conserve(home.stats)


async def test_psycopg_584_1018_a_quiet_service_gets_no_dead_session() -> None:
    """Nobody acquires for long, and nothing in the background has run: checked at the hand-out."""
    store_clock, remote_clock = LocalClock(), LocalClock(1.7e9)
    async with house(
        policy=AgentPolicy(min_idle=3),
        pool={"store": MemoryStore(clock=store_clock)},
        clock=remote_clock,
        lifetime_s=7200.0,
    ) as home:
        await home.pool.ready(10)
        old = set(home.emu.sessions)
        store_clock.ahead_s = remote_clock.ahead_s - 1.7e9 + 7200.0
        remote_clock.ahead_s += 7200.0
        async with home.pool.acquire(home.agent, timeout=10) as lease:
            assert lease.rid not in old
            await lease.blocking_continue("alive")


async def test_psycopg_584_1018_upkeep_goes_on_in_time_after_the_machine_slept() -> None:
    """The clock jumps past when upkeep meant to wake, and the timer that wakes it does not."""
    clock, remote_clock = LocalClock(), LocalClock(1.7e9)
    async with house(
        policy=AgentPolicy(min_idle=0, settle_s=20.0),
        pool={"store": MemoryStore(clock=clock)},
        clock=remote_clock,
        lifetime_s=DAY_S,
    ) as home:
        await (await home.lease()).release(unused=True)
        await asyncio.sleep(1.0)
        lease = await home.lease()
        assert lease.rid
        for asleep in (clock, remote_clock):
            asleep.ahead_s += 5000.0  # longer than upkeep wanted to sleep
        await lease.release(unused=True)
        await home.until(lambda: home.stats.quarantined == 0, within_s=25.0)
        assert home.stats.idle == 1


async def test_psycopg_584_1018_a_sleep_in_quarantine_costs_upkeep_a_minute_at_most() -> None:
    clock, remote_clock = LocalClock(), LocalClock(1.7e9)
    async with house(
        policy=AgentPolicy(min_idle=0, settle_s=1000.0),
        pool={"store": MemoryStore(clock=clock)},
        clock=remote_clock,
        lifetime_s=DAY_S,
    ) as home:
        lease = await home.lease()
        assert lease.rid
        await lease.release(unused=True)
        await asyncio.sleep(1.0)
        for asleep in (clock, remote_clock):
            asleep.ahead_s += 999.0
        await home.until(lambda: home.stats.quarantined == 0, within_s=65.0)
        assert home.stats.idle == 1


async def test_nodejs_spanner_1465_frozen_by_a_serverless_platform() -> None:
    """The process stands still between two requests, for longer or shorter than a life."""
    store_clock, remote_clock = LocalClock(), LocalClock(1.7e9)
    async with house(
        policy=AgentPolicy(min_idle=2),
        pool={"store": MemoryStore(clock=store_clock)},
        clock=remote_clock,
        lifetime_s=7200.0,
    ) as home:
        for frozen_s in (60.0, 6500.0, 7100.0, 7199.0, 7300.0, 50_000.0):
            await home.pool.ready(30)
            store_clock.ahead_s += frozen_s
            remote_clock.ahead_s += frozen_s
            async with home.pool.acquire(home.agent, timeout=10) as lease:
                assert home.emu.is_alive(lease.rid)
                await lease.blocking_continue(f"after {frozen_s}")
            assert (await home.ask("a", f"turn {frozen_s}")).text
            conserve(home.stats)


async def test_python_spanner_1068_keeping_alive_does_not_help_against_an_absolute_age() -> None:
    """The session dies at an age that no estimate shows, however lively; not 404 for ever."""
    async with house(dirty=["exchanges_on_dead_sessions"]) as home:
        contexts = []
        for hour in range(6):
            contexts.append((await home.ask("a", f"turn {hour}")).context)
            if hour == 2:
                (rid,) = [rid for rid in home.emu.sessions if home.emu.is_alive(rid)]
                home.emu.expire(rid)
            await asyncio.sleep(3600)
        assert contexts == ["new", "kept", "kept", "lost", "kept", "kept"]
        assert home.emu.audit().errors_by_name.get("SessionNotFound") == 1


async def test_google_cloud_rust_446_not_found_on_the_stream_before_its_first_byte() -> None:
    async with house(dirty=["exchanges_on_dead_sessions"]) as home:
        await home.ask("a")
        (rid,) = home.emu.sessions
        home.emu.expire(rid)
        async with home.pool.acquire(home.agent, conversation="a") as lease:
            with pytest.raises(SessionGone):
                [piece async for piece in lease.streaming_continue("more [[a]]")]
        again = await home.ask("a", "again")
        assert (again.context, again.replaces) == ("lost", rid)
        assert home.stats.retired == 1


async def test_google_cloud_rust_446_not_found_in_the_middle_of_the_stream() -> None:
    """It arrives on the stream, and not on the call: dead all the same, and never recycled."""
    async with house(exchange_latency_s=10.0) as home:
        await home.ask("a")
        (rid,) = home.emu.sessions
        pieces: list[str] = []
        with pytest.raises(Exception) as caught:  # noqa: PT012  # the loop is what raises
            async with home.pool.conversation(home.agent, "a").stream("long [[a]]") as stream:
                async for piece in stream:
                    pieces.append(piece)
                    if len(pieces) == 2:
                        home.emu.expire(rid)
        assert type(caught.value).__name__ == "ExchangeUncertain"
        await home.until(lambda: home.stats.quarantined == 0)
        assert len(home.happened(SessionDied)) == 1
        reply = await home.ask("a", "again")
        assert (reply.context, reply.replaces) == ("lost", rid)


async def test_open_webui_28052_background_tasks_are_not_garbage() -> None:
    async with house(policy=AgentPolicy(min_idle=2), lifetime_s=7200.0) as home:
        for _ in range(6):
            gc.collect()
            await asyncio.sleep(4 * 3600)
        async with home.pool.acquire(home.agent, timeout=0) as lease:
            assert lease.remaining_s() > 300
        assert len(home.happened(SessionCreated)) > 20


async def test_hasql_13_a_cancellation_out_of_a_callee_does_not_end_upkeep() -> None:
    store = distant_store()
    async with house(
        policy=AgentPolicy(min_idle=2), pool={"store": store}, lifetime_s=7200.0
    ) as home:
        await home.pool.ready(10)
        store.fail("due", "before", error=asyncio.CancelledError())
        store.fail("due", "before", error=RuntimeError("broken"))
        await asyncio.sleep(3 * 7200)
        assert len(home.happened(TaskRestarted)) == 2
        async with home.pool.acquire(home.agent, timeout=0) as lease:
            assert lease.remaining_s() > 300


@pytest.mark.parametrize("fault", ["500", "AgentNotFound", "lost_after", "503", "malformed"])
async def test_google_cloud_spanner_fixed_size_pool_a_failed_replacement_loses_no_slot(
    fault: str,
) -> None:
    async with house(policy=AgentPolicy(min_idle=3), lifetime_s=7200.0) as home:
        await home.pool.ready(10)
        home.emu.inject(f"create:1:{fault}:times=20")
        await asyncio.sleep(7200)
        home.emu.clear_faults()
        await asyncio.sleep(120)
        assert home.stats.idle == 3
        await asyncio.sleep(7200)
        assert home.stats.idle == 3


@pytest.mark.parametrize("offset_s", [-300.0, 0.0, 300.0])
async def test_google_auth_library_nodejs_158_the_margin_has_the_right_sign(
    offset_s: float,
) -> None:
    """What is left is never overrated, whatever the clocks say and `Date` cuts off (B20)."""
    async with house(clock_offset_s=offset_s, lifetime_s=3600.0, latency_s=0.3) as home:
        await home.ask("a")
        (record,) = home.emu.sessions.values()
        for step in range(7):
            await asyncio.sleep(3570.17 if step % 2 else 211.13)
            async with home.pool.acquire(home.agent, conversation="a") as lease:
                true_s = record.dies_ns / 1e9 - home.emu.now() + FLOAT_S
                assert true_s - 2.5 <= lease.remaining_s() <= true_s
                await lease.blocking_continue(f"step {step} [[a]]")
                true_s = record.dies_ns / 1e9 - home.emu.now() + FLOAT_S
                assert true_s - 2.5 <= lease.remaining_s() <= true_s


def test_cpython_106940_the_clock_counts_the_machines_sleep(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = asyncio.new_event_loop()
    try:
        asleep_s = 5000.0
        real = time.clock_gettime
        monkeypatch.setattr(time, "clock_gettime", lambda which: real(which) + asleep_s)
        clock = clock_of(loop)
        before = loop.time()
        assert clock() - before > 4000
    finally:
        loop.close()


async def test_pgbouncer_46_a_permanent_error_is_not_retried_for_ever() -> None:
    policy = AgentPolicy(min_idle=5, error_ttl_s=30)
    async with house(policy=policy, faults=["create:*:AgentNotFound"]) as home:
        with pytest.raises(AgentUnavailable, match="AgentNotFound"):
            await home.pool.ready(10)
        first = home.emu.requests("create")
        assert first <= 5
        await asyncio.sleep(3600)
        probes = home.emu.requests("create") - first
        assert 1 <= probes <= 3600 / 30 + 1  # one at a time, and not at once
        assert home.emu.audit().max_creates_in_flight <= 5


async def test_psycopg_709_a_failing_check_is_no_endless_loop() -> None:
    async with house(lifetime_s=3600.0, expiry_error_s=10_000.0) as home:
        await home.ask("a")
        await asyncio.sleep(3700)
        home.emu.inject("get:*:500")
        began, before = asyncio.get_running_loop().time(), home.emu.requests("get")
        with pytest.raises(AcquireTimeout) as caught:
            await home.lease(conversation="a", timeout=60)
        assert caught.value.phase == "confirmation"
        assert caught.value.__cause__ is not None
        assert asyncio.get_running_loop().time() - began <= 61
        assert home.emu.requests("get") - before < 20
        assert home.stats.parked == 1
        home.emu.clear_faults()
        assert (await home.ask("a")).context == "kept"


async def test_a_pool_that_was_frozen_while_it_waited_recovers() -> None:
    clock = LocalClock()
    async with Emulator(create_latency_s=2.0) as emu:
        store, limits = MemoryStore(clock=clock), RequestLimits(concurrent_requests=100)
        async with SessionPool(
            url=emu.url,
            token=emu.token,
            store=store,
            policy=COLD,
            limits=limits,
        ) as pool:
            waiting = [asyncio.ensure_future(_rid(pool, emu)) for _ in range(20)]
            await asyncio.sleep(1.0)
            clock.ahead_s += 50_000.0
            assert len(set(await asyncio.gather(*waiting))) == 20
            conserve(pool.stats())


async def _rid(pool: SessionPool, emu: Emulator) -> str:
    async with pool.acquire(emu.agent_rid, timeout=30) as lease:
        assert emu.is_alive(lease.rid)
        await asyncio.sleep(5)
        return lease.rid
