"""What a `sqlite:` URL names, and what must hold of that place before a file is opened there.

Looks at the file system and never opens the database: closing a second descriptor of it would drop
the locks that SQLite holds on the first.
"""

from __future__ import annotations

import os
import re
import sqlite3
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from session_pool.errors import ConfigError
from session_pool.stores.base import unbegun, within

OLDEST_SQLITE: Final = (3, 32, 0)
"""What this engine was written for: upserts, and partial indexes that the planner may be told."""

NETWORKED: Final = frozenset(
    (
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "9p", "ceph", "lustre"),
        *("glusterfs", "beegfs", "fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "ocfs2", "gfs2"),
    )
)
"""File systems whose locks and shared memory do not hold for all who mount them."""


class Address(NamedTuple):
    """Where a store is.

    Attributes:
        path: of the database file, absolute, links resolved: all names of it share one lock.
        namespace: which of the pools in it.
        begin: a store is made there where there is none.
    """

    path: Path
    namespace: str
    begin: bool = True


def address_of(url: str, realm: str = "") -> Address:
    """Read a URL.

    Raises:
        ConfigError: it cannot be meant; the message names the part.
    """
    parts = urlsplit(url)
    options = parse_qs(parts.query, keep_blank_values=True)
    unknown = sorted(set(options) - {"namespace"})
    if parts.netloc:
        raise ConfigError(
            "store: sqlite: takes no host, user or password; write sqlite:///relative/path "
            "or sqlite:////absolute/path"
        )
    if parts.fragment:
        raise ConfigError("store: a sqlite: URL has no #part; write a # in the path as %23")
    if unknown:
        raise ConfigError(
            f"store: sqlite: knows no option {', '.join(unknown)}; the only one is ?namespace=name"
        )
    names = options.get("namespace", ["default"])
    if len(names) > 1 or not re.fullmatch(r"[A-Za-z0-9_.-]+", names[0]):
        raise ConfigError(
            "store: namespace must be one name of letters, digits, '-', '_' and '.'; change it"
        )
    path = unquote(parts.path.removeprefix("/"))
    if not path or path == ":memory:" or "\0" in path:
        raise ConfigError(
            "store: sqlite: needs the path of a file (sqlite:///pool.db); "
            "for a store that ends with the process use memory://"
        )
    if path.endswith("/"):
        raise ConfigError("store: the path of a sqlite: URL names a directory; add a file name")
    return Address(Path(os.path.realpath(path)), within(names[0], realm))


def check_place(path: Path) -> None:
    """Refuse where no store can be.

    Raises:
        ConfigError: the message says what to change.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        needed = ".".join(map(str, OLDEST_SQLITE))
        raise ConfigError(
            f"store: sqlite: needs SQLite {needed} or later, this Python has "
            f"{sqlite3.sqlite_version}; use a newer Python"
        )
    folder = path.parent
    try:
        directory = path.is_dir()
    except OSError as error:  # a name that is too long, for one
        raise ConfigError(f"store: no file can be at {path}: {error.strerror}") from error
    if directory:
        raise ConfigError(f"store: {path} is a directory; add a file name to it")
    if not folder.is_dir():
        raise ConfigError(f"store: the directory {folder} does not exist; create it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(
            f"store: the directory {folder} cannot be written by this user; the database keeps "
            f"its journal and locks beside it, so allow writing there or choose another"
        )
    if path.exists() and not os.access(path, os.R_OK | os.W_OK):
        raise ConfigError(f"store: {path} cannot be read and written by this user; allow both")
    kind = file_system(folder)
    if kind in NETWORKED:
        raise ConfigError(
            f"store: {folder} is on a network file system ({kind}), where SQLite's locks do not "
            f"hold; choose a local disk, or redis:// or postgresql:// for many machines"
        )


def check_begun(path: Path) -> None:
    """Refuse where no store is yet, for those who may not make one.

    Raises:
        ConfigError: there is no file, or nothing in it.
    """
    try:
        empty = path.stat().st_size == 0
    except FileNotFoundError:
        empty = True
    if empty:
        raise unbegun(str(path), "such database")


def file_system(folder: Path, mounts: Path = Path("/proc/mounts")) -> str | None:
    """The kind of file system a folder is on, where that can be told."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    best, kind = "", None
    for fields in map(str.split, lines):
        if len(fields) < 3:
            continue
        where = fields[1].replace("\\040", " ")
        inside = folder == Path(where) or Path(where) in folder.parents
        if inside and len(where) >= len(best):
            best, kind = where, fields[2]
    return kind
