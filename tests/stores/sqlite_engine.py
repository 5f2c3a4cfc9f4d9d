"""`sqlite:///` under test: a file of its own, on a clock that stands still.

Looks into the file on purpose, through a connection of its own: a count that disagrees with a row
is wrong long before an answer shows it.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
import weakref
from pathlib import Path
from typing import Any, Final

from session_pool.model import FOREVER
from session_pool.stores.sqlite.address import Address
from session_pool.stores.sqlite.store import SqliteStore

START: Final = 1000.0
IN_MEMORY: Final = Path("/dev/shm")  # noqa: S108  # no disk to sync: hundreds of files come and go


class SqliteEngine:
    """One store on one file, removed with the engine."""

    def __init__(self) -> None:
        self.now = START
        folder = tempfile.mkdtemp(prefix="pool-", dir=IN_MEMORY if IN_MEMORY.is_dir() else None)
        self.path = Path(folder) / "pool.db"
        self.store = SqliteStore(Address(self.path, "default"), clock=lambda: self.now)
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)

    def advance(self, seconds: float) -> None:
        """Let the store's clock go on."""
        self.now += seconds

    def check(self) -> None:
        """The file is sound, and what is counted in it agrees with what is there."""
        audit(self.path, sound=False)  # its pages are looked at by those who keep them on disk

    async def hear(self) -> None:
        """A bell rung by this instance's own operations comes before their answer."""


def audit(path: Path, *, sound: bool = True) -> None:
    """Assert that the tables of a store's file agree with each other, and its indexes with them."""
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    try:
        if sound:
            assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        for key in connection.execute("SELECT * FROM keys").fetchall():
            _audit_key(connection, key)
    finally:
        connection.close()


def _audit_key(connection: sqlite3.Connection, key: Any) -> None:
    entries = connection.execute("SELECT * FROM entries WHERE key = ?", (key["id"],)).fetchall()
    waiters = connection.execute("SELECT * FROM waiters WHERE key = ?", (key["id"],)).fetchall()
    states = {state: many for state, many in json.loads(key["states"]).items() if many}
    assert states == {
        s: sum(e["state"] == s for e in entries) for s in {e["state"] for e in entries}
    }
    for entry in entries:
        memory = entry["state"] in ("retiring", "gone") and entry["conversation"] is not None
        assert (entry["remembered"] is not None) == memory
        assert entry["state"] == "leased" or entry["hand_state"] is None
    own = {
        e["conversation"]: e
        for e in entries
        if e["conversation"] and e["state"] not in ("retiring", "gone")
    }
    standing = [w for w in waiters if w["entry"] is None and w["verdict"] is None]
    assert (key["present"], key["standing"]) == (len(waiters), len(standing))
    wanting = [w for w in standing if w["lane"] not in (None, "own")]
    assert key["wanting"] == len(wanting)
    assert key["ends"] <= min((w["patience"] for w in waiters), default=FOREVER)
    turns: dict[str, tuple[int, str]] = {}
    for waiter in standing:
        talk, turn = waiter["conversation"], (waiter["place"], waiter["request"])
        if talk is not None:
            turns[talk] = min(turn, turns.get(talk, turn))
    for waiter in waiters:
        talk, turn = waiter["conversation"], (waiter["place"], waiter["request"])
        first = talk is None or turns.get(talk) == turn
        session = own.get(talk)
        serves = session is None or session["state"] == "parked"
        in_line = waiter["entry"] is None and waiter["verdict"] is None
        should_stand = in_line and first and serves
        assert (waiter["lane"] is not None) == should_stand
        assert (waiter["lane"] == "own") == (should_stand and session is not None)
