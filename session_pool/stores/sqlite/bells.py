"""Doorbells: a datagram socket per store instance, in a folder beside the database.

A datagram names requests that should ask again. It may be lost: what it tells of is in the file,
and a waiting process looks there from time to time. So nothing here waits, and no failure matters.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import socket
import tempfile
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Final
from uuid import uuid4

log = logging.getLogger(__name__)

LONGEST_PATH: Final = 100
"""Bytes of a socket's path that every system takes (Linux: 107, others less)."""

AT_ONCE: Final = 200
"""Requests named in one datagram: well below what a socket takes."""

STALE_LOOKS: Final = 1000
"""Sockets that are tried at most, when those of dead processes are cleared away."""


class Bell:
    """This instance's own doorbell, and its way to those of others.

    Args:
        database: beside which all the sockets are.

    Attributes:
        name: what waiters' records say, so that others can ring here.
    """

    def __init__(self, database: Path) -> None:
        name = f"{uuid4().hex[:12]}.bell"
        folder = database.with_name(database.name + ".bells")
        if len(os.fsencode(folder / name)) > LONGEST_PATH:
            digest = hashlib.sha256(os.fsencode(database)).hexdigest()[:12]
            runtime = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
            folder = Path(runtime) / f"session-pool-{os.getuid()}-{digest}"
        self.name = name
        self._folder = folder
        self._socket: socket.socket | None = None

    def open(self) -> None:
        """Have a socket; without one, news are found by looking alone."""
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            self._clear_stale()
            bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket = bell
            bell.setblocking(False)
            bell.bind(os.fspath(self._folder / self.name))
        except OSError:
            log.warning("no doorbell in %s: news come up to a second late", self._folder)
            self.close()

    def close(self) -> None:
        """Remove the socket, and the folder with the last one."""
        self.drop()
        with contextlib.suppress(OSError):
            (self._folder / self.name).unlink()
        with contextlib.suppress(OSError):
            self._folder.rmdir()

    def drop(self) -> None:
        """Let go of the socket and leave its name: after a fork it is still the parent's."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def fileno(self) -> int | None:
        """What to watch for readability; None without a socket."""
        return self._socket.fileno() if self._socket is not None else None

    def ring(self, name: str, requests: Sequence[str]) -> None:
        """Tell another instance of news; lost if it is gone or has not listened for long."""
        if self._socket is None:
            return
        where = os.fspath(self._folder / name)
        for begin in range(0, len(requests), AT_ONCE):
            text = json.dumps(requests[begin : begin + AT_ONCE]).encode()
            try:
                self._socket.sendto(text, where)
            except OSError as error:
                log.debug("a doorbell could not be rung", exc_info=error)
                return

    def heard(self, tell: Callable[[str], None]) -> None:
        """Tell of all requests that were rung for."""
        while self._socket is not None:
            try:
                text = self._socket.recv(1 << 16)
            except OSError:
                return
            for request in _requests(text):
                tell(request)

    def _clear_stale(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
            probe.setblocking(False)
            for path in islice(self._folder.glob("*.bell"), STALE_LOOKS):
                try:
                    probe.connect(os.fspath(path))
                except ConnectionRefusedError:  # its process is dead
                    path.unlink(missing_ok=True)
                except OSError as error:
                    log.debug("a doorbell could not be tried", exc_info=error)


def _requests(text: bytes) -> Iterable[str]:
    try:
        named = json.loads(text)
    except ValueError:
        return ()
    return [name for name in named if isinstance(name, str)] if isinstance(named, list) else ()
