"""From an older schema to this release's, while no pool uses the file."""

from __future__ import annotations

import sqlite3

from session_pool.errors import StoreMismatch
from session_pool.stores.sqlite import file
from session_pool.stores.sqlite.address import address_of, check_place
from session_pool.stores.sqlite.lock import FileLock
from session_pool.stores.sqlite.writer import translated

STEPS: dict[int, str] = {}
"""From each version to the next, as SQL; the first is the first, so there is none yet."""


def migrate(url: str) -> str:
    """Bring the file to this release's schema; made if it is not there.

    Blocks until no other process writes.

    Returns:
        What was done, in one line.

    Raises:
        ConfigError: the URL cannot be meant, or no file can be there.
        StoreMismatch: it is another application's, or of a later release.
        StoreUnavailable: it cannot be read or written.
    """
    path = address_of(url).path
    check_place(path)
    lock = FileLock(path)
    try:
        with lock.held():
            lock.clear_leftovers()
            connection = file.connect(path)
            try:
                return f"{path}: {_migrated(connection)}"
            finally:
                connection.close()
    except (sqlite3.Error, OSError, StoreMismatch) as error:
        raise translated(error, str(path)) from error
    finally:
        lock.close()


def _migrated(connection: sqlite3.Connection) -> str:
    found = file.version(connection)
    if found is None:
        file.prepare(connection)
        return f"made, with schema version {file.VERSION}"
    at = found
    while at in STEPS:
        connection.executescript(
            f"BEGIN IMMEDIATE; {STEPS[at]} PRAGMA user_version = {at + 1}; COMMIT;"
        )
        at += 1
    file.prepare(connection)  # refuses what is not of this version even now
    if found == at:
        return f"already at schema version {at}, nothing to do"
    return f"brought from schema version {found} to {at}"
