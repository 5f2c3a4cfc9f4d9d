"""`session-pool emulator`: a local AIP Agents server, to develop and test against.

Knows the emulator only, and turns words of a command line into its settings. It says how to reach
what it started in lines that can be pasted into a shell.
"""

from __future__ import annotations

import difflib
import json
import os
import textwrap
from contextlib import aclosing
from dataclasses import fields
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

from session_pool.cli.stopping import Stop
from session_pool.emulator import KINDS, Emulator, EmulatorSettings

_HINTS: Final = get_type_hints(EmulatorSettings)
_BOOLS: Final = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


def setting(text: str) -> tuple[str, Any]:
    """Read `NAME=VALUE`, where the name is a field of `EmulatorSettings`.

    Raises:
        ValueError: it is none, or the value is of another kind; it says which and what would do.
    """
    name, equals, value = (part.strip() for part in text.partition("="))
    name = name.replace("-", "_")
    names = [one.name for one in fields(EmulatorSettings)]
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(names)}"
        raise ValueError(f"--set: no setting {name!r}; {hint}")
    if not equals:
        raise ValueError(f"--set: {text!r} gives no value; write {name}=VALUE")
    return name, _read(name, value, _HINTS[name])


def _read(name: str, value: str, hint: Any) -> Any:
    """A value of the field's type; whether it can be meant is the settings' business."""
    choices = get_args(hint) if get_origin(hint) is not None else (hint,)
    if get_origin(hint) is tuple:
        return tuple(part.strip() for part in value.split(",") if part.strip())
    for choice in choices:
        if get_origin(choice) is Literal and value in get_args(choice):
            return value
        if get_origin(hint) is Literal and value == str(choice):
            return choice
        if choice is type(None) and value.lower() == "none":
            return None
        if choice is bool and value.lower() in _BOOLS:
            return _BOOLS[value.lower()]
        if choice is str:
            return value
        if choice in (int, float):
            try:
                return choice(value)
            except ValueError:
                continue
    raise ValueError(f"--set: {name}: {value!r} is not {_wanted(hint)}")


def _wanted(hint: Any) -> str:
    """What a field takes, in words."""
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(str(choice) for choice in get_args(hint))
    words = {int: "a whole number", float: "a number", bool: "yes or no", type(None): "none"}
    kinds = get_args(hint) or (hint,)
    told = [
        words[kind] if kind in words else " or ".join(map(str, get_args(kind))) for kind in kinds
    ]
    return " or ".join(told)


async def serve(emulator: Emulator, stop: Stop, *, as_json: bool) -> None:
    """Say how to reach it, and serve until told to stop.

    Args:
        emulator: started; it is closed in the end.
        stop: where the request to end comes in.
        as_json: for programs.
    """
    async with aclosing(emulator):
        print(json.dumps(facts(emulator)) if as_json else "\n".join(hello(emulator)), flush=True)
        await stop.wait()


def reachable(url: str) -> str:
    """Where to go for what listens there; what listens everywhere does so on loopback, too."""
    for every, one in (("http://0.0.0.0:", "http://127.0.0.1:"), ("http://[::]:", "http://[::1]:")):
        if url.startswith(every):
            return one + url.removeprefix(every)
    return url


def facts(emulator: Emulator) -> dict[str, Any]:
    """What a client needs to know, as `--json` prints it."""
    return {
        "url": reachable(emulator.url),
        "token": emulator.token,
        "agent_rid": emulator.agent_rid,
        "client_id": emulator.client_id,
        "client_secret": emulator.client_secret,
        "seed": emulator.seed,
    }


def hello(emulator: Emulator) -> list[str]:
    """The same for people: lines to paste into another shell."""
    url, token = reachable(emulator.url), emulator.token
    base, curl = url, "curl -sS"
    if url.startswith("unix://"):
        base, curl = "http://localhost", f"curl -sS --unix-socket {url.removeprefix('unix://')}"
    lines = [
        "AIP Agents, emulated; nothing leaves this machine. Ctrl-C ends it.",
        "",
        f"  url    {url}",
        f"  token  {token}   (any other one is another user)",
        f"  agent  {emulator.agent_rid}",
        f"  seed   {emulator.seed}",
        "",
    ]
    if base == url:
        lines += [f"export FOUNDRY_HOSTNAME={url}", f"export FOUNDRY_TOKEN={token}", ""]
    return [
        *lines,
        f"{curl} -X POST -H 'Authorization: Bearer {token}' \\",
        "  -H 'Content-Type: application/json' -d '{}' \\",
        f"  '{base}/api/v2/aipAgents/agents/{emulator.agent_rid}/sessions?preview=true'",
    ]


def refusal(listen: str, error: OSError) -> str:
    """Why an address cannot be had, in one line."""
    why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
    return f"cannot listen on {listen}: {why or error}; choose another address with --listen"


def kinds() -> str:
    """The kinds of faults, for the help."""
    lines = []
    for kind, meaning in KINDS.items():
        lines += textwrap.wrap(
            f"  {kind:<17}{meaning}", 76, subsequent_indent=" " * 19, break_on_hyphens=False
        )
    return "\n".join(lines)
