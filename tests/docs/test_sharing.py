"""The README's "Sharing a pool between workers": its server forks, its terminals are killed."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import pytest

from session_pool.emulator import AGENT_RID, Emulator
from session_pool.model import PoolKey
from session_pool.stores.open import open_store
from tests.docs.generate import ROOT
from tests.docs.test_readme import OPERATING, PYTHON, README, SHELL, environment

SECTION = README.split("## Sharing a pool between workers")[1].split("\n## ")[0]
(TOML,) = re.findall(r"```toml\n(.*?)```", SECTION, re.DOTALL)
(CHAT,) = [code for code in PYTHON if code.startswith("# chat.py")]
SERVE = [line for line in SHELL if line.startswith(("export ", "gunicorn "))]
(LEASE,) = [line for line in SHELL if line.startswith("session-pool lease ")]
ORDERS = [line for line in SHELL if line.split()[1] in OPERATING]
BIN = Path(sys.executable).parent

USERS, TURNS = 6, 4


@asynccontextmanager
async def shell(script: str, place: Path, **env: str) -> AsyncIterator[Process]:
    """A command of the README in a terminal of its own, as it stands there."""
    path = os.pathsep.join([str(BIN), os.environ.get("PATH", "")])
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", script, cwd=place, stdout=PIPE, stderr=PIPE, start_new_session=True,
        env=environment(PATH=path, PYTHONPATH=str(ROOT), **env),
    )  # fmt: skip
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):  # what it ran may outlive it
            os.killpg(process.pid, signal.SIGKILL)
        await process.communicate()


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder whose path is short enough for a socket in it."""
    with TemporaryDirectory(prefix="sp") as folder:
        yield Path(folder)


async def booted(server: Process, workers: int) -> list[int]:
    """The process ids of so many workers, as the server tells of them."""
    assert server.stderr is not None
    pids: list[int] = []
    said: list[str] = []
    async with asyncio.timeout(40):
        while len(pids) < workers:
            line = (await server.stderr.readline()).decode()
            assert line, said
            said.append(line)
            if found := re.search(r"Booting worker with pid: (\d+)", line):
                pids.append(int(found[1]))
    return pids


async def test_a_server_that_forks_its_workers_shares_one_pool(place: Path) -> None:
    (place / "chat.py").write_text(CHAT, encoding="utf-8")
    (place / "session-pool.toml").write_text(TOML, encoding="utf-8")
    async with Emulator() as emu:
        there = {
            "FOUNDRY_HOSTNAME": emu.url,
            "FOUNDRY_TOKEN": emu.token,
            "GUNICORN_CMD_ARGS": f"--bind unix:{place}/chat.sock",
        }
        async with (
            shell("\n".join([*SERVE[:-1], f"exec {SERVE[-1]}"]), place, **there) as server,
            aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(f"{place}/chat.sock", force_close=True)
            ) as http,
        ):
            workers = await booted(server, 4)

            async def turn(user: int, number: int) -> None:
                said = f"turn {number} [[user {user}]]"
                async with http.post(f"http://chat/chat/{user}", data=said) as answer:
                    assert answer.status == 200, await answer.text()
                    reply = json.loads(await answer.text())
                assert reply["context"] == ("new" if number == 1 else "kept")
                assert int(reply["text"][1:].split(" ", 1)[0]) == number, reply

            for number in range(1, TURNS + 1):
                await asyncio.gather(*(turn(user, number) for user in range(USERS)))
                if number == TURNS // 2:
                    os.kill(workers[0], signal.SIGKILL)
                    await booted(server, 1)
            server.send_signal(signal.SIGTERM)
            _, errors = await asyncio.wait_for(server.communicate(), 40)
            assert server.returncode == 0, errors.decode()
        audit = emu.audit()
    assert audit.sessions_with_two_marks == audit.overlapping_exchanges == 0
    assert audit.exchanges_on_dead_sessions == audit.turns_that_lost_a_living_session == 0
    assert audit.exchanges == USERS * TURNS


async def test_of_two_terminals_one_is_killed_and_its_session_is_handed_to_nobody(
    place: Path,
) -> None:
    async with Emulator() as emu:
        there = {
            "FOUNDRY_HOSTNAME": emu.url,
            "FOUNDRY_TOKEN": emu.token,
            # Long enough for who is alive to renew it beside a disk that is busy with other tests.
            "SESSION_POOL__DEFAULTS__LEASE_TTL_S": "3",
            "SESSION_POOL__DEFAULTS__EXCHANGE_TIMEOUT_S": "5",
        }
        run = f"exec {LEASE}"
        async with shell(run, place, **there) as killed, shell(run, place, **there) as other:
            rids = [await rid_of(killed), await rid_of(other)]
            assert len(set(rids)) == 2
            os.kill(killed.pid, signal.SIGKILL)
            key = PoolKey(emu.url.removeprefix("http://"), "default", AGENT_RID)
            url = f"sqlite:///{place}/pool.db"
            await state(url, key, rids[0], "quarantined")
            async with shell(run, place, **there) as third:
                assert await rid_of(third) not in rids
                await state(url, key, rids[0], "retired")
            await state(url, key, rids[1], "leased")
        assert emu.audit().exchanges == 0


async def test_the_orders_are_carried_out_one_after_the_other(place: Path) -> None:
    (place / "session-pool.toml").write_text(TOML, encoding="utf-8")
    async with Emulator(create_latency_s=0.0) as emu:
        there = {"FOUNDRY_HOSTNAME": emu.url, "FOUNDRY_TOKEN": emu.token}
        url, realm = f"sqlite:///{place}/pool.db", emu.url.removeprefix("http://")
        fleet = open_store(url, clock=time.monotonic, realm=realm)
        await fleet.open()  # a pool has been there
        await fleet.aclose()
        async with shell("\n".join(["set -e", SERVE[0], *ORDERS]), place, **there) as terminal:
            out, err = await asyncio.wait_for(terminal.communicate(), 40)
        assert (terminal.returncode, err.decode()) == (0, "")
        assert out.decode().splitlines()[-4:] == [
            "orders has 8 ready",
            "orders is recycled",
            "orders is drained",
            "orders is open",
        ]
        assert emu.audit().sessions_created == 8


async def rid_of(terminal: Process) -> str:
    """What `echo $SESSION_RID` printed."""
    assert terminal.stdout is not None
    async with asyncio.timeout(40):
        line = (await terminal.stdout.readline()).decode().strip()
    assert line.startswith("ri.aip-agents..session."), line
    return line


async def state(url: str, key: PoolKey, rid: str, wanted: str) -> None:
    """Wait until a session has come into a state; "retired" is not being there."""
    store = open_store(url, clock=time.monotonic, realm=key.host)
    await store.open()
    try:
        async with asyncio.timeout(40):
            while True:
                found = [it for it in await store.find(key, rid=rid) if it.state != "chore"]
                if (found[0].state if found else "retired") == wanted:
                    return
                await asyncio.sleep(0.05)  # other processes change it, and nobody rings for that
    finally:
        await store.aclose()
