"""How answers come back: together, one by one, too late, not at all, and from the wrong place."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from session_pool.errors import PoolClosed, StoreUnavailable
from session_pool.space import Done, Grant, Put
from session_pool.stores.sqlite.address import Address
from session_pool.stores.sqlite.moment import Moment
from session_pool.stores.sqlite.statements import SCHEMA, SQL
from session_pool.stores.sqlite.store import SqliteStore
from session_pool.stores.sqlite.writer import AT_ONCE, Job
from tests.stores.scene import KEY, Scene, want
from tests.stores.sqlite_engine import SqliteEngine, audit


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    """A scene on this engine alone."""
    scene = Scene(SqliteEngine())
    await scene.store.open()
    yield scene
    await scene.close()


def sqlite(scene: Scene) -> SqliteStore:
    """The engine's own class."""
    assert isinstance(scene.store, SqliteStore)
    return scene.store


# ---------------------------------------------------------------------------- group commit


async def test_what_is_asked_together_is_done_in_the_order_it_was_asked(scene: Scene) -> None:
    places = await asyncio.gather(*(scene.waits(request=f"r{number}") for number in range(40)))
    assert [ticket.place for ticket in places] == list(range(1, 41))
    scene.still_waiting = 40


async def test_one_that_fails_spoils_no_other(scene: Scene) -> None:
    def fail(moment: Moment) -> None:
        moment.run("UPDATE keys SET tally = 'broken'")
        raise RuntimeError("a bug")

    await scene.stock("a")
    puts = [Put(KEY, f"e{n}", f"op{n}", "idle", tally=(("made", 1),)) for n in range(6)]
    answers = await asyncio.gather(
        *(scene.store.put(put) for put in puts[:3]),
        sqlite(scene)._do(fail),
        *(scene.store.put(put) for put in puts[3:]),
        return_exceptions=True,
    )
    assert isinstance(answers.pop(3), RuntimeError)
    assert all(isinstance(answer, Done) for answer in answers)
    assert (await scene.counts()).tally == {"made": 6}


async def test_a_crowd_that_asks_at_once_lets_others_have_their_turn(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, sizes = sqlite(scene), list[int]()
    transaction = store._writer._transaction

    def counted(connection: sqlite3.Connection, jobs: Sequence[Job]) -> Any:
        sizes.append(len(jobs))
        return transaction(connection, jobs)

    monkeypatch.setattr(store._writer, "_transaction", counted)
    puts = [Put(KEY, f"e{n}", f"op{n}", "idle") for n in range(500)]
    answers = await asyncio.gather(*map(store.put, puts))
    assert all(isinstance(answer, Done) for answer in answers)
    assert sum(sizes) == 500
    assert max(sizes) == AT_ONCE


async def test_opening_twice_is_opening_once(scene: Scene) -> None:
    before = threading.active_count()
    await scene.store.open()
    assert threading.active_count() == before


async def test_a_lost_journal_directory_is_unavailable_and_not_for_ever(short_path: Path) -> None:
    folder = short_path / "data"
    folder.mkdir()
    store = SqliteStore(Address(folder / "pool.db", "default"))
    await store.open()
    epoch = store.epoch
    folder.rename(short_path / "away")
    with pytest.raises(StoreUnavailable, match="could not"):
        await store.read(KEY)
    (short_path / "away").rename(folder)
    await store.read(KEY)
    assert store.epoch == epoch, "it is the same file again"
    await store.aclose()


# ---------------------------------------------------------------------------- cancelling

Asked = Callable[[Scene], Awaitable[Any]]
OPERATIONS: dict[str, Asked] = {
    "take": lambda scene: scene.take(request="r"),
    "put": lambda scene: scene.store.put(Put(KEY, "new", "op", "idle")),
    "withdraw": lambda scene: scene.withdraw("r"),
    "renew": lambda scene: scene.store.renew("me", [("a", 1)], 30.0),
    "register": lambda scene: scene.store.register("me", [], 30.0),
    "due": lambda scene: scene.due(),
    "note": lambda scene: scene.note(0),
    "read": lambda scene: scene.counts(),
    "find": lambda scene: scene.ids(),
    "share": lambda scene: scene.store.share("p", "me", limit=1, wish=1, for_s=1),
    "identify": lambda scene: scene.store.identify("p", "me"),
}


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("operation", sorted(OPERATIONS))
async def test_a_cancelled_caller_leaves_the_store_as_good_as_before(
    scene: Scene, operation: str, turns: int
) -> None:
    await scene.stock("a")

    async def ask() -> None:
        await OPERATIONS[operation](scene)

    asked = asyncio.create_task(ask())
    for _ in range(turns):
        await asyncio.sleep(0)
    asked.cancel()
    await asyncio.wait([asked])
    assert (await scene.withdraw("r")).of("leased") == 0
    known = (await scene.store.read(KEY))[1].version  # the note may have been written
    assert (await scene.granted(known=known)).entry.id in ("a", "new")
    assert not sqlite(scene)._futures


async def test_a_request_that_was_given_up_is_answered_once_when_it_is_repeated(
    short_path: Path,
) -> None:
    store = SqliteStore(Address(short_path / "pool.db", "default"), answer_within_s=1.0)
    go_on = threading.Event()
    await store.open()
    for name in "ab":
        await store.put(Put(KEY, name, f"made {name}", "idle", expires_in_s=600.0))
    asleep = asyncio.create_task(store._do(lambda moment: go_on.wait(10.0)))
    with pytest.raises(StoreUnavailable, match="within 1 s"):
        await store.take(want(), "r", patience_s=0.0, note_version=0)
    with pytest.raises(StoreUnavailable):
        await asleep
    go_on.set()
    grant = await store.take(want(), "r", patience_s=0.0, note_version=0)
    again = await store.take(want(), "r", patience_s=0.0, note_version=0)
    assert isinstance(grant, Grant)
    assert isinstance(again, Grant)
    assert grant.entry == again.entry
    assert again.counts.of("leased") == 1
    await store.aclose()


# ---------------------------------------------------------------------------- the wrong place


async def test_it_is_used_where_it_was_opened(scene: Scene) -> None:
    def elsewhere() -> str:
        with pytest.raises(PoolClosed) as caught:
            asyncio.run(sqlite(scene)._do(lambda moment: None))
        return str(caught.value)

    assert "another event loop" in await asyncio.to_thread(elsewhere)


async def test_it_is_used_in_the_process_that_opened_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(os, "getpid", lambda: 0)
        with pytest.raises(PoolClosed, match="after the fork"):
            await scene.counts()


async def test_it_is_used_while_it_is_open() -> None:
    engine = SqliteEngine()
    with pytest.raises(PoolClosed, match="not open"):
        await engine.store.read(KEY)
    await engine.store.aclose()
    await engine.store.open()
    await engine.store.aclose()
    await engine.store.aclose()
    with pytest.raises(PoolClosed, match="not open"):
        await engine.store.take(want(), "r", patience_s=0.0, note_version=0)


def names(folder: Path) -> set[str]:
    """What is in it."""
    return {path.name for path in folder.iterdir()}


async def test_closing_leaves_nothing_behind(short_path: Path) -> None:
    def descriptors() -> set[str]:
        found = set()
        for fd in Path("/proc/self/fd").iterdir():
            try:
                found.add(str(fd.readlink()))
            except FileNotFoundError:
                continue  # the one that lists them
        return {name for name in found if str(short_path) in name}

    before = set(threading.enumerate())
    store = SqliteStore(Address(short_path / "pool.db", "default"))
    await store.open()
    await store.take(want(), "r", patience_s=30.0, note_version=0)
    assert descriptors()
    await store.aclose()
    assert set(threading.enumerate()) == before
    assert not descriptors()
    assert names(short_path) == {"pool.db", "pool.db.lock"}
    assert len(asyncio.all_tasks()) == 1
    audit(short_path / "pool.db")


# ---------------------------------------------------------------------------- growth


@pytest.mark.parametrize("others", [0, 200])
async def test_a_hit_takes_few_statements_whatever_else_there_is(scene: Scene, others: int) -> None:
    for number in range(others):
        await scene.stock(f"q{number}", state="quarantined")
        await scene.waits(request=f"w{number}", version="9.9", line=others)
    await scene.stock("a", fresh_in_s=500.0)
    await scene.give_back((await scene.granted()).entry)  # which tells the key its cap
    seen: list[str] = []
    store = sqlite(scene)

    def watch(moment: Moment) -> None:
        assert store._writer.connection is not None
        store._writer.connection.set_trace_callback(seen.append)

    await store._do(watch)
    seen.clear()
    grant = await scene.granted()
    taking = len(seen)
    await scene.give_back(grant.entry)
    giving = len(seen) - taking
    # BEGIN, epoch, key; the request, what is free; lease, key, COMMIT. Somebody who waits in
    # another lane costs a look at his own record, and one at the head of each lane.
    assert taking <= 8 + (others > 0), seen
    assert giving <= 7 + 3 * (others > 0)
    scene.still_waiting = others


SCANNED = frozenset(("machine", "same_machine", "enter", "begin_epochs"))
"""They read or write tables of a row, or of one for each namespace."""

SORTED = frozenset(("everybody", "of_rid"))
"""All that they find is asked for, in its order."""


@pytest.mark.parametrize("name", sorted(SQL))
def test_every_statement_finds_what_it_needs_by_an_index(name: str) -> None:
    connection = sqlite3.connect(":memory:")
    connection.executescript(SCHEMA)
    sql = SQL[name]
    plan = connection.execute(f"EXPLAIN QUERY PLAN {sql}", (None,) * sql.count("?")).fetchall()
    connection.close()
    for *_, step in plan:
        assert "TEMP B-TREE" not in step or name in SORTED
        assert not step.startswith("SCAN") or name in SCANNED
