"""Output that goes nowhere: closed from the start, on a full disk, or to a reader who has gone."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.cli.processes import PATIENCE_S, ROOT, command, environment

AGENT: Final = "ri.aip-agents..agent.732cd5b4-7ca7-4219-aabb-6e976faf63b1"
NOWHERE: Final = {"FOUNDRY_HOSTNAME": "http://127.0.0.1:9", "FOUNDRY_TOKEN": "t0ken"}
PRINTING: Final = (
    ("--help",),
    ("--version",),
    ("lease", "--help"),
    ("check",),
    ("check", "--json"),
    ("demo", "--seconds", "1"),
    ("demo", "--seconds", "1", "--json"),
    ("emulator", "--listen", "127.0.0.1:0"),
)


def shell(redirection: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a shell does with a redirection."""
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {redirection}', "sh", *command(*words)],
        cwd=ROOT,
        env=environment(**NOWHERE),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@pytest.mark.parametrize("words", PRINTING[:-1], ids=" ".join)
def test_who_wants_no_output_gets_the_exit_code_alone(words: tuple[str, ...]) -> None:
    done = shell(">&-", *words)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_error_is_not_taken_for_output_where_errors_are_not_wanted() -> None:
    done = shell("2>&-", "lease", "nobody", "--", "true")
    assert (done.returncode, done.stdout) == (2, "")


if Path("/dev/full").exists():

    @pytest.mark.parametrize("words", PRINTING, ids=" ".join)
    def test_a_full_disk_is_one_line_and_exit_code_1(words: tuple[str, ...]) -> None:
        done = shell(">/dev/full", *words)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1, done.stderr
        assert done.stderr.startswith("session-pool: ")
        assert "No space left on device" in done.stderr
        assert "listen" not in done.stderr

    def test_errors_that_cannot_be_told_keep_their_exit_code() -> None:
        done = shell("2>/dev/full", "lease", "nobody", "--", "true")
        assert (done.returncode, done.stdout) == (2, "")


def test_a_reader_who_has_gone_is_told_nothing() -> None:
    for words in PRINTING[:5]:
        done = shell("| true", *words)
        assert done.stderr == ""
