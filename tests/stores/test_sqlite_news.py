"""Two instances on one file: who waits at one is rung by the other, or finds out by itself."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from session_pool.model import FOREVER
from session_pool.space import Done, Grant, Note, Put, Ticket
from session_pool.stores.sqlite import calls
from session_pool.stores.sqlite.address import Address
from session_pool.stores.sqlite.bells import Bell
from session_pool.stores.sqlite.store import SqliteStore
from tests.stores.scene import KEY, want
from tests.stores.sqlite_engine import audit

HEARD_WITHIN_S = 10.0


class Door:
    """A store, and what was rung at it."""

    def __init__(self, path: Path) -> None:
        self.store = SqliteStore(Address(path, "default"))
        self.rung: asyncio.Queue[str] = asyncio.Queue()
        self.store.watch(self.rung.put_nowait)

    async def heard(self) -> str:
        """What is rung next."""
        async with asyncio.timeout(HEARD_WITHIN_S):
            return await self.rung.get()

    async def waits(self, request: str) -> None:
        """Stand in line."""
        answer = await self.store.take(want(line=1000), request, patience_s=FOREVER, note_version=0)
        assert isinstance(answer, Ticket)

    async def stock(self, entry_id: str) -> None:
        """Insert a session."""
        put = Put(KEY, entry_id, f"made {entry_id}", "idle", expires_in_s=600.0)
        assert isinstance(await self.store.put(put), Done)

    async def granted(self, request: str) -> Grant:
        """Fetch what was granted."""
        answer = await self.store.take(want(), request, patience_s=0.0, note_version=0)
        assert isinstance(answer, Grant)
        return answer


@pytest.fixture
async def doors(short_path: Path) -> AsyncIterator[tuple[Door, Door]]:
    """Two instances; the file must be sound in the end."""
    path = short_path / "pool.db"
    here, there = Door(path), Door(path)
    await here.store.open()
    await there.store.open()
    yield here, there
    await here.store.aclose()
    await there.store.aclose()
    audit(path)


def never_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let doorbells be the only way."""
    monkeypatch.setattr(calls, "LOOK_EVERY_S", 3600.0)


async def test_who_waits_at_another_instance_is_rung(
    doors: tuple[Door, Door], monkeypatch: pytest.MonkeyPatch
) -> None:
    never_look(monkeypatch)
    here, there = doors
    await here.waits("r1")
    await here.waits("r2")
    await there.stock("a")
    assert await here.heard() == "r1"
    await here.granted("r1")
    await there.stock("b")
    assert await here.heard() == "r2"
    assert there.rung.empty()


async def test_a_note_rings_everybody_in_line(
    doors: tuple[Door, Door], monkeypatch: pytest.MonkeyPatch
) -> None:
    never_look(monkeypatch)
    here, there = doors
    for number in range(450):  # more than one datagram holds
        await here.waits(f"r{number}")
    await there.store.note(KEY, 0, Note(early_death_s=1.0), open_=True)
    assert {await here.heard() for _ in range(450)} == {f"r{number}" for number in range(450)}


async def test_a_request_is_rung_where_it_asked_last(
    doors: tuple[Door, Door], monkeypatch: pytest.MonkeyPatch
) -> None:
    never_look(monkeypatch)
    here, there = doors
    await here.waits("r")
    await there.waits("r")
    await here.stock("a")
    assert await there.heard() == "r"
    assert here.rung.empty()


async def test_a_lost_doorbell_is_made_good(
    doors: tuple[Door, Door], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(Bell, "ring", lambda bell, name, requests: None)
    here, there = doors
    await here.waits("r1")
    await there.stock("a")
    assert await here.heard() == "r1"
    await here.granted("r1")
    await here.waits("r2")
    await there.store.note(KEY, 0, Note(early_death_s=1.0), open_=True)
    assert await here.heard() == "r2"


async def test_another_epoch_is_heard_by_who_only_waits(
    short_path: Path, doors: tuple[Door, Door], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "LOOK_EVERY_S", 0.01)
    here, there = doors
    await here.waits("r")
    (short_path / "pool.db").unlink()
    assert [await here.heard(), await here.heard()] == ["epoch", "r"]
    await there.stock("a")
    assert there.store.epoch == here.store.epoch


async def test_two_instances_race_for_one_session(doors: tuple[Door, Door]) -> None:
    here, there = doors
    for number in range(50):
        await here.stock(f"e{number}")
        answers = await asyncio.gather(
            *(
                door.store.take(want(), f"{name}{number}", patience_s=0.0, note_version=0)
                for name, door in (("h", here), ("t", there))
            )
        )
        (grant,) = (answer for answer in answers if isinstance(answer, Grant))
        assert grant.entry.id == f"e{number}"


# ---------------------------------------------------------------------------- sockets


async def test_closing_removes_the_socket_and_the_last_one_the_folder(short_path: Path) -> None:
    folder = short_path / "pool.db.bells"
    here, there = Door(short_path / "pool.db"), Door(short_path / "pool.db")
    await here.store.open()
    await there.store.open()
    assert len(list(folder.iterdir())) == 2
    await here.store.aclose()
    assert len(list(folder.iterdir())) == 1
    await there.store.aclose()
    assert not folder.exists()


async def test_the_sockets_of_the_dead_are_cleared_and_those_of_the_living_kept(
    short_path: Path,
) -> None:
    living = Door(short_path / "pool.db")
    await living.store.open()
    folder = short_path / "pool.db.bells"
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    dead.bind(str(folder / "dead.bell"))
    dead.close()
    other = Door(short_path / "pool.db")
    await other.store.open()
    assert {path.name for path in folder.iterdir()} == {
        living.store._bell.name,
        other.store._bell.name,
    }
    await other.store.aclose()
    await living.store.aclose()


async def test_where_the_path_is_too_long_the_sockets_are_in_the_runtime_directory(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    never_look(monkeypatch)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/tmp")  # noqa: S108  # where a path is short
    deep = short_path / ("d" * 90)
    deep.mkdir()
    here, there = Door(deep / "pool.db"), Door(deep / "pool.db")
    await here.store.open()
    await there.store.open()
    assert not (deep / "pool.db.bells").exists()
    await here.waits("r")
    await there.stock("a")
    assert await here.heard() == "r"
    folder = here.store._bell._folder
    assert folder.parent == Path("/tmp")  # noqa: S108  # the same
    assert (folder / here.store._bell.name).is_socket()
    await here.store.aclose()
    await there.store.aclose()
    assert not folder.exists()


async def test_without_a_socket_news_are_found_by_looking(
    short_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(calls, "LOOK_EVERY_S", 0.01)
    (short_path / "pool.db.bells").write_text("in the way")
    here, there = Door(short_path / "pool.db"), Door(short_path / "pool.db")
    await here.store.open()
    await there.store.open()
    assert "no doorbell" in caplog.text
    await here.waits("r")
    await there.stock("a")
    assert await here.heard() == "r"
    await here.store.aclose()
    await there.store.aclose()


@pytest.mark.parametrize("text", [b"", b"\xff", b"{}", b"7", b'[1, null, "r"]'])
async def test_what_is_no_doorbell_is_not_heard(short_path: Path, text: bytes) -> None:
    heard: list[str] = []
    bell = Bell(short_path / "pool.db")
    bell.open()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(text, str(short_path / "pool.db.bells" / bell.name))
    bell.heard(heard.append)
    assert heard == (["r"] if b"r" in text else [])
    bell.close()


async def test_a_full_socket_holds_nobody_up(short_path: Path) -> None:
    deaf, ringing = Bell(short_path / "pool.db"), Bell(short_path / "pool.db")
    deaf.open()
    ringing.open()
    for _ in range(2000):
        ringing.ring(deaf.name, ["r"] * 200)
    ringing.ring("nobody.bell", ["r"])
    deaf.close()
    ringing.close()
