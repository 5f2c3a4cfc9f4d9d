"""`session-pool lease` as a user runs it, against an emulated stack in a process of its own."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.cli.conftest import Said
from tests.cli.processes import (
    PATIENCE_S,
    ROOT,
    command,
    environment,
    read_until,
    run,
    started,
)
from tests.servers.valkey import Server

AGENT = "ri.aip-agents..agent.732cd5b4-7ca7-4219-aabb-6e976faf63b1"
TOKEN = "t0ken-t0ken-t0ken"
RID = r"ri\.aip-agents\.\.session\.[0-9a-f-]{36}"
TELL = 'echo "$SESSION_RID $SESSION_AGENT_RID $SESSION_IS_NEW"'

Env = Mapping[str, str]


@pytest.fixture(scope="module")
def stack() -> Iterator[Env]:
    """The environment that leads to an emulated stack."""
    with started("emulator", "--listen", "127.0.0.1:0", "--create-latency-s", "0", "--json") as emu:
        url = json.loads(read_until(emu, "{")[0])["url"]
        yield {"FOUNDRY_HOSTNAME": url, "FOUNDRY_TOKEN": TOKEN}


@pytest.fixture
def here(stack: Env, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for this process."""
    for name in list(os.environ):
        if name.startswith(("FOUNDRY_", "SESSION_POOL")):
            monkeypatch.delenv(name)
    for name, value in stack.items():
        monkeypatch.setenv(name, value)


def one_line(err: str) -> str:
    assert err.count("\n") == 1, err
    assert TOKEN not in err
    return err.removeprefix("session-pool: ").rstrip("\n")


# ---------------------------------------------------------------------------------- with a command


def test_a_command_gets_the_rid_and_its_exit_code_is_ours(stack: Env) -> None:
    done = run("lease", AGENT, "--", "sh", "-c", f"{TELL}; exit 3", env=stack)
    assert (done.returncode, done.stderr) == (3, "")
    assert re.fullmatch(rf"{RID} {re.escape(AGENT)} 1\n", done.stdout)


def test_a_command_keeps_its_own_dashes_and_its_input(stack: Env) -> None:
    done = subprocess.run(
        command("lease", AGENT, "--", "cat", "-", "--", "/dev/null"),
        cwd=ROOT,
        env=environment(**stack),
        input="words\n",
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "words\n", "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_is_passed_on_and_the_command_ends_as_it_likes(
    stack: Env, number: signal.Signals
) -> None:
    script = (
        "import signal, sys\n"
        f"signal.signal({int(number)}, lambda *_: sys.exit(7))\n"
        "print('ready', flush=True)\n"
        "signal.pause()"
    )
    with started("lease", AGENT, "--", sys.executable, "-c", script, env=stack) as process:
        read_until(process, "ready")
        process.send_signal(number)
        _, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, err) == (7, "")


def test_a_command_that_dies_of_a_signal_is_128_and_its_number(stack: Env) -> None:
    with started("lease", AGENT, "--", "sh", "-c", "echo up; exec sleep 60", env=stack) as process:
        read_until(process, "up")
        process.terminate()
        assert process.wait(PATIENCE_S) == 143
    assert run("lease", AGENT, "--", "sh", "-c", "kill -9 $$", env=stack).returncode == 137


if sys.platform == "linux":  # elsewhere the kernel cannot be asked for it

    def test_a_command_does_not_outlive_a_holder_that_is_killed(stack: Env) -> None:
        stubborn = 'trap "" TERM HUP INT; echo $$; exec sleep 60'
        with started("lease", AGENT, "--", "sh", "-c", stubborn, env=stack) as process:
            end = os.pidfd_open(int(read_until(process, "")[0]))
            process.kill()
            assert select.select([end], [], [], PATIENCE_S)[0]
            os.close(end)


def test_ctrl_c_reaches_a_command_once(stack: Env) -> None:
    ours, theirs = pty.openpty()
    script = (
        "import signal\n"
        "both = {signal.SIGINT, signal.SIGTERM}\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, both)\n"
        "print('ready', flush=True)\n"
        "print('first', signal.sigwait(both).name, flush=True)\n"
        "print('then', signal.sigwait(both).name, flush=True)"
    )

    def on_the_terminal() -> None:
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    words = ("lease", AGENT, "--", sys.executable, "-c", script)
    with started(*words, env=stack, stdin=theirs, preexec_fn=on_the_terminal) as process:
        read_until(process, "ready")
        os.write(ours, b"\x03")
        read_until(process, "first SIGINT")
        process.terminate()  # a second SIGINT would be seen before it
        out, err = process.communicate(timeout=PATIENCE_S)
    os.close(ours)
    os.close(theirs)
    assert (process.returncode, out, err) == (0, "then SIGTERM\n", "")


@pytest.mark.parametrize(
    ("word", "code", "told"),
    [
        ("no-such-command", 127, "there is no command 'no-such-command'"),
        ("./no-such-command", 127, "there is no command './no-such-command'"),
        ("/dev/null", 126, "'/dev/null' is no program that may be run; see chmod +x"),
        ("/", 126, "'/' is no program that may be run; see chmod +x"),
    ],
)
@pytest.mark.usefixtures("here")
def test_a_command_that_cannot_be_run_costs_no_session(
    said: Said, word: str, code: int, told: str
) -> None:
    got, out, err = said("lease", AGENT, "--url", "http://127.0.0.1:1", "--", word)
    assert (got, out, one_line(err)) == (code, "", told)


@pytest.mark.usefixtures("here")
def test_a_program_that_only_shows_itself_as_none_when_run_is_126(
    said: Said, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x00\x01")
    broken.chmod(0o755)
    code, _, err = said("lease", AGENT, "--", str(broken))
    assert code == 126
    assert one_line(err) == f"{broken}: cannot be run: Exec format error"


# ------------------------------------------------------------------------------- without a command


def test_it_prints_the_rid_and_holds_until_the_end_of_input(stack: Env) -> None:
    with started("lease", AGENT, env=stack, stdin=subprocess.PIPE) as process:
        (line,) = read_until(process, "ri.")
        assert re.fullmatch(RID, line)
        assert process.poll() is None
        out, err = process.communicate(timeout=PATIENCE_S)  # closes its input
    assert (process.returncode, out, err) == (0, "", "")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_it_holds_until_a_signal(stack: Env, number: signal.Signals, code: int) -> None:
    with started("lease", AGENT, env=stack, stdin=subprocess.PIPE) as process:
        read_until(process, "ri.")
        process.send_signal(number)
        assert process.wait(PATIENCE_S) == code
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_ctrl_c_ends_it_soon_though_the_store_is_down(stack: Env) -> None:
    with (
        Server() as server,
        started("lease", AGENT, "--store", server.url, env=stack, stdin=subprocess.PIPE) as process,
    ):
        read_until(process, "ri.")
        server.kill()
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 130
        assert time.monotonic() - began < 7.0  # some 2 s, where no other tests are run


def test_json_is_all_of_the_lease(stack: Env) -> None:
    done = run(
        "lease", "orders", "--json", "--conversation", "k",
        env={**stack, "SESSION_POOL__AGENTS__ORDERS__RID": AGENT},
    )  # fmt: skip
    assert done.returncode == 0
    told = json.loads(done.stdout)
    assert re.fullmatch(RID, told.pop("rid"))
    assert told.pop("expires_at").endswith("+00:00")
    assert told == {
        "agent_rid": AGENT,
        "agent_version": "1.0",
        "conversation": "k",
        "is_new": True,
        "generation": 1,
        "replaces": None,
        "replace_reason": None,
        "fence": 1,
    }
    assert "--store sqlite:///pool.db" in one_line(done.stderr)  # memory:// and a conversation


def test_a_reader_who_has_gone_ends_it_without_a_word(stack: Env) -> None:
    with started("lease", AGENT, env=stack, stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        _, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, err) == (1, "")


# -------------------------------------------------------------------------------------- bad input


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("nobody",), 2, "agent: 'nobody' is neither a listed name (none is listed)"),
        (("ri.foundry.main.dataset.1",), 2, "it names a 'dataset' of 'foundry'"),
        ((AGENT, "--conversation", ""), 2, "conversation: the key"),
        ((AGENT, "--timeout", "nan"), 2, "timeout"),
        ((AGENT, "--url", "http://example.com"), 2, "foundry.url (argument): "),
        ((AGENT, "--url", "stack.example.com"), 2, "did you mean https://stack.example.com ?"),
        ((AGENT, "--store", "nothing://"), 2, "store: 'nothing' is no engine; use memory://"),
        ((AGENT, "--store", f"redis://:{TOKEN}[@h"), 2, "pool.store (argument): cannot be read"),
        ((AGENT, "--config", "/no/such.toml"), 2, "file /no/such.toml cannot be read"),
        (
            (AGENT, "--url", "http://127.0.0.1:1", "--timeout", "0.2"),
            1,
            "the host cannot be reached; check url and its port",
        ),
    ],
)
def test_what_cannot_be_is_one_line(
    said: Said, words: tuple[str, ...], code: int, told: str
) -> None:
    got, out, err = said("lease", *words)
    assert (got, out) == (code, "")
    line = one_line(err.split("\n", 1)[1] if err.startswith("session-pool: memory://") else err)
    assert told in line


def test_a_missing_token_is_told_with_the_fix(stack: Env) -> None:
    done = run("lease", AGENT, "--", "true", env={**stack, "FOUNDRY_TOKEN": ""})
    assert (done.returncode, done.stdout) == (2, "")
    assert one_line(done.stderr).startswith("foundry.token: no credentials; set token (FOUNDRY_TOK")


def test_of_several_mistakes_the_first_is_told_and_where_the_others_are() -> None:
    done = run("lease", AGENT)
    assert done.returncode == 2
    assert one_line(done.stderr) == (
        "foundry.url: missing; set it in [foundry], or as FOUNDRY_HOSTNAME "
        "(and 1 more: see session-pool check)"
    )


def test_a_signal_while_it_waits_for_a_session_ends_it(stack: Env) -> None:
    ours, theirs = pty.openpty()
    nobody = {**stack, "FOUNDRY_HOSTNAME": "http://127.0.0.1:1"}
    with started("lease", AGENT, "--", "true", env=nobody, stderr=theirs) as process:
        os.close(theirs)
        told = os.read(ours, 4096)  # somebody sits there, and is told why it takes so long
        process.terminate()
        assert process.wait(PATIENCE_S) == 143
    os.close(ours)
    assert told.startswith(b"session-pool: still trying: create_session: the host cannot be reac")
