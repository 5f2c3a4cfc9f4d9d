"""Commands as processes of their own, as a user starts them; nothing here sleeps."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 40.0
"""For a command that should take 3 s, on a machine that is busy with other tests."""


def environment(**more: str) -> dict[str, str]:
    """This process's environment without what changes how output looks, and what is meant."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("CI", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TERM")
        and not name.upper().startswith(("FOUNDRY_", "SESSION_POOL"))
    }
    return {**kept, "TERM": "xterm-256color", "PYTHONWARNINGS": "error", **more}


def command(*words: str) -> list[str]:
    """The command line `session-pool WORDS`, by this interpreter."""
    return [sys.executable, "-m", "session_pool.cli", *words]


def run(*words: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        command(*words),
        cwd=ROOT,
        env=environment(**(env or {})),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@contextmanager
def started(
    *words: str, env: Mapping[str, str] | None = None, **options: Any
) -> Iterator[subprocess.Popen[str]]:
    """A command in a process group of its own; nothing of it is left after the block."""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(
        command(*words),
        cwd=ROOT,
        env=environment(**(env or {})),
        text=True,
        start_new_session=True,
        **(pipes | options),
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def interrupt(process: subprocess.Popen[str], number: signal.Signals = signal.SIGINT) -> None:
    """What a terminal does at Ctrl-C: a signal to the whole group."""
    os.killpg(process.pid, number)


def read_until(process: subprocess.Popen[str], wanted: str) -> list[str]:
    """The lines of stdout up to the first that contains the wanted words."""
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line.rstrip("\n"))
        if wanted in line:
            return lines
    raise AssertionError(f"{wanted!r} never came; there was {lines}")
