"""A fleet on a store of its own, and how it stands, for the tests of the operators' commands."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from session_pool.stores.open import open_store
from tests.cli.processes import PATIENCE_S, read_until, started

AGENT = "ri.aip-agents..agent.732cd5b4-7ca7-4219-aabb-6e976faf63b1"
OTHER = "ri.aip-agents..agent.00000000-7ca7-4219-aabb-6e976faf63b1"
NO_SESSION = "ri.aip-agents..session.00000000-0000-4000-8000-000000000000"
TOKEN = "t0ken-t0ken-t0ken"
HOLD = ("sh", "-c", 'echo "$SESSION_RID"; exec sleep 60')

Env = Mapping[str, str]
Says = Callable[..., tuple[int, str, str]]
ORDERS = ("warm", "pause", "resume", "drain", "recycle", "evict", "status")


def begin(folder: Path, stack: str) -> None:
    """A pool of this stack has been there, and has gone."""

    async def come_and_go() -> None:
        at = f"sqlite:///{folder}/pool.db"
        store = open_store(at, clock=time.monotonic, realm=stack.partition("://")[2])
        await store.open()
        await store.aclose()

    asyncio.run(come_and_go())


@contextmanager
def holder(env: Env, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Another process of the fleet: it holds a lease, and keeps two sessions ready."""
    with started("lease", "orders", *words, "--", *HOLD, env=env) as process:
        yield process, read_until(process, "ri.")[0]


def one_line(err: str) -> str:
    """The only line of the errors, without the program's name."""
    assert err.count("\n") == 1, err
    assert TOKEN not in err
    return err.removeprefix("session-pool: ").rstrip("\n")


def numbers(said: Says, *words: str) -> dict[str, Any]:
    """How the agent stands, as `status` says."""
    code, out, err = said("status", *words, "--json")
    assert (code, err) == (0, "")
    (agent,) = json.loads(out)["agents"].values()
    return dict(agent)


def until(said: Says, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The numbers as soon as they are as wanted; other processes make them so, and tell nobody."""
    ends = time.monotonic() + PATIENCE_S
    while not wanted(told := numbers(said)):
        assert time.monotonic() < ends, told
        time.sleep(0.05)
    return told
