"""`session-pool demo` as a user runs it: in real time, for a second or two."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios

import pytest

from tests.cli.processes import (
    PATIENCE_S,
    ROOT,
    command,
    environment,
    interrupt,
    read_until,
    run,
    started,
)

CLAIMS = (
    "exchanges on dead sessions: 0 ",
    "overlapping exchanges: 0 ",
    "sessions with two marks: 0 ",
    "turns that lost a living session: 0 ",
    "texts sent twice: 0 ",
    "turns answered: ",
    "first turns that waited: ",
    "sessions replaced before they expired: ",
    "losses announced: ",
    "conservation: ",
)
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def on_a_terminal(*words: str, **env: str) -> tuple[int, str]:
    """Run a command on a terminal of 80 x 24: its exit code, and all that it drew."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with subprocess.Popen(
        command(*words),
        cwd=ROOT,
        env=environment(**env),
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.STDOUT,
    ) as process:
        os.close(theirs)
        drawn = b""
        while True:
            try:
                octets = os.read(ours, 65536)
            except OSError:  # how Linux says that the other side is closed
                break
            if not octets:
                break
            drawn += octets
        os.close(ours)
        code = process.wait(PATIENCE_S)
    return code, drawn.decode()


def test_in_a_pipe_it_appends_plain_lines_and_ticks_every_claim() -> None:
    done = run("demo", "--seconds", "2", "--seed", "1", env={"PYTHONIOENCODING": "utf-8"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    ticked = [line for line in lines if line.startswith("✓ ")]
    assert len(ticked) == len(CLAIMS)
    for line, claim in zip(ticked, CLAIMS, strict=True):
        assert line.startswith(f"✓ {claim}")
    assert [line.split()[0] for line in lines if re.match(r"(orders|support|travel|all) +\d", line)]
    assert "--seed 1 plays the same parts again" in lines[-1]


def test_json_is_the_summary_and_nothing_else() -> None:
    done = run("demo", "--json", "--seconds", "2", "--seed", "2")
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert told["ok"] is True
    assert told["interrupted"] is False
    assert (told["seed"], told["lifetime_s"]) == (2, 2.0)
    assert 1.5 < told["seconds"] < 10
    assert {name.replace("_", " ") for name in told["claims"]} == {
        claim.partition(":")[0] for claim in CLAIMS
    }
    assert all(set(claim) == {"ok", "value", "text"} for claim in told["claims"].values())
    assert told["claims"]["exchanges_on_dead_sessions"]["value"] == 0
    assert told["claims"]["first_turns_that_waited"]["value"]["of"] > 0
    assert told["audit"]["exchanges"] == told["claims"]["turns_answered"]["value"]["answered"]
    assert set(told["stats"]["agents"]) == {"orders", "support", "travel"}


def test_a_claim_that_fails_makes_the_exit_code_1_and_is_said_on_stderr() -> None:
    done = run("demo", "--json", "--seconds", "2", "--fault", "create:*:early_expiry:by_s=1.8")
    assert done.returncode == 1
    assert re.fullmatch(
        r"session-pool demo: does not hold: exchanges on dead sessions: [1-9].*\n", done.stderr
    )
    told = json.loads(done.stdout)
    assert told["ok"] is False
    assert told["claims"]["exchanges_on_dead_sessions"]["ok"] is False


def test_on_a_terminal_a_table_is_kept_up_to_date_and_a_summary_is_left() -> None:
    code, drawn = on_a_terminal("demo", "--seconds", "1")
    assert code == 0
    assert drawn.count("session-pool demo") > 3  # frames
    assert drawn.count("\x1b[?25l") == drawn.count("\x1b[?25h") == 1  # the cursor is given back
    lines = ESCAPE.sub("", drawn).replace("\r", "\n").split("\n")
    assert max(map(len, lines)) <= 80
    assert any("all 10 claims hold" in line for line in lines)


def test_a_terminal_that_wants_no_colour_gets_plain_lines() -> None:
    code, drawn = on_a_terminal("demo", "--seconds", "1", NO_COLOR="1")
    assert code == 0
    assert "\x1b" not in drawn


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "terminated"]
)
def test_a_signal_ends_it_with_the_summary_so_far(number: signal.Signals, code: int) -> None:
    with started("demo", "--seconds", "60", "--seed", "3") as process:
        read_until(process, "begins")
        interrupt(process, number)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, err) == (code, "")
    assert "interrupted; all 10 claims hold" in out
    assert "exchanges on dead sessions: 0 " in out


def test_json_is_whole_after_ctrl_c_too() -> None:
    # Nothing is printed to wait for, so it is told to end as soon as it can be.
    with started("demo", "--seconds", "60") as twin, started("demo", "--json") as process:
        read_until(twin, "sessions are ready")
        interrupt(process)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, err) == (130, "")
    assert json.loads(out)["interrupted"] is True


def test_a_reader_who_goes_away_ends_it_without_a_word() -> None:
    with started("demo", "--seconds", "60") as process:
        read_until(process, "warming up")
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        _, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, err) == (1, "")
