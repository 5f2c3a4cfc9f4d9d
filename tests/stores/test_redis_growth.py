"""A Redis hit costs the server no more with very many sessions, agents or waiters (G17)."""

from __future__ import annotations

import asyncio

from session_pool.model import FOREVER
from session_pool.space import Put
from tests.servers.valkey import Server
from tests.stores.redis_scene import Clock, Process, process
from tests.stores.scene import KEY, want


async def calls_of_a_cycle(server: Server, one: Process, **asked: object) -> int:
    """How many commands the scripts of one take and put give, once the server knows them."""
    assert await one.give_back(await one.granted(**asked))  # type: ignore[arg-type]  # the same
    with server.raw() as way:
        way("CONFIG", "RESETSTAT")
        grant = await one.granted(**asked)  # type: ignore[arg-type]  # as a test says it
        assert await one.give_back(grant)
        lines = way("INFO", "commandstats").decode().splitlines()
    return sum(
        int(line.split("calls=")[1].split(",")[0])
        for line in lines
        if "calls=" in line and not any(word in line for word in ("_info", "_config", "_eval"))
    )


async def test_a_cycle_asks_as_much_of_a_full_store_as_of_an_empty_one() -> None:
    with Server() as server:
        async with process(server.url, Clock()) as one:
            await one.stock("a")
            few = await calls_of_a_cycle(server, one)
            puts = [
                Put(KEY, f"p{number}", f"o{number}", "quarantined", deadline_in_s=9e4)
                for number in range(2000)
            ]
            puts += [
                Put(KEY._replace(agent_rid=f"agent{number}"), f"q{number}", f"n{number}", "idle")
                for number in range(200)
            ]
            await asyncio.gather(*map(one.store.put, puts))
            assert await calls_of_a_cycle(server, one) == few


async def test_a_cycle_looks_at_one_waiter_of_each_wish_however_long_the_line_is() -> None:
    with Server() as server:
        async with process(server.url, Clock()) as one:
            await one.stock("a")

            async def stand(first: int, last: int) -> None:
                asked = want(wish=700.0, cap=5000, line=5000)
                for number in range(first, last):
                    request = f"p{number}"
                    await one.store.take(asked, request, patience_s=FOREVER, note_version=0)

            await stand(0, 1)
            few = await calls_of_a_cycle(server, one, cap=5000, line=5000)
            await stand(1, 1000)
            assert await calls_of_a_cycle(server, one, cap=5000, line=5000) == few
