"""B23 on a store that is awaited: cancelled at every await while it is away, silent, or wiped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest

from session_pool import Lease
from tests.cancelling import WAYS, Way, Work, at_each_await
from tests.pool.cancelled_house import AGENT, CREATE_S, House, Prepare, house
from tests.stores.awaiting import AwaitingStore

pytestmark = pytest.mark.looptime

CASES: Final[dict[str, tuple[Prepare, dict[str, Any]]]] = {}


def case(**needs: Any) -> Callable[[Prepare], Prepare]:
    """Make a scene a case, under its own name."""

    def add(prepare: Prepare) -> Prepare:
        CASES[prepare.__name__.removeprefix("_")] = prepare, needs
        return prepare

    return add


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CASES)
async def test_cancelling_loses_nothing(name: str, way: Way) -> None:
    prepare, needs = CASES[name]

    @asynccontextmanager
    async def scene() -> AsyncIterator[Work]:
        async with house("awaited", **needs) as here:
            yield await prepare(here)
            await asyncio.sleep(5.0)  # what goes on behind the caller's back has come to its end

    await at_each_await(scene, way)


def distant(here: House) -> AwaitingStore:
    """The store of a house."""
    assert isinstance(here.store, AwaitingStore)
    return here.store


def gone_for(here: House, away_s: float) -> None:
    """Let the store be away from now on, for so long."""
    store = distant(here)
    store.away = True

    async def back() -> None:
        store.away = False

    here.later(away_s, back)


def silent_for(here: House, silent_s: float) -> None:
    """Let the store be silent from now on, for so long."""
    store = distant(here)
    store.hang()

    async def answer() -> None:
        store.answer()

    here.later(silent_s, answer)


def taking(here: House, **asked: Any) -> Work:
    async def work() -> None:
        here.held.append(await here.pool.acquire(AGENT, **asked))

    return work


@case(policy={"min_idle": 1})
async def acquiring_while_it_is_away(here: House) -> Work:
    gone_for(here, 1.0)
    return taking(here)


@case(policy={"min_idle": 1})
async def acquiring_while_it_is_silent(here: House) -> Work:
    silent_for(here, 1.0)
    return taking(here)


@case(policy={"max_leased": 1})
async def acquiring_in_line_as_it_goes_away(here: House) -> Work:
    lease = await here.hold()
    here.later(0.5, lambda: _go(here))
    here.later(2.5, lease.release)
    return taking(here)


async def _go(here: House) -> None:
    gone_for(here, 1.0)


@case(policy={"min_idle": 1})
async def releasing_while_it_is_away(here: House) -> Work:
    lease = await here.hold()
    gone_for(here, 1.0)
    return lease.release


@case(policy={"min_idle": 1})
async def releasing_while_it_is_silent(here: House) -> Work:
    lease = await here.hold()
    silent_for(here, 2.0)
    return lease.release


@case()
async def renewing_by_hand_while_it_is_away(here: House) -> Work:
    lease = await here.hold()
    gone_for(here, 1.0)
    return lease.renew


@case()
async def an_exchange_while_it_is_silent(here: House) -> Work:
    here.conversations.append("c")
    lease = await here.hold("c")
    silent_for(here, 0.7)
    return lambda: lease.blocking_continue("hello [[c]]")


@case()
async def an_exchange_while_it_is_away(here: House) -> Work:
    here.conversations.append("c")
    lease = await here.hold("c")
    gone_for(here, 0.7)
    return lambda: lease.blocking_continue("hello [[c]]")


@case(policy={"min_idle": 1})
async def a_whole_block_with_lost_answers(here: House) -> Work:
    store = distant(here)
    here.conversations.append("c")

    async def work() -> None:
        store.fail("take", "after")
        async with here.pool.acquire(AGENT, conversation="c") as lease:
            store.fail("put", "after")
            await lease.touch(0)
            store.fail("put", "after")

    here.later(1.0, lambda: _no_more(store))
    return work


async def _no_more(store: AwaitingStore) -> None:
    store.forgive()


async def test_the_renewers_own_awaits_lose_no_lease() -> None:
    """Whatever comes out of a renewal, the next one makes up for it."""
    async with house("awaited") as here:
        leases: list[Lease] = [await here.hold() for _ in range(3)]
        for error in (asyncio.CancelledError(), RuntimeError("broken")):
            distant(here).fail("renew", "before", error=error)
        await asyncio.sleep(100.0)
        assert not any(lease.lost.is_set() for lease in leases)
        await asyncio.sleep(CREATE_S)
