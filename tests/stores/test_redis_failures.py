"""Links that break, answers that are lost, callers that leave, loops and forks (B23, B27)."""

from __future__ import annotations

import asyncio
import inspect
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

import hiredis
import pytest

from session_pool.errors import (
    ConfigError,
    PoolClosed,
    SessionPoolError,
    StoreError,
    StoreUnavailable,
)
from session_pool.space import Done, Grant, Held, Note, Put, Ticket
from session_pool.stores.redis import asking, wire
from session_pool.stores.redis.trouble import translated
from tests.servers.forwarder import Forwarder
from tests.servers.valkey import Server, shared
from tests.stores.redis_scene import Process, namespace, process
from tests.stores.scene import KEY, OTHER


@asynccontextmanager
async def linked() -> AsyncIterator[tuple[Process, Forwarder]]:
    """A store behind a link that can be cut."""
    async with (
        Forwarder(shared().port) as link,
        process(link.url + namespace()) as one,
    ):
        yield one, link


# ---------------------------------------------------------------------------- the link


async def test_a_cut_link_is_said_with_what_was_done_and_to_whom() -> None:
    async with linked() as (one, link):
        link.cut()
        with pytest.raises(StoreUnavailable, match=rf"read: .*127\.0\.0\.1:{link.port}") as failed:
            await _until_it_is_noticed(one)
        assert failed.value.__cause__ is not None


async def test_it_comes_back_by_itself_and_whoever_waits_is_rung() -> None:
    async with linked() as (one, link), process(shared().url + _same(one)) as other:
        assert isinstance(await one.take(request="r"), Ticket)
        link.cut()
        await other.stock("a")
        link.heal()
        await one.hears("r")
        assert (await one.granted(request="r")).entry.id == "a"


async def test_a_repeated_take_whose_answer_was_lost_is_the_same_grant() -> None:
    async with linked() as (one, link), process(shared().url + _same(one)) as other:
        await one.stock("a", "b")
        await one.give_back(await one.granted())
        link.deaf = True
        link.answered.clear()
        asked = asyncio.create_task(one.take(request="r"))
        await link.answered.wait()
        link.cut()
        with pytest.raises(StoreUnavailable):
            await asked
        link.deaf = False
        link.heal()
        assert (await one.granted(request="r")).entry.id == "a"
        assert (await other.store.read(KEY))[0].of("leased") == 1


async def test_a_repeated_put_whose_answer_was_lost_is_done_once() -> None:
    async with linked() as (one, link):
        await one.stock("a")
        entry = (await one.granted()).entry
        put = Put(KEY, "a", "op", "idle", fence=entry.fence, tally=(("used", 1),))
        await one.store.put(put._replace(id="nobody"))
        link.deaf = True
        link.answered.clear()
        asked = asyncio.create_task(one.store.put(put))
        await link.answered.wait()
        link.cut()
        with pytest.raises(StoreUnavailable):
            await asked
        link.deaf = False
        link.heal()
        done = await one.store.put(put)
        assert isinstance(done, Done)
        assert done.counts.tally == {"used": 1}


async def test_a_server_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "ANSWER_S", 0.05)
    with Server() as server:
        async with process(server.url) as one:
            await one.stock("a")
            server.freeze()
            with pytest.raises(StoreUnavailable, match="does not answer in time"):
                await one.take()
            server.thaw()
            assert isinstance(await _patiently(lambda: one.take(request="again")), Grant)


async def test_a_server_that_forgot_the_scripts_is_told_them() -> None:
    with Server() as server:
        async with process(server.url) as one:
            await one.stock("a")
            server.ask("SCRIPT", "FLUSH")
            await one.granted()


async def test_another_pools_namespace_is_another_pool() -> None:
    async with process(shared().url + namespace()) as one:
        await one.stock("a")
        async with process(shared().url + namespace()) as other:
            assert (await other.store.read(KEY))[0].of("idle") == 0


# ---------------------------------------------------------------------------- leaving

ASKED: Final[dict[str, Callable[[Process], Coroutine[Any, Any, Any]]]] = {
    "take": lambda one: one.take(request="x"),
    "put": lambda one: one.store.put(Put(OTHER, "x", "x", "creating")),
    "withdraw": lambda one: one.store.withdraw(KEY, "x"),
    "renew": lambda one: one.store.renew("me", [("x", 1)], 5.0),
    "due": lambda one: one.store.due("me", limit=1, for_s=1.0),
    "note": lambda one: one.store.note(OTHER, 0, Note(), open_=True),
    "read": lambda one: one.store.read(OTHER),
    "find": lambda one: one.store.find(OTHER),
    "share": lambda one: one.store.share("p", "me", limit=1, wish=1, for_s=1.0),
    "identify": lambda one: one.store.identify("p", "x"),
}


@pytest.mark.parametrize("operation", sorted(ASKED))
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
async def test_who_leaves_takes_no_other_ones_answer_along(operation: str, turns: int) -> None:
    async with process(shared().url + namespace()) as one:
        await one.stock("a")
        left = asyncio.create_task(ASKED[operation](one))
        others = [asyncio.create_task(one.store.identify(f"q{n}", f"i{n}")) for n in range(5)]
        for _ in range(turns):
            await asyncio.sleep(0)
        left.cancel()
        assert await asyncio.gather(*others) == [f"i{n}" for n in range(5)]
        with pytest.raises(asyncio.CancelledError):
            await left
        await one.store.withdraw(KEY, "x")
        assert (await one.store.read(KEY))[0].of("idle") == 1


async def test_a_cancelled_registration_may_have_happened_and_harms_nobody() -> None:
    async with process(shared().url + namespace()) as one:
        await one.stock("a")
        entry = (await one.granted()).entry
        task = asyncio.create_task(
            one.store.register("me", [Held(KEY, entry, 300.0, 100.0)] * 3, 5.0)
        )
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await one.store.read(KEY))[0].of("leased") == 1


async def test_one_that_waits_for_the_link_may_leave() -> None:
    async with linked() as (one, link):
        link.cut()
        with pytest.raises(StoreUnavailable):
            await _until_it_is_noticed(one)
        waiting = asyncio.create_task(one.store.read(KEY))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        link.heal()
        await _patiently(lambda: one.store.read(KEY))


# ---------------------------------------------------------------------------- the end


async def test_closing_leaves_no_connection_and_no_task() -> None:
    with Server() as server:
        before = asyncio.all_tasks()
        async with process(server.url) as one:
            await one.stock("a")
            assert _clients(server) == 2
        assert asyncio.all_tasks() == before
        await _patiently(lambda: _alone(server))
        with pytest.raises(StoreUnavailable, match="closed"):
            await one.store.read(KEY)


async def test_closing_while_the_server_is_away_ends_the_attempts() -> None:
    async with linked() as (one, link):
        link.cut()
        with pytest.raises(StoreUnavailable):
            await _until_it_is_noticed(one)
        waiting = asyncio.create_task(one.store.read(KEY))
        await asyncio.sleep(0)
        await one.store.aclose()
        with pytest.raises(StoreUnavailable):
            await waiting
        assert one.store._link._mending is None


async def test_a_store_of_another_loop_says_so() -> None:
    async with process(shared().url + namespace()) as one:
        said: list[str] = []

        def elsewhere() -> None:
            with pytest.raises(PoolClosed) as refused:
                asyncio.run(one.store.read(KEY))
            said.append(str(refused.value))

        thread = threading.Thread(target=elsewhere)
        thread.start()
        await asyncio.to_thread(thread.join)
        assert "another event loop" in said[0]


async def test_a_store_that_was_forked_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async with process(shared().url + namespace()) as one:
        with monkeypatch.context() as forked:
            forked.setattr(asking, "_forks", 1)  # as it is in a child
            with pytest.raises(PoolClosed, match="forked; open it after the fork"):
                await one.store.read(KEY)
            await one.store.aclose()
        await one.store.read(KEY)


async def test_a_store_that_is_not_open_says_so() -> None:
    with pytest.raises(PoolClosed, match="not open"):
        await Process(shared().url).store.read(KEY)


# ---------------------------------------------------------------------------- the driver's errors


def _errors() -> list[BaseException]:
    found: list[BaseException] = []
    for _, kind in inspect.getmembers(hiredis, inspect.isclass):
        if issubclass(kind, Exception):
            found.append(kind("ERR something"))
    found += [OSError("something"), ssl.SSLCertVerificationError("something")]
    found += [kind("something") for kind in OSError.__subclasses__()]
    codes = (
        "NOAUTH", "WRONGPASS", "NOPERM", "NOPROTO", "CROSSSLOT", "READONLY", "MASTERDOWN",
        "LOADING", "BUSY", "CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK", "NOREPLICAS", "MISCONF",
        "OOM", "NOSCRIPT",
    )  # fmt: skip
    return found + [hiredis.ReplyError(f"{code} of it") for code in codes]


@pytest.mark.parametrize("error", _errors(), ids=repr)
def test_every_error_of_the_driver_becomes_one_of_ours(error: BaseException) -> None:
    ours = translated(error, "redis://host:1", "take")
    assert isinstance(ours, (StoreError, ConfigError))
    assert "redis://host:1" in str(ours)
    assert isinstance(ours, SessionPoolError)


async def test_no_password_is_in_any_text() -> None:
    one = Process("redis://someone:hunter2@127.0.0.1:1/?namespace=x")
    with pytest.raises(StoreUnavailable) as failed:
        await one.store.open()
    texts = [repr(one.store), repr(one.store._address), str(failed.value), repr(failed.value)]
    assert not any("hunter2" in text for text in texts)


# ---------------------------------------------------------------------------- means


def _same(one: Process) -> str:
    return f"?namespace={one.store._address.namespace}"


def _clients(server: Server) -> int:
    return server.ask("CLIENT", "LIST").count("id=") - server.ask("CLIENT", "LIST").count("lib-id=")


async def _alone(server: Server) -> None:
    if _clients(server) > 1:  # it sees in its own time who has left
        raise StoreUnavailable("somebody is left")


async def _until_it_is_noticed(one: Process) -> None:
    await one.store.read(KEY)  # may still find the connection up
    await one.store.read(KEY)


async def _patiently(ask: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    async with asyncio.timeout(10):
        while True:
            try:
                return await ask()
            except StoreUnavailable:
                await asyncio.sleep(0)
