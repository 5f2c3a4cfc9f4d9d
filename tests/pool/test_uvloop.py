"""The pool in uvloop's event loop, with its own timers and sockets, on each store, in real time."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from session_pool import AcquireTimeout, AgentPolicy
from tests.pool.house import House, house
from tests.servers.postgres import shared_server
from tests.servers.valkey import shared

TALKS, TASKS, SESSIONS, TURNS = 6, 24, 4, 3


@pytest.fixture(params=["memory", "sqlite", "redis", "postgresql"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Of a store that nobody has used."""
    if request.param == "memory":
        yield "memory://"
    elif request.param == "redis":
        yield f"{shared().url}?namespace=uvloop"
    elif request.param == "postgresql":
        yield f"{shared_server().url()}&namespace=uvloop"
    else:
        folder = Path(tempfile.mkdtemp(prefix="sp-"))
        yield f"sqlite:///{folder}/pool.db"
        shutil.rmtree(folder)


def _run(work: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert isinstance(runner.get_loop(), uvloop.Loop)
        runner.run(work)


def test_conversations_go_on_and_workers_take_turns(url: str) -> None:
    _run(_live(url))


async def _live(url: str) -> None:
    policy = AgentPolicy(min_idle=1, max_leased=SESSIONS, reuse="anyone")
    async with house(policy=policy, pool={"store": url}) as home:
        talks = [f"talk {number}" for number in range(TALKS)]
        for context in ("new", "kept"):
            replies = await asyncio.gather(*(home.ask(talk) for talk in talks))
            assert [reply.context for reply in replies] == [context] * TALKS
        async with home.pool.conversation(home.agent, talks[0]).stream(
            home.words(talks[0])
        ) as said:
            assert "".join([piece async for piece in said])
        await _contend(home)
        await _leave(home)


async def _contend(home: House) -> None:
    served: list[int] = []

    async def work(number: int) -> None:
        for _ in range(TURNS):
            async with home.pool.acquire(home.agent):
                assert home.stats.leased <= SESSIONS
                served.append(number)
                await asyncio.sleep(0)

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        for number in range(TASKS):
            group.create_task(work(number))
    assert sorted(served) == sorted([*range(TASKS)] * TURNS)


async def _leave(home: House) -> None:
    """Who runs out of time, and who is cancelled, holds nobody up."""
    held = [await home.lease() for _ in range(SESSIONS)]
    with pytest.raises(AcquireTimeout):
        await home.lease(timeout=0.1)
    loop = asyncio.get_running_loop()
    began = loop.time()
    short = asyncio.create_task(home.lease(timeout=0.3))
    leaving, staying = (asyncio.create_task(home.lease(timeout=20)) for _ in range(2))
    with pytest.raises(AcquireTimeout):
        await short
    assert 0.25 < loop.time() - began < 5
    leaving.cancel()
    await asyncio.wait([leaving])
    assert leaving.cancelled()
    await held.pop().release()
    held.append(await staying)
    for lease in held:
        await lease.release()
    assert home.stats.waiting == 0
