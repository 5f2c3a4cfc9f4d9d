"""The README is true: its code runs, its commands exist and run, its tables are current."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from session_pool.emulator import Emulator
from tests.docs.generate import GENERATED, ROOT, rendered

README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
ALONE = [code for code in PYTHON if not code.startswith("# chat.py")]  # that one: test_sharing
SHELL = [
    line.strip()
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.strip()
]
OPERATING = ("status", "warm", "pause", "resume", "drain", "recycle", "evict")


@pytest.mark.parametrize("path", GENERATED)
def test_what_is_generated_is_current(path: str) -> None:
    assert (ROOT / path).read_text(encoding="utf-8") == rendered(path), "run: make docs"


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FOUNDRY_")}
    return kept | more


@pytest.mark.parametrize("number", range(len(ALONE)))
async def test_the_code_runs_unchanged(number: int, tmp_path: Path) -> None:
    script = tmp_path / "example.py"
    script.write_text(ALONE[number], encoding="utf-8")
    async with Emulator() as emulator:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-W",
            "error",
            str(script),
            env=environment(FOUNDRY_HOSTNAME=emulator.url, FOUNDRY_TOKEN=emulator.token),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await process.communicate()
        audit = emulator.audit()
    assert (process.returncode, errors.decode()) == (0, "")
    assert output.decode().strip()
    assert audit.sessions_created > 0
    assert audit.exchanges_on_dead_sessions == audit.overlapping_exchanges == 0


def test_the_code_that_matters_is_short() -> None:
    chatbot = [line for line in ALONE[0].splitlines() if line.strip()]
    assert len(chatbot) <= 20


def test_every_command_is_one_that_is_run_here() -> None:
    known = {"make demo", "make test", "make check"}
    emulator = "session-pool emulator --listen 127.0.0.1:8760"
    sharing = {
        line for line in SHELL if line.startswith(("export SESSION_POOL_CONFIG", "gunicorn"))
    }
    lease = {line for line in SHELL if line.startswith("session-pool lease ")}
    orders = {line for line in SHELL if line.split()[1] in OPERATING}
    assert (len(sharing), len(lease), len(orders)) == (2, 1, 5)  # they run in test_sharing
    assert set(SHELL) == known | {emulator} | sharing | lease | orders


@pytest.mark.parametrize("command", [line for line in SHELL if line.startswith("make ")])
def test_the_make_targets_exist(command: str) -> None:
    # They run for real in CI (`check`, `test`) and in tests/cli (`demo`); here: no recursion.
    plan = subprocess.run(
        [*command.split(), "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert plan.returncode == 0, plan.stderr
    assert plan.stdout.strip()
