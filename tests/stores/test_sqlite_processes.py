"""Real processes on one file: killed, frozen, forked (B1, B21, B27)."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from time import monotonic

import pytest

from session_pool.errors import StoreUnavailable
from session_pool.model import State
from session_pool.space import Done, Put
from session_pool.stores.sqlite.address import Address
from session_pool.stores.sqlite.store import SqliteStore
from tests.stores.sqlite_engine import audit
from tests.stores.sqlite_worker import KEY, said, tell, worker

SESSIONS = 6
HELD_BY_THE_DEAD = 100


async def stocked(path: Path, sessions: int = SESSIONS) -> SqliteStore:
    """A store on that file, with idle sessions."""
    store = SqliteStore(Address(path, "default"))
    await store.open()
    for number in range(sessions):
        put = Put(
            KEY, f"e{number}", f"made {number}", "idle", rid=f"rid-{number}", agent_version="1.0",
            expires_in_s=600.0, deadline_in_s=500.0,
        )  # fmt: skip
        assert isinstance(await store.put(put), Done)
    return store


async def ready(process: subprocess.Popen[str], word: str = "ready") -> None:
    """Wait until a worker says so."""
    assert await asyncio.to_thread(said, process) == word


async def test_four_processes_share_what_one_of_them_dies_holding(short_path: Path) -> None:
    path = short_path / "pool.db"
    store = await stocked(path)
    url = f"sqlite:///{path}"
    with (
        worker("hammer", url, "w0", 5) as doomed,
        worker("hammer", url, "w1", 5) as first,
        worker("hammer", url, "w2", 5) as second,
        worker("hammer", url, "w3", 5) as third,
    ):
        alive = (first, second, third)
        for process in (doomed, *alive):
            await ready(process)
        await _used(store, 300)
        doomed.kill()
        await _used(store, 300)
        for process in alive:
            tell(process)
        # They go on until what waits for the dead one's conversations is served, so its leases
        # must lapse and be cleared away, as upkeep does.
        outputs = asyncio.gather(*(asyncio.to_thread(p.communicate) for p in alive))
        while not outputs.done():
            due = await store.due("keeper", limit=100, for_s=1.0)
            for key, entry in due.entries:
                if entry.state == "leased" and entry.lapses <= due.now:
                    back = Put(key, entry.id, f"lapsed {entry.version}", "quarantined")
                    await store.put(back._replace(version=entry.version, deadline_in_s=0.0))
                elif entry.state == "quarantined":
                    state: State = "parked" if entry.conversation else "idle"
                    put = Put(key, entry.id, f"judged {entry.version}", state)
                    await store.put(put._replace(version=entry.version, deadline_in_s=500.0))
            await asyncio.wait([outputs], timeout=0.05)
        answers = await outputs
    held = defaultdict[str, list[tuple[int, float, float]]](list)
    for output, errors in answers:
        assert not errors
        for entry_id, fence, began, ended in json.loads(output):
            held[entry_id].append((fence, began, ended))
    for turns in held.values():
        turns.sort()
        fences = [fence for fence, _, _ in turns]
        assert len(fences) == len(set(fences)), "a fence was given twice"
        for (_, _, ended), (_, began, _) in pairwise(turns):
            assert ended <= began, "two held the same session"
    counts, _ = await store.read(KEY)
    assert sum(counts.states.values()) == SESSIONS
    await store.aclose()
    audit(path)
    assert len(list(path.with_name("pool.db.bells").iterdir())) == 1, "the dead one's doorbell"
    await store.open()  # which clears it away
    await store.aclose()
    assert not path.with_name("pool.db.bells").exists()


async def _used(store: SqliteStore, times: int) -> None:
    # Until that many hand-outs have happened since now, as the numbers in the entries tell.
    async def versions() -> int:
        return sum(entry.version for entry in await store.find(KEY))

    begun = await versions()
    while await versions() - begun < 2 * times:
        continue  # each look stands in line behind what the others do


@pytest.mark.parametrize("end", [signal.SIGCONT, signal.SIGKILL])
async def test_a_process_frozen_inside_a_write_stops_the_others_no_longer_than_it_is_frozen(
    short_path: Path, end: signal.Signals
) -> None:
    path = short_path / "pool.db"
    await (await stocked(path)).aclose()
    store = SqliteStore(Address(path, "default"), answer_within_s=0.3)
    await store.open()
    with worker("freeze", f"sqlite:///{path}") as frozen:
        await ready(frozen, "frozen")
        await asyncio.to_thread(_until_stopped, frozen.pid)
        for _ in range(2):
            began = monotonic()
            with pytest.raises(StoreUnavailable, match="frozen"):
                await store.read(KEY)
            assert monotonic() - began < 3.0
        os.kill(frozen.pid, end)
        await asyncio.to_thread(frozen.wait)
        counts, _ = await store.read(KEY)
        assert counts.of("idle") == SESSIONS
    await store.aclose()
    audit(path)


async def test_closing_beside_a_frozen_process_ends_all_the_same(
    short_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("session_pool.stores.sqlite.calls.CLOSE_WITHIN_S", 0.2)
    path = short_path / "pool.db"
    store = await stocked(path)
    with worker("freeze", f"sqlite:///{path}") as frozen:
        await ready(frozen, "frozen")
        await asyncio.to_thread(_until_stopped, frozen.pid)
        asked = asyncio.create_task(store.read(KEY))
        await asyncio.sleep(0)
        await store.aclose()
        with pytest.raises(StoreUnavailable, match="closed before"):
            await asked
        assert "frozen" in caplog.text
    assert await asyncio.to_thread(store._writer.join, 10.0), "its thread ends when it can"


def _until_stopped(pid: int) -> None:
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)


async def test_a_child_is_told_to_open_its_own_and_the_parent_goes_on(short_path: Path) -> None:
    path = short_path / "pool.db"
    await (await stocked(path)).aclose()
    with worker("fork", f"sqlite:///{path}") as process:
        output, errors = await asyncio.to_thread(process.communicate)
    child, parent = output.splitlines()
    assert child.startswith("PoolClosed: ")
    assert "after the fork" in child
    assert parent == f"the parent goes on: {{'idle': {SESSIONS}}}"
    assert "Traceback" not in errors  # later Pythons warn of forks beside threads
