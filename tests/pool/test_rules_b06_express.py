"""B6 to B9 for who asks a store in this process for nothing in particular, and for those beside.

He stands in the express, or in line by a bell of his own: whatever happens to him, or to others, at
whatever moment, nobody is forgotten there, and nobody's session is lost.
"""

from __future__ import annotations

import asyncio
import linecache
from collections.abc import Callable
from typing import Any, cast

import pytest

from session_pool import (
    AcquireTimeout,
    AgentPolicy,
    ConfigError,
    Lease,
    TooManyWaiting,
)
from session_pool.events import LeaseDropped
from session_pool.stores.memory import MemoryStore
from tests.pool.house import COLD, House, distant_store, house, outcome, spin

pytestmark = pytest.mark.looptime

ONE = AgentPolicy(min_idle=0, max_leased=1, reuse="anyone")


def now() -> float:
    """Virtual seconds."""
    return asyncio.get_running_loop().time()


async def lent(home: House, many: int = 1) -> list[Lease]:
    """So many leases that were had the short way."""
    for lease in [await home.lease() for _ in range(many)]:
        await lease.release()
    return [await home.lease() for _ in range(many)]


# ------------------------------------------------------------------------------ what is made


async def test_b6_who_can_take_nothing_that_comes_back_gets_what_is_made_in_its_place() -> None:
    async with house(policy=ONE) as home:
        (first,) = await lent(home)
        await asyncio.sleep(1000)
        began = now()
        longer = asyncio.create_task(home.lease(min_remaining_s=86_000, timeout=100))
        await spin(3)
        await first.release()
        await (await longer).release()
        assert now() - began < 1


@pytest.mark.parametrize("store", [MemoryStore, distant_store])
async def test_b8_who_waits_for_his_own_session_does_not_say_which_version_is_made(
    store: Callable[[], Any],
) -> None:
    async with house(policy=COLD, pool={"store": store()}) as home:
        home.emu.publish(home.emu.agent_rid)
        talks = await home.lease(conversation="a")
        follows = asyncio.create_task(home.lease(conversation="a"))
        await spin(3)
        pinned = await home.lease(agent_version="1.0", timeout=30)
        assert (talks.agent_version, pinned.agent_version) == ("2.0", "1.0")
        await talks.release()
        for lease in (await follows, pinned):
            await lease.release()
        assert home.stats.created == 2


# ------------------------------------------------------------------------------ who leaves


@pytest.mark.parametrize("given_back", [False, True])
async def test_b9_a_coroutine_that_is_thrown_away_while_it_waits_loses_nothing(
    given_back: bool,
) -> None:
    async with house(policy=ONE) as home:
        (first,) = await lent(home)

        async def have() -> Lease:
            return await home.pool.acquire(home.agent)

        thrown_away = have()
        thrown_away.send(None)
        patient = asyncio.create_task(home.lease())
        await spin(3)
        assert home.stats.waiting == 2
        if given_back:
            await first.release()  # it is granted, and will not hear of it
        thrown_away.close()
        if not given_back:
            assert home.stats.waiting == 1
            await first.release()
        await (await patient).release()
        assert (home.stats.idle, home.stats.waiting) == (1, 0)


async def test_b6_whose_session_is_taken_away_as_it_is_handed_over_keeps_his_place() -> None:
    async with house(policy=ONE, create_latency_s=1.0) as home:
        (first,) = await lent(home)
        evicting = asyncio.create_task(home.pool.evict(first._entry.rid))
        earlier, later = (asyncio.create_task(home.lease()) for _ in range(2))
        await spin(1)
        await first.release()
        await evicting
        lease = await earlier
        assert not later.done()
        await lease.release()
        await (await later).release()


async def test_b7_who_is_cancelled_makes_room_in_a_full_line() -> None:
    async with house(policy=ONE.model_copy(update={"max_waiting": 3})) as home:
        (first,) = await lent(home)
        waiting = [asyncio.create_task(home.lease()) for _ in range(3)]
        await spin(2)
        with pytest.raises(TooManyWaiting):
            await home.lease()
        waiting.pop(1).cancel()
        await spin(2)
        waiting.append(asyncio.create_task(home.lease()))
        await spin(2)
        with pytest.raises(TooManyWaiting):
            await home.lease()
        await first.release()
        for task in waiting:
            await (await task).release()


@pytest.mark.parametrize(
    "timeouts", [(5, 5, 5), (3, 5, 7), (7, 5, 3), (None, 5, None), (5, 1e5, 6), (9, 5, 9, 5, 9)]
)
async def test_b7_everybody_waits_as_long_as_he_said(timeouts: tuple[float | None, ...]) -> None:
    async with house(policy=ONE.model_copy(update={"acquire_timeout_s": 60.0})) as home:
        (first,) = await lent(home)

        async def waited(timeout: float | None) -> float:
            began = now()
            with pytest.raises(AcquireTimeout):
                await home.lease(timeout=timeout)
            return now() - began

        times = await asyncio.gather(*(waited(timeout) for timeout in timeouts))
        assert times == pytest.approx([timeout or 60.0 for timeout in timeouts])
        assert (home.stats.timeouts, home.stats.waiting) == (len(timeouts), 0)
        await first.release()
        assert home.stats.idle == 1


@pytest.mark.parametrize("turns", range(5))
async def test_b25_who_is_cancelled_while_the_pool_closes_is_cancelled(turns: int) -> None:
    async with house(policy=ONE, close_s=1) as home:
        (first,) = await lent(home)
        task = asyncio.create_task(home.lease())
        await spin(2)
        closing = asyncio.create_task(home.pool.aclose(timeout=1))
        await spin(turns)
        cancelled = task.cancel()
        assert cancelled == isinstance(await outcome(task), asyncio.CancelledError)
        await first.release()
        await closing


# ------------------------------------------------------------------------------ leases


async def test_b21_a_dropped_lease_that_was_waited_for_names_the_line_that_acquired_it() -> None:
    async with house(policy=ONE) as home:
        (first,) = await lent(home)

        async def drop() -> None:
            lease = await home.pool.acquire(home.agent)  # this line
            assert lease.fence == 3

        dropping = asyncio.create_task(drop())
        await spin(2)
        await first.release()
        with pytest.warns(ResourceWarning, match="without release"):
            await dropping
        await spin(2)
        (dropped,) = home.happened(LeaseDropped)
        file, _, line = dropped.where.rpartition(":")
        assert linecache.getline(file, int(line)).endswith("# this line\n")


async def test_how_long_a_lease_is_held_that_was_only_asked_for_is_no_question() -> None:
    async with house(policy=ONE) as home:
        asked = cast("Lease", home.pool.acquire(home.agent))
        with pytest.raises(ConfigError, match="is not held"):
            _ = asked.held_s
