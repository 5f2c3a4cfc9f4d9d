"""`session-pool emulator`: it says how to reach it, serves, fails as told, and ends promptly."""

from __future__ import annotations

import json
import re
import shlex
import signal
import socket
import urllib.error
import urllib.request
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from session_pool.cli.emulate import reachable, setting
from session_pool.emulator import KINDS, EmulatorSettings
from tests.cli.conftest import Said
from tests.cli.processes import PATIENCE_S, interrupt, read_until, run, started

HERE = ("--listen", "127.0.0.1:0")


def create(url: str, token: str, agent: str) -> tuple[int, Any]:
    """Ask for a session, with nothing of the package: status and body."""
    request = urllib.request.Request(  # noqa: S310 - the emulator's own address
        f"{url}/api/v2/aipAgents/agents/{agent}/sessions?preview=true",
        data=b"{}",
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:  # noqa: S310 - as above
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_the_printed_token_makes_a_session_at_the_printed_address() -> None:
    with started("emulator", *HERE, "--create-latency-s", "0", "--json") as process:
        (line,) = read_until(process, "{")
        told = json.loads(line)
        status, session = create(told["url"], told["token"], told["agent_rid"])
        interrupt(process, signal.SIGTERM)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert status == 200
    assert session["rid"].startswith("ri.aip-agents..session.")
    assert set(told) == {"url", "token", "agent_rid", "client_id", "client_secret", "seed"}
    assert (process.returncode, out, err) == (0, "", "")


def test_people_get_lines_to_paste() -> None:
    with started("emulator", *HERE, "--seed", "5") as process:
        lines = read_until(process, "preview=true")
        interrupt(process)
        _, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, err) == (130, "")
    text = "\n".join(lines)
    (url,) = re.findall(r"^export FOUNDRY_HOSTNAME=(http://127\.0\.0\.1:\d+)$", text, re.M)
    (token,) = re.findall(r"^export FOUNDRY_TOKEN=(\S+)$", text, re.M)
    assert re.search(r"^  seed   5$", text, re.M)
    words = shlex.split(text[text.index("curl ") :].replace("\\\n", " "))
    assert words[:4] == ["curl", "-sS", "-X", "POST"]
    assert f"Authorization: Bearer {token}" in words
    assert words[-1].startswith(f"{url}/api/v2/aipAgents/agents/ri.aip-agents..agent.")


@pytest.mark.parametrize(
    ("listens", "told"),
    [
        ("http://0.0.0.0:8760", "http://127.0.0.1:8760"),
        ("http://[::]:8760", "http://[::1]:8760"),
        ("http://127.0.0.1:8760", "http://127.0.0.1:8760"),
        ("http://10.0.0.0:8760", "http://10.0.0.0:8760"),
        ("unix:///run/0.0.0.0", "unix:///run/0.0.0.0"),
    ],
)
def test_what_listens_everywhere_is_told_by_an_address_to_go_to(listens: str, told: str) -> None:
    assert reachable(listens) == told


def test_faults_and_settings_are_in_force() -> None:
    options = ("--fault", "create:1:AgentNotFound", "--set", "any_agent=no")
    latency = ("--create-latency-s", "0", "--set", "fresh_title=Fresh")
    with started("emulator", *HERE, *options, *latency, "--json") as process:
        told = json.loads(read_until(process, "{")[0])
        where = (told["url"], told["token"], told["agent_rid"])
        assert create(*where)[1]["errorName"] == "AgentNotFound"
        assert create(*where)[1]["metadata"]["title"] == "Fresh"
        other = "ri.aip-agents..agent.00000000-0000-4000-8000-000000000000"
        assert create(*where[:2], other)[1]["errorName"] == "AgentNotFound"


def test_a_unix_socket_is_told_as_one(tmp_path: Path) -> None:
    path = tmp_path / "emulator.sock"
    with started("emulator", "--listen", f"unix://{path}") as process:
        text = "\n".join(read_until(process, "preview=true"))
        assert path.is_socket()
        interrupt(process, signal.SIGTERM)
        process.communicate(timeout=PATIENCE_S)
    assert f"--unix-socket {path}" in text
    assert "FOUNDRY_HOSTNAME" not in text
    assert not path.exists()


def test_an_address_in_use_is_one_line_and_exit_code_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run("emulator", "--listen", where)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"session-pool: cannot listen on {where}: Address already in use; "
        "choose another address with --listen\n"
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--fault", "create:1:lost_aftr"), "did you mean 'lost_after'?"),
        (("--fault", "create"), "expected operation:which:kind"),
        (("--listen", "nowhere"), "neither host:port nor unix:///path"),
        (("--set", "on_disconect=abandon"), "did you mean on_disconnect?"),
        (("--set", "on_disconnect=perhaps"), "not one of finish, abandon"),
        (("--set", "on_disconnect"), "write on_disconnect=VALUE"),
        (("--set", "latency_s=-1"), "latency_s: -1.0 is less than 0"),
        (("--set", "extended_by=exchange,gett"), "extended_by: unknown operation 'gett'"),
        (("--set", "clock_offset_s=nan"), "clock_offset_s: must be finite"),
        (("--lifetime-s", "-1"), "lifetime_s: -1.0 is less than 0"),
        (("--lifetime-s", "soon"), "'--lifetime-s'"),
        (("--sed", "1"), "No such option"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    said: Said, words: tuple[str, ...], told: str
) -> None:
    code, out, err = said("emulator", *words)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert err.startswith("session-pool: ")
    assert told in err


def test_help_has_an_example_and_lists_every_kind_of_fault(said: Said) -> None:
    _, text, _ = said("emulator", "--help")
    assert "session-pool emulator --lifetime-s 60 --fault create:3:lost_after" in text
    assert [kind for kind in KINDS if f"\n    {kind} " not in text] == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("lifetime_s=60", 60.0),
        ("lifetime_s = inf", float("inf")),
        ("clock-offset-s=-3.5", -3.5),
        ("context_limit=4", 4),
        ("context_limit=none", None),
        ("any_agent=no", False),
        ("fresh_title=a=b", "a=b"),
        ("extended_by=exchange, get", ("exchange", "get")),
        ("extended_by=", ()),
        ("throttle_status=503", 503),
        ("concurrent_continue=serialise", "serialise"),
        ("fraction_digits=3", 3),
        ("fraction_digits=vary", "vary"),
    ],
)
def test_a_setting_is_read_as_its_field_wants_it(text: str, value: object) -> None:
    name, read = setting(text)
    assert (read, type(read)) == (value, type(value))
    EmulatorSettings(**{name: read})


@pytest.mark.parametrize("one", fields(EmulatorSettings), ids=lambda one: one.name)
def test_every_setting_can_be_given_its_default(one: Any) -> None:
    shown = ",".join(one.default) if isinstance(one.default, tuple) else str(one.default)
    assert setting(f"{one.name}={shown}") == (one.name, one.default)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("lifetime_s=soon", "is not a number"),
        ("context_limit=few", "is not a whole number or none"),
        ("any_agent=perhaps", "is not yes or no"),
        ("fraction_digits=many", "is not a whole number or vary"),
        ("throttle_status=500", "is not one of 429, 503"),
        ("nothing_like_it=1", "known are lifetime_s, "),
    ],
)
def test_a_setting_that_cannot_be_read_says_what_would_do(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        setting(text)
