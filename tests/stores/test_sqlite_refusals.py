"""What is refused at start, each with one clear sentence; and how an empty place is made ready."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import stat
import tempfile
from pathlib import Path
from time import monotonic

import pytest

from session_pool.errors import ConfigError, PoolClosed, StoreMismatch, StoreUnavailable
from session_pool.space import Put
from session_pool.stores.open import migrate, open_store
from session_pool.stores.sqlite import address, file
from session_pool.stores.sqlite.address import address_of, check_place, file_system
from session_pool.stores.sqlite.store import SqliteStore
from session_pool.stores.sqlite.writer import translated
from tests.stores.sqlite_worker import KEY, worker


def store_at(path: Path, query: str = "") -> SqliteStore:
    """A store on that file, not open yet."""
    store = open_store(f"sqlite:///{path}{query}", clock=monotonic)
    assert isinstance(store, SqliteStore)
    return store


def beside(folder: Path) -> list[Path]:
    """All that a store has made there."""
    return sorted(folder.glob("pool.db*"))


def allow(path: Path, mode: int) -> None:
    """Let its owner, and others, do that much with it."""
    path.chmod(mode)


async def made(path: Path) -> None:
    """A store's file, closed again."""
    store = store_at(path)
    await store.open()
    await store.aclose()


# ---------------------------------------------------------------------------- URLs


def test_paths_are_relative_or_absolute(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(short_path)
    assert address_of("sqlite:///pool.db").path == short_path / "pool.db"
    assert address_of(f"sqlite:///{short_path}/a%20b.db").path == short_path / "a b.db"
    assert address_of("sqlite:///pool.db").namespace == "default"
    assert address_of("sqlite:///pool.db?namespace=blue-1").namespace == "blue-1"


def test_two_names_of_one_file_are_one_address(short_path: Path) -> None:
    (short_path / "link").symlink_to(short_path / "pool.db")
    assert address_of(f"sqlite:///{short_path}/link") == address_of(
        f"sqlite:///{short_path}/pool.db"
    )


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqlite://", "needs the path of a file"),
        ("sqlite:///", "needs the path of a file"),
        ("sqlite:///:memory:", "memory://"),
        ("sqlite:///folder/", "names a directory"),
        ("sqlite://user:hunter2@host/pool.db", "takes no host, user or password"),
        ("sqlite:///pool.db#part", "%23"),
        ("sqlite:///pool.db?timeout=5&mode=ro", "no option mode, timeout"),
        ("sqlite:///pool.db?namespace=", "namespace must be"),
        ("sqlite:///pool.db?namespace=a/b", "namespace must be"),
        ("sqlite:///pool.db?namespace=a&namespace=b", "namespace must be one name"),
    ],
)
def test_a_url_that_cannot_be_meant_is_refused(url: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        open_store(url, clock=monotonic)
    assert str(caught.value).startswith("store:")
    assert "hunter2" not in str(caught.value)


# ---------------------------------------------------------------------------- places


async def test_a_directory_that_is_not_there(short_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"does not exist; create it"):
        await store_at(short_path / "nowhere" / "pool.db").open()


async def test_a_name_that_is_too_long(short_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no file can be at .*: File name too long"):
        await store_at(short_path / ("x" * 300)).open()


async def test_a_path_that_is_a_directory(short_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a directory"):
        await store_at(short_path).open()


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("nothing", "opened"),
        ("folder", "ConfigError: store: the directory {folder} cannot be written"),
        ("read-only file", "ConfigError: store: {path} cannot be read and written"),
        ("secret file", "ConfigError: store: {path} cannot be read and written"),
    ],
)
async def test_what_an_ordinary_user_may_not_write(what: str, says: str) -> None:
    ours = os.geteuid() != 0  # root may do anything, so as root the worker becomes nobody
    folder = Path(tempfile.mkdtemp(prefix="pool-"))
    path = folder / "pool.db"
    try:
        if what.endswith("file"):
            await made(path)
            allow(path.with_name("pool.db.lock"), 0o666)
            allow(path, {"read-only file": 0o444, "secret file": 0o000}[what])
        allow(folder, (0o500 if ours else 0o755) if what == "folder" else 0o777)
        with worker("open", f"sqlite:///{path}") as process:
            output, errors = await asyncio.to_thread(process.communicate)
        assert not errors
        assert output.startswith(says.format(folder=folder, path=path))
    finally:
        allow(folder, 0o700)
        shutil.rmtree(folder)


async def test_a_network_file_system(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = short_path / "mounts"
    mounts.write_text(f"disk / ext4 rw 0 0\nhost:/share {short_path} nfs4 rw 0 0\nshort line\n")
    assert file_system(short_path, mounts) == "nfs4"
    assert file_system(short_path / "below", mounts) == "nfs4"
    assert file_system(short_path.parent, mounts) == "ext4"
    assert file_system(short_path, short_path / "missing") is None
    monkeypatch.setattr(address, "file_system", lambda folder: "nfs4")
    with pytest.raises(ConfigError, match=r"network file system \(nfs4\)"):
        await store_at(short_path / "pool.db").open()


def test_a_library_that_is_too_old(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 7, 17))
    with pytest.raises(ConfigError, match=r"needs SQLite 3\.32\.0"):
        check_place(short_path / "pool.db")


# ---------------------------------------------------------------------------- files


async def test_the_file_is_made_and_read_by_its_user_alone(short_path: Path) -> None:
    path = short_path / "pool.db"
    store = store_at(path)
    await store.open()
    await store.put(Put(KEY, "a", "op", "idle"))
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in beside(short_path)}
    assert modes.pop("pool.db.bells") == 0o700
    assert len(modes) == 4
    assert set(modes.values()) == {0o600}
    await store.aclose()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (file.VERSION,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


async def test_a_file_that_is_no_database(short_path: Path) -> None:
    path = short_path / "pool.db"
    path.write_text("Dear diary, " * 100)
    with pytest.raises(StoreMismatch, match="is no SQLite database"):
        await store_at(path).open()
    assert path.read_text().startswith("Dear diary")


def opened() -> list[str]:
    """The files that this process has open."""
    return [str(it.readlink()) for it in Path("/proc/self/fd").iterdir() if it.is_symlink()]


async def test_a_database_of_another_application(short_path: Path) -> None:
    path = short_path / "pool.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE invoices (id)")
    connection.close()
    with pytest.raises(StoreMismatch, match="not a session pool's") as caught:
        await store_at(path).open()
    assert str(path) not in opened(), caught  # while the error, and so its frames, are there
    with pytest.raises(StoreMismatch, match="not a session pool's"):
        await asyncio.to_thread(migrate, f"sqlite:///{path}")


@pytest.mark.parametrize("version", [0, file.VERSION + 1])
async def test_a_schema_of_another_version(short_path: Path, version: int) -> None:
    path = short_path / "pool.db"
    await made(path)
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    with pytest.raises(StoreMismatch, match="session-pool migrate") as caught:
        await store_at(path).open()
    assert f"version {version}" in str(caught.value)


async def test_a_refused_store_leaves_nothing_open(short_path: Path) -> None:
    path = short_path / "pool.db"
    path.write_text("Dear diary, " * 100)
    store = store_at(path)
    with pytest.raises(StoreMismatch):
        await store.open()
    assert store._writer.join(0.0)
    assert not path.with_name("pool.db.bells").exists()
    with pytest.raises(PoolClosed):
        await store.read(KEY)


# ---------------------------------------------------------------------------- migrating


async def test_migrate_makes_a_file_or_finds_nothing_to_do(short_path: Path) -> None:
    url = f"sqlite:///{short_path}/pool.db"
    assert (
        await asyncio.to_thread(migrate, url)
        == f"{short_path}/pool.db: made, with schema version 1"
    )
    assert "nothing to do" in await asyncio.to_thread(migrate, url)
    store = open_store(url, clock=monotonic)
    await store.open()
    await store.put(Put(KEY, "a", "op", "idle"))
    assert "nothing to do" in await asyncio.to_thread(migrate, url)
    assert [entry.id for entry in await store.find(KEY)] == ["a"]
    await store.aclose()


async def test_migrate_goes_step_by_step(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = short_path / "pool.db"
    await made(path)
    monkeypatch.setattr(file, "VERSION", 3)
    steps = {1: "CREATE TABLE added (x);", 2: "ALTER TABLE added RENAME TO kept;"}
    monkeypatch.setattr("session_pool.stores.sqlite.migrating.STEPS", steps)
    with pytest.raises(StoreMismatch, match="run: session-pool migrate"):
        await store_at(path).open()
    said = await asyncio.to_thread(migrate, f"sqlite:///{path}")
    assert "from schema version 1 to 3" in said
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)
    connection.close()


async def test_migrate_refuses_what_a_later_release_made(short_path: Path) -> None:
    path = short_path / "pool.db"
    await made(path)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 9")
    connection.close()
    with pytest.raises(StoreMismatch, match="newer release"):
        await asyncio.to_thread(migrate, f"sqlite:///{path}")


# ---------------------------------------------------------------------------- the driver's errors


def _below(kind: type[BaseException]) -> set[type[BaseException]]:
    return {kind, *(one for child in kind.__subclasses__() for one in _below(child))}


def test_every_error_of_the_driver_is_translated() -> None:
    kinds = _below(sqlite3.Error) | _below(sqlite3.Warning) | {OSError, PermissionError}
    assert len(kinds) > 10
    for kind in kinds:
        error = kind("text")
        answer = translated(error, "/pool.db")
        assert isinstance(answer, StoreUnavailable), kind
        assert answer.__cause__ is error
        assert "/pool.db" in str(answer)
    bug = KeyError("a bug stays what it is")
    assert translated(bug, "/pool.db") is bug


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("SQLITE_NOTADB", StoreMismatch),
        ("SQLITE_CORRUPT", StoreMismatch),
        ("SQLITE_READONLY_DBMOVED", StoreUnavailable),
        ("SQLITE_FULL", StoreUnavailable),
    ],
)
def test_what_will_not_pass_by_itself_is_a_mismatch(code: str, kind: type[Exception]) -> None:
    error = sqlite3.DatabaseError("text")
    error.sqlite_errorname = code
    assert type(translated(error, "/pool.db")) is kind
