"""The command line inside the test's own process, for what ends before it begins."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from session_pool.cli.app import run
from tests.cli.ordering import AGENT, TOKEN, Env, begin
from tests.cli.processes import read_until, started


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


@pytest.fixture(scope="module")
def stack() -> Iterator[Env]:
    """The environment that leads to an emulated stack, with leases that are renewed often."""
    with started("emulator", "--listen", "127.0.0.1:0", "--create-latency-s", "0", "--json") as emu:
        url = json.loads(read_until(emu, "{")[0])["url"]
        yield {
            "FOUNDRY_HOSTNAME": url,
            "FOUNDRY_TOKEN": TOKEN,
            "SESSION_POOL__DEFAULTS__LEASE_TTL_S": "1.5",
        }


@pytest.fixture
def slow() -> Iterator[str]:
    """The address of another stack, which takes its time to create."""
    with started("emulator", "--listen", "127.0.0.1:0", "--create-latency-s", "2", "--json") as emu:
        yield str(json.loads(read_until(emu, "{")[0])["url"])


@pytest.fixture
def there(stack: Env, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Env:
    """The environment of a fleet with a store of its own, for this process and for others."""
    file = tmp_path / "session-pool.toml"
    file.write_text(
        f'[pool]\nstore = "sqlite:///{tmp_path}/pool.db"\n'
        f'[agents.orders]\nrid = "{AGENT}"\nmin_idle = 2\n'
    )
    for name in list(os.environ):
        if name.startswith(("FOUNDRY_", "SESSION_POOL")):
            monkeypatch.delenv(name)
    env = {**stack, "SESSION_POOL_CONFIG": str(file)}
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return env


@pytest.fixture
def begun(there: Env, tmp_path: Path) -> Env:
    """The same, once a pool has been there."""
    begin(tmp_path, there["FOUNDRY_HOSTNAME"])
    return there
