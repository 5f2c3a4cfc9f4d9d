"""Redis wiped, restarted from a snapshot, replaced: what was held is handed to nobody (B27)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from session_pool.space import Grant, Held, Refusal, Ticket
from session_pool.stores.base import EPOCH
from tests.servers.valkey import Server
from tests.stores.redis_scene import Clock, process
from tests.stores.scene import KEY


@pytest.fixture
def server() -> Iterator[Server]:
    """A server of this test's own."""
    with Server() as server:
        yield server


async def test_a_store_that_is_new_to_everybody_waits_for_nothing(server: Server) -> None:
    async with process(server.url, Clock()) as one:
        await one.stock("a")
        await one.granted("talk")


async def test_who_joins_finds_the_epoch_that_is_there(server: Server) -> None:
    async with process(server.url) as one, process(server.url) as two:
        assert one.store.epoch == two.store.epoch != ""
        assert (one.heard, two.heard) == ([], [])


async def test_a_wiped_store_is_another_epoch_and_everybody_in_line_is_told(server: Server) -> None:
    clock = Clock()
    async with process(server.url, clock) as one:
        before = one.store.epoch
        assert isinstance(await one.take(request="r"), Ticket)
        server.flushall()
        counts, _ = await one.store.read(KEY)
        assert counts.waiting == 0
        assert one.store.epoch != before
        assert one.heard == [EPOCH, "r"]


async def test_after_a_wipe_conversations_wait_for_one_lease_and_new_sessions_do_not(
    server: Server,
) -> None:
    clock = Clock()
    async with process(server.url, clock) as one:
        await one.stock("old")
        await one.granted("talk", ttl=20.0)
        server.flushall()
        await one.stock("a", "b")
        ticket = await one.take("talk", "r")
        assert isinstance(ticket, Ticket)
        assert (ticket.needs, ticket.counts.new) == ("own", 0)
        assert (await one.granted()).entry.id == "a"
        assert isinstance(await one.take("talk", "forget", own_only=True), Ticket)
        clock.now += 19.5
        assert isinstance(await one.take("talk", "r"), Ticket)
        clock.now += 0.5
        assert (await one.granted("talk", request="r")).entry.id == "b"


async def test_who_knew_the_wiped_store_lets_a_newcomers_epoch_be_calm_once(server: Server) -> None:
    clock = Clock()
    async with process(server.url, clock) as old, process(server.url, clock) as other:
        await old.stock("old")
        held = (await old.granted("talk", ttl=20.0)).entry
        await other.take(ttl=10.0)
        server.flushall()
        async with process(server.url, clock) as new:
            await new.stock("a")
            await old.store.read(KEY)
            assert old.store.epoch == new.store.epoch
            assert isinstance(await new.take("talk", "r"), Ticket)
            (now,) = await old.store.register("me", [Held(KEY, held, 300.0, 100.0)], 20.0)
            assert now is not None
            assert now.fence > held.fence
            clock.now += 15
            await other.store.read(KEY)
            clock.now += 5
            assert isinstance(await new.take("elsewhere"), Grant), "it was calm once already"


async def test_a_snapshots_sessions_wait_and_those_made_since_do_not(server: Server) -> None:
    clock = Clock()
    async with process(server.url, clock) as one:
        await one.stock("early")
        await one.stock("parked", expires=900.0)
        assert await one.give_back(await one.granted("talk", wish=700.0), "parked")
        assert isinstance(await one.take("talk", "r0", patience=0.0), Grant)
        await one.store.withdraw(KEY, "r0")
        before = one.store.epoch
        server.save()
        server.restart()
        clock.now += 1
        await one.hears(EPOCH)
        assert one.store.epoch != before
        assert isinstance(await one.take(patience=0.0), Refusal)
        await one.stock("late", expires=1000.0)
        assert (await one.granted()).entry.id == "late"
        ticket = await one.take("talk", "r1")
        assert isinstance(ticket, Ticket)
        assert ticket.needs == "own"
        clock.now += 30
        assert (await one.granted("talk", request="r1")).entry.id == "parked"
        assert (await one.granted()).entry.id == "early"


async def test_those_in_line_in_a_snapshot_stand_where_the_calm_lets_them(server: Server) -> None:
    clock = Clock()
    async with process(server.url, clock) as one:
        assert isinstance(await one.take("talk", "r1", patience=500.0), Ticket)
        assert isinstance(await one.take(None, "r2", patience=500.0), Ticket)
        server.save()
        server.restart()
        clock.now += 1
        await one.hears("r2")
        one.heard.clear()
        await one.stock("a", "b")
        await one.hears("r2")
        assert isinstance(await one.take("talk", "r1", patience=500.0), Ticket)
        await one.granted(None, request="r2")
        clock.now += 30
        await one.store.read(KEY)
        await one.hears("r1")
        await one.granted("talk", request="r1")


async def test_who_opens_after_a_restart_sees_that_it_is_one(server: Server) -> None:
    clock = Clock()
    async with process(server.url, clock) as one:
        await one.stock("a")
        await one.granted(ttl=50.0)
        await one.stock("b")
        before = one.store.epoch
    server.save()
    server.restart()
    clock.now += 1
    async with process(server.url, clock) as two:
        assert two.store.epoch != before
        assert isinstance(await two.take(patience=0.0), Refusal)
        clock.now += 49.5
        assert isinstance(await two.take(patience=0.0), Refusal)
        clock.now += 0.5
        assert isinstance(await two.take(patience=0.0), Grant)
