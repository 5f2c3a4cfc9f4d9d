"""Whose turn it is to write: one process at a time, in the order in which they asked.

SQLite's own lock makes others sleep and try again, so that some starve; the kernel's queue for
`flock` does not. The file lock also stands guard while the database is opened, created or replaced,
and remembers which files belong together. A process that dies gives it up at once; one that is
frozen while it holds it stops all others, who wait in their writer threads alone.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SIDE_FILES = ("-wal", "-shm")


class FileLock:
    """An exclusive lock that all processes share who use the same database.

    Args:
        path: of the database.
    """

    def __init__(self, path: Path) -> None:
        self._database = path
        self._path = path.with_name(path.name + ".lock")
        self._fd = -1

    @contextmanager
    def held(self) -> Iterator[None]:
        """Wait for it, however long that takes, and hold it.

        Raises:
            OSError: the file cannot be opened or locked.
        """
        self._acquire()
        try:
            yield
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let go of the file; after a fork, in the child, without giving up the parent's turn."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _acquire(self) -> None:
        while True:
            if self._fd < 0:
                flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
                self._fd = os.open(self._path, flags, 0o600)
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            if os.fstat(self._fd).st_ino == inode_of(self._path):
                return
            self.close()  # somebody deleted it meanwhile, and others lock another one

    # ------------------------------------------------------------------ what belongs together

    def clear_leftovers(self) -> None:
        """Remove the journal of a database that is not there any more; call while it is held.

        SQLite would take it for the journal of the one that stands in its place. What came with
        another database, say from a backup, is another file than the one that was noted.
        """
        noted = os.pread(self._fd, 200, 0).split()
        if inode_of(self._database) is None:
            noted = []
        elif not noted or str(inode_of(self._database)).encode() == noted[0]:
            return
        for suffix, inode in zip(SIDE_FILES, noted[1:] or (None, None), strict=False):
            side = self._beside(suffix)
            if inode is None or str(inode_of(side)).encode() == inode:
                side.unlink(missing_ok=True)

    def note_files(self) -> None:
        """Remember which files are open together; call while it is held."""
        files = (self._database, *map(self._beside, SIDE_FILES))
        text = " ".join(str(inode_of(file)) for file in files).encode()
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, text, 0)

    def _beside(self, suffix: str) -> Path:
        return self._database.with_name(self._database.name + suffix)


def inode_of(path: Path) -> int | None:
    """Which file a name means now; None for none."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None
