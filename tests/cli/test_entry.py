"""The way in: what is imported when, what is missing, and what help and wrong usage look like."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib import metadata

import pytest

from session_pool import cli
from tests.cli.conftest import Said
from tests.cli.processes import PATIENCE_S, ROOT, environment, run

COMMANDS = (
    "demo", "emulator", "check", "lease", "status", "warm", "pause", "resume", "drain", "recycle",
    "evict", "migrate",
)  # fmt: skip


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def test_importing_the_package_imports_nothing_of_the_command_line() -> None:
    done = python(
        "import sys, session_pool\n"
        "print(sorted({'typer', 'rich', 'click', 'session_pool.cli', 'session_pool.emulator'}"
        " & set(sys.modules)))"
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_a_missing_extra_is_one_line_that_says_how_to_get_it(missing: str) -> None:
    done = python(
        f"import sys; sys.modules[{missing!r}] = None\nfrom session_pool.cli import main; main()"
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "session-pool: the command line is an extra: pip install 'session-pool[cli]'\n"
    )


def test_another_missing_module_is_not_taken_for_the_extra() -> None:
    done = python(
        "import sys; sys.modules['aiohttp'] = None\nfrom session_pool.cli import main; main()"
    )
    assert "ModuleNotFoundError" in done.stderr


def test_the_installed_command_is_main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"session-pool": "session_pool.cli:main"}
    assert callable(cli.main)


def test_without_a_command_it_says_what_there_is(said: Said) -> None:
    code, out, _ = said()
    assert code == 2
    listed = re.findall(r"^  (\w+)  +[A-Z]", out.partition("Commands:")[2], re.M)
    assert listed == list(COMMANDS)


def test_it_tells_its_version(said: Said) -> None:
    assert said("--version") == (0, f"session-pool {metadata.version('session-pool')}\n", "")


@pytest.mark.parametrize("words", [(), *((name,) for name in COMMANDS)], ids=str)
def test_help_has_an_example_and_fits_80_columns(said: Said, words: tuple[str, ...]) -> None:
    code, out, err = said(*words, "--help")
    assert (code, err) == (0, "")
    assert f"session-pool {words[0] if words else 'demo'}" in out.partition("Example")[2]
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize(
    "words",
    [
        ("serve",),
        ("demo", "--jsn"),
        ("demo", "--seconds", "0"),
        ("demo", "--seconds", "nan"),
        ("demo", "--lifetime-s", "long"),
        ("demo", "extra"),
        ("lease",),
        ("lease", "orders", "--timeout", "-1"),
        ("lease", "orders", "--timeout", "soon"),
        ("lease", "orders", "--json", "--", "true"),
        ("check", "a.toml", "b.toml"),
        ("migrate", "--stor", "memory://"),
        ("demo", "--fault", "create"),
        ("demo", "--lifetime-s", "1e99"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_one_line_and_exit_code_2(said: Said, words: tuple[str, ...]) -> None:
    code, out, err = said(*words)
    assert (code, out) == (2, "")
    assert err.startswith("session-pool: ")
    assert err.count("\n") == 1


def test_the_exit_code_is_the_processes_own() -> None:
    done = run("demo", "--seconds", "0")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_a_fault_that_stops_the_demo_is_one_line_and_exit_code_1() -> None:
    done = run("demo", "--json", "--fault", "create:*:AgentNotFound")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("session-pool: the demo could not be played: ")
    assert "AgentNotFound" in done.stderr
    assert done.stderr.count("\n") == 1
