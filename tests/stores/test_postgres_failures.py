"""The PostgreSQL store when the server, or the way to it, fails (B23, B27)."""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import asyncpg
import pytest

from session_pool.errors import PoolClosed, SessionPoolError, StoreUnavailable
from session_pool.model import FOREVER, PoolKey
from session_pool.space import Done, Grant, Held, Note, Put, Ticket, Want
from session_pool.stores.base import EPOCH
from session_pool.stores.postgres import troubles
from session_pool.stores.postgres.address import address_of
from session_pool.stores.postgres.store import PostgresStore
from tests.servers.link import Link
from tests.servers.postgres import PostgresServer, postgres_server, shared_server

KEY = PoolKey("stack.example.com", "default", "ri.aip-agents..agent.1")
_names = count(1)


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresServer]:
    """A server that may be stopped."""
    with postgres_server() as server:
        yield server


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[PostgresStore]:
    store = PostgresStore(address_of(url), **options)
    await store.open()
    try:
        yield store
    finally:
        await store.aclose()


def fresh_url() -> str:
    return f"{shared_server().url(tcp=True)}?namespace=failures-{next(_names)}"


def own_url(server: PostgresServer) -> str:
    return f"{server.url()}&namespace=failures-{next(_names)}"


def want(conversation: str | None = None, *, holder: str = "me", ttl: float = 30.0) -> Want:
    return Want(KEY, holder, conversation, None, 0.0, ttl, 100, 100)


async def stock(store: PostgresStore, *ids: str) -> None:
    for entry_id in ids:
        put = Put(KEY, entry_id, f"op-{entry_id}", "idle", rid=f"rid-{entry_id}",
                  agent_version="1.0", expires_in_s=600.0, deadline_in_s=FOREVER)  # fmt: skip
        assert isinstance(await store.put(put), Done)


async def take(
    store: PostgresStore, request: str, conversation: str | None = None, **asked: Any
) -> Any:
    options = {"patience_s": 30.0, "note_version": 0, **asked}
    return await store.take(want(conversation), request, **options)


async def test_a_repeated_request_gets_the_same_grant_after_the_answer_was_lost() -> None:
    url = fresh_url()
    with Link(shared_server().port) as link:
        cut = url.replace(str(shared_server().port), str(link.port))
        async with opened(url) as other, opened(cut) as store:
            await stock(other, "a", "b")
            await store.read(KEY)  # its connection is there
            link.swallow_answers()
            asking = asyncio.ensure_future(take(store, "r1"))
            await link.wait_swallowed()
            link.cut()
            with pytest.raises(StoreUnavailable):
                await asking
            link.mend()
            again = await take(store, "r1")
            assert isinstance(again, Grant)
            assert again.counts.of("leased") == 1
            assert again.entry.version == 2, "granted once"


async def test_an_answer_that_does_not_come_is_not_waited_for() -> None:
    url = fresh_url()
    with Link(shared_server().port) as link:
        cut = url.replace(str(shared_server().port), str(link.port))
        async with opened(cut, answer_s=0.2) as store:
            await store.read(KEY)
            link.swallow_answers()
            with pytest.raises(StoreUnavailable, match=r"no answer from 127\.0\.0\.1:\d+/postgres"):
                await store.read(KEY)
            link.cut()
            link.mend()
            assert (await store.read(KEY))[0].waiting == 0


@pytest.mark.parametrize(
    "name", ["take", "put", "withdraw", "read", "note", "find", "renew", "register", "due",
             "share", "identify"],
)  # fmt: skip
async def test_a_cancelled_caller_loses_nobody_elses_answer(name: str) -> None:
    async with opened(fresh_url()) as store:
        await stock(store, "a", "b", "c")
        grant = await take(store, "r0")
        held = Held(KEY, grant.entry, 100.0, 100.0)
        asked: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
            "take": lambda: take(store, "r1"),
            "put": lambda: store.put(Put(KEY, "z", "op-z", "creating")),
            "withdraw": lambda: store.withdraw(KEY, "r9"),
            "read": lambda: store.read(KEY),
            "note": lambda: store.note(KEY, 0, Note(), open_=True),
            "find": lambda: store.find(KEY),
            "renew": lambda: store.renew("me", [("a", grant.entry.fence)], 30.0),
            "register": lambda: store.register("me", [held], 30.0),
            "due": lambda: store.due("me", limit=5, for_s=1.0),
            "share": lambda: store.share("p", "me", limit=5, wish=1, for_s=5),
            "identify": lambda: store.identify("p", "me"),
        }
        for turns in range(4):
            task = asyncio.ensure_future(asked[name]())
            others = [asyncio.ensure_future(store.find(KEY, states=("idle",))) for _ in range(3)]
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            for found in await asyncio.gather(*others):
                assert {entry.state for entry in found} == {"idle"}
        await store.withdraw(KEY, "r1")
        counts, _ = await store.read(KEY)
        assert (counts.of("leased"), counts.of("idle")) == (1, 2)


async def test_a_wiped_store_is_another_epoch_and_calm(own_server: PostgresServer) -> None:
    url = own_url(own_server)
    async with opened(url) as store:
        rung: list[str] = []
        store.watch(rung.append)
        await stock(store, "a")
        held = await take(store, "r1", "k")
        waiting = await take(store, "r2", "k")
        assert isinstance(waiting, Ticket)
        before = store.epoch
        own_server.wipe()
        assert (await store.read(KEY))[0].of("leased") == 0
        assert store.epoch != before
        assert set(rung) == {EPOCH, "r2"}
        # What a conversation has may be in somebody's hands, who has not said so yet.
        assert (await take(store, "r3", "other")).needs == "own"
        await stock(store, "b")
        fresh = await take(store, "r4")
        assert fresh.entry.id == "b", "what came after the epoch began is handed out at once"
        (again,) = await store.register("me", [Held(KEY, held.entry, 300.0, 100.0)], 30.0)
        assert again is not None
        assert again.fence > held.entry.fence
        assert (await take(store, "r2", "k")).needs == "own"


async def test_whoever_wiped_it_unseen_is_told_of_by_whoever_knew(
    own_server: PostgresServer,
) -> None:
    url = own_url(own_server)
    async with opened(url) as store:
        await take(store, "r0")
        own_server.wipe()
        async with opened(url) as newcomer:  # to whom all is new
            assert (await take(newcomer, "n1", "k")).needs == "new"
            await newcomer.withdraw(KEY, "n1")
            await store.read(KEY)
            assert store.epoch == newcomer.epoch
            assert (await take(newcomer, "n2", "k")).needs == "own", "calm, once"


async def test_after_the_calm_all_is_as_usual() -> None:
    now = 1000.0
    url = fresh_url()
    async with opened(url, clock=lambda: now) as store:
        await stock(store, "a")
        await take(store, "r0")
        name = address_of(url).namespace
        shared_server().sql(f"DELETE FROM session_pool.spaces WHERE name = '{name}'")
        assert (await take(store, "r1", "k", patience_s=99.0)).needs == "own"
        assert (await store.read(KEY))[0].new == 0
        now += 30.0
        assert (await store.read(KEY))[0].new == 1
        assert (await take(store, "r1", "k")).needs == "new"


async def test_a_killed_server_begins_an_epoch_and_older_sessions_rest(
    own_server: PostgresServer,
) -> None:
    async with opened(own_url(own_server)) as store:
        rings: asyncio.Queue[str] = asyncio.Queue()
        store.watch(rings.put_nowait)
        await stock(store, "a", "b")
        held = await take(store, "r1", "k")
        before = store.epoch
        own_server.sql("CHECKPOINT")
        await asyncio.to_thread(own_server.kill)
        with pytest.raises(StoreUnavailable):
            await store.read(KEY)
        await asyncio.to_thread(own_server.start)
        while await rings.get() != EPOCH:  # by itself: nobody asked for anything
            pass
        assert store.epoch != before
        assert isinstance(await take(store, "r2"), Ticket), "b rests"
        assert (await store.renew("me", [("a", held.entry.fence)], 30.0)) == [True]
        await stock(store, "c")
        assert (await take(store, "r2")).entry.id == "c"


async def test_while_the_server_is_away_each_call_says_so_in_time(
    own_server: PostgresServer,
) -> None:
    async with opened(own_server.url(tcp=True)) as store:
        await store.read(KEY)
        await asyncio.to_thread(own_server.stop)
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:\d+/postgres"):
                await store.read(KEY)
        await asyncio.to_thread(own_server.start)
        assert (await store.read(KEY))[1].open


async def test_bells_ring_between_instances_and_after_the_link_was_cut() -> None:
    url = fresh_url()
    with Link(shared_server().port) as link:
        cut = url.replace(str(shared_server().port), str(link.port))
        async with opened(url) as giver, opened(cut) as waiter:
            rings: asyncio.Queue[str] = asyncio.Queue()
            waiter.watch(rings.put_nowait)
            assert isinstance(await take(waiter, "r1"), Ticket)
            await stock(giver, "a")
            assert await rings.get() == "r1"
            assert isinstance(await take(waiter, "r1"), Grant)
            assert isinstance(await take(waiter, "r2"), Ticket)
            link.cut()
            link.mend()
            assert await rings.get() == "r2", "it hears again, and asks what it missed"


async def test_two_instances_never_hold_the_same(own_server: PostgresServer) -> None:
    url = own_url(own_server)
    async with opened(url) as one, opened(url) as two:
        await stock(one, *"abcdef")
        held: set[str] = set()
        ids = count(1)

        async def work(store: PostgresStore) -> None:
            bell: dict[str, asyncio.Event] = {}
            store.watch(lambda request: bell[request].set() if request in bell else None)
            for _ in range(20):
                request = f"{store.epoch}-{next(ids)}"
                bell[request] = asyncio.Event()
                answer = await take(store, request)
                while not isinstance(answer, Grant):
                    await bell[request].wait()
                    bell[request].clear()
                    answer = await take(store, request)
                assert answer.entry.id not in held
                held.add(answer.entry.id)
                await asyncio.sleep(0)
                held.discard(answer.entry.id)
                entry = answer.entry
                await store.put(Put(KEY, entry.id, f"b{request}", "idle", fence=entry.fence))

        await asyncio.gather(*(work(store) for store in (one, two) * 8))


async def test_numbers_grow_by_the_servers_microseconds() -> None:
    async with opened(fresh_url()) as store:
        await stock(store, "a")
        first = await take(store, "r1")
        assert first.entry.fence == pytest.approx(first.now * 1e6, abs=2)
        assert first.place == pytest.approx(first.now * 1e6, abs=2)
        await store.put(Put(KEY, "a", "back", "idle", fence=first.entry.fence))
        assert (await take(store, "r2")).entry.fence > first.entry.fence


async def test_nothing_is_left_when_it_is_closed() -> None:
    tasks, threads = asyncio.all_tasks(), threading.active_count()
    url = fresh_url()
    async with opened(url) as store:
        await asyncio.gather(*(take(store, f"r{n}", f"k{n}") for n in range(20)))
        late = asyncio.ensure_future(store.read(KEY))
        await asyncio.sleep(0)
    with pytest.raises(StoreUnavailable, match="closed"):
        await late
    assert asyncio.all_tasks() == tasks
    assert threading.active_count() == threads
    left = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'session_pool%'"
    for _ in range(200):  # the server hears of it a moment later
        if shared_server().sql(left) == "0":
            return
    raise AssertionError(shared_server().sql(left))


def test_another_event_loop_is_refused() -> None:
    store = PostgresStore(address_of(fresh_url()))
    with asyncio.Runner() as one, asyncio.Runner() as two:
        one.run(store.open())
        with pytest.raises(PoolClosed, match="another event loop"):
            two.run(store.read(KEY))
        one.run(store.aclose())
        with pytest.raises(PoolClosed, match="not open"):
            one.run(store.read(KEY))


async def test_a_forked_process_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(fresh_url()) as store:
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: -1)
            with pytest.raises(PoolClosed, match="before a fork"):
                await store.read(KEY)


def test_every_exception_of_the_driver_is_one_of_ours() -> None:
    classes = [
        one for _, one in inspect.getmembers(asyncpg.exceptions, inspect.isclass)
        if issubclass(one, Exception) and not issubclass(one, Warning)
    ]  # fmt: skip
    assert len(classes) > 150
    for one in classes:
        error = one("Key (conversation)=(secret) exists")
        assert isinstance(error, troubles.OURS)
        ours = troubles.translated(error, "take", "host/db")
        assert isinstance(ours, SessionPoolError)
        assert "secret" not in str(ours)
