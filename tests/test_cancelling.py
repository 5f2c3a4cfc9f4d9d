"""The helper that cancels at each await catches what it is there to catch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from tests.cancelling import WAYS, Way, Work, at_each_await, cancelled

pytestmark = [pytest.mark.looptime, pytest.mark.parametrize("way", WAYS)]


async def three_awaits() -> None:
    await asyncio.sleep(0)
    await asyncio.sleep(1.0)
    await asyncio.get_running_loop().create_task(asyncio.sleep(1.0))


async def walk(work: Work, way: Way) -> int:
    @asynccontextmanager
    async def made() -> AsyncIterator[Work]:
        yield work

    return await at_each_await(made, way)


async def test_it_strikes_at_each_await_once(way: Way) -> None:
    assert await walk(three_awaits, way) == 3


async def test_what_does_not_await_is_run_once(way: Way) -> None:
    async def work() -> None:
        pass

    assert await walk(work, way) == 0


async def test_a_swallowed_cancellation_is_found(way: Way) -> None:
    async def work() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(1.0)

    with pytest.raises(AssertionError, match="swallowed"):
        await cancelled(work, way, 1)


async def test_another_exception_in_its_place_is_found(way: Way) -> None:
    async def work() -> None:
        try:
            await asyncio.sleep(1.0)
        except asyncio.CancelledError:
            raise KeyError("instead") from None

    with pytest.raises(KeyError, match="instead"):
        await walk(work, way)


async def test_an_anyio_scope_cancels_the_cleanup_too(way: Way) -> None:
    cleaned: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(1.0)
        finally:
            await asyncio.sleep(0.5)
            cleaned.append("all of it")

    assert await cancelled(work, way, 1)
    assert bool(cleaned) == (way != "scope")


async def test_an_answer_that_came_too_late_is_lost(way: Way) -> None:
    granted: list[str] = []

    async def grant() -> str:
        await asyncio.sleep(1.0)
        granted.append("granted")
        return granted[-1]

    async def work() -> None:
        await asyncio.get_running_loop().create_task(grant())

    assert await cancelled(work, way, 1)
    assert bool(granted) == (way == "late")
