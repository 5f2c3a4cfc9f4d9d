"""The command line inside the test's own process, for what ends before it begins."""

from __future__ import annotations

from typing import Protocol

import pytest

from session_pool.cli.app import run


class Said(Protocol):
    """Runs a command line; gives its exit code, stdout and stderr."""

    def __call__(self, *words: str) -> tuple[int, str, str]: ...


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Said:
    """What a command line says; quicker than a process for each."""
    monkeypatch.setenv("COLUMNS", "80")

    def run_it(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["session-pool", *words])
        code = run()
        out, err = capsys.readouterr()
        return code, out, err

    return run_it
