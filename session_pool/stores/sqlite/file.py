"""Opening the database file: making it, telling that it is ours, and of which version.

Everything here runs while the file lock is held, and in the thread that will use the connection.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Final

from session_pool.errors import StoreMismatch
from session_pool.stores.sqlite.statements import SCHEMA

APPLICATION: Final = 0x53504F4C
"""Marks the file as ours ("SPOL"), in its header."""

VERSION: Final = 1
"""Of the schema."""

BUSY_S: Final = 5.0
"""How long a lock of SQLite's own is waited for: only others than pools take it."""

PAGE_BYTES: Final = 2048
"""A commit writes whole pages, some ten of them for one hand-out; half as large is half as much."""

CHECKPOINT_PAGES: Final = 16_000
"""Journal pages after which a commit carries them over: 32 MB. That syncs the disk while others
wait (some 15 ms), so it must be the lot of less than one commit in a hundred. It is left to the
commit, and to nobody at the same time: SQLite before 3.51.3 may lose a journal that one process
begins anew while another carries it over."""

CACHED: Final = 256
"""Prepared statements kept: more than there are."""


def connect(path: Path) -> sqlite3.Connection:
    """Open the file as it is, made by whoever may read it alone if it is not there.

    Raises:
        sqlite3.Error, OSError: it cannot be opened, or is no database.
    """
    # One that is there is never opened so: closing it would drop the locks of other connections.
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(
        path, timeout=BUSY_S, isolation_level=None, cached_statements=CACHED
    )
    try:
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")  # of one that is made just now
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        version(connection)  # reads the header, and so finds out whether it is a database
    except BaseException:  # what is another application's is let go of as well
        connection.close()
        raise
    return connection


def version(connection: sqlite3.Connection) -> int | None:
    """The schema's version; None for an empty file.

    Raises:
        StoreMismatch: it is a database of something else.
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if application == APPLICATION:
        return int(found)
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application or found or tables:
        raise StoreMismatch("it is a SQLite database, but not a session pool's; name another file")
    return None


def prepare(connection: sqlite3.Connection) -> None:
    """Make an empty file a store; see that any other is one, of this version.

    Raises:
        StoreMismatch: it is of another application, or another version.
    """
    found = version(connection)
    if found is not None and found != VERSION:
        raise StoreMismatch(
            f"its schema is of version {found}, and this release knows {VERSION}; "
            + (
                "run: session-pool migrate"
                if found < VERSION
                else "use the newer release, or the `session-pool migrate` of that one"
            )
        )
    (journal,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if journal != "wal":
        raise StoreMismatch("SQLite cannot keep a write-ahead log for it here; use a local disk")
    if found is None:
        create(connection)


def create(connection: sqlite3.Connection) -> None:
    """Write the schema of this version, in one transaction."""
    mark = f"PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION};"
    connection.executescript(f"BEGIN IMMEDIATE; {SCHEMA} {mark} COMMIT;")
