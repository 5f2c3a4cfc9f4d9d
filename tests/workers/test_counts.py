"""Eight processes make no more sessions than one would: the emulator counts them (B8, B14)."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest

from session_pool.emulator import Emulator
from tests.servers.postgres import shared_server
from tests.servers.valkey import shared
from tests.workers.account import (
    AGENTS,
    all_are_accounted_for,
    counted,
    jobs,
    remote_is_content,
    settled,
    workers_are_content,
)
from tests.workers.fleet import fleet

pytestmark = pytest.mark.timeout(120)

PROCESSES: Final = 8
READY: Final = 4
GENERATIONS: Final = 2

LIFETIME_S: Final = 8.0
REFRESH_AHEAD_S: Final = 4.0
CREATE_S: Final = 0.3

POLICY: Final[dict[str, Any]] = {
    "min_idle": 0, "doubt_s": 0.5, "min_remaining_s": 2.0, "refresh_ahead_s": REFRESH_AHEAD_S,
    "lease_ttl_s": 5.0, "exchange_timeout_s": 5.0, "delete_retired": "all",
}  # fmt: skip


@pytest.fixture(params=["sqlite", "redis", "postgresql"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Of a store that nobody has used."""
    if request.param == "redis":
        yield f"{shared().url}?namespace=counts"
    elif request.param == "postgresql":
        yield f"{shared_server().url()}&namespace=counts"
    else:
        folder = Path(tempfile.mkdtemp(prefix="sp-"))
        yield f"sqlite:///{folder}/pool.db"
        shutil.rmtree(folder)


async def test_eight_processes_make_what_is_needed_and_replace_what_expires_once(url: str) -> None:
    agents = {name: (rid, POLICY) for name, rid in AGENTS.items()}
    agents["warm"] = (AGENTS["warm"], {**POLICY, "min_idle": READY})
    async with fleet(lifetime_s=LIFETIME_S, create_latency_s=CREATE_S) as ships:
        usual = jobs(ships.emu, url, PROCESSES, agents=agents, talks=1, mix={"wait": 1, "talk": 1})
        await ships.start(usual)
        assert (counted(ships.emu, "once"), counted(ships.emu, "talks")) == (0, 0)
        ships.go()  # each wants a session of its own, and all the same conversation
        await ships.until(lambda: all(worker.served for worker in ships.workers))
        await ships.turns(1)
        assert (counted(ships.emu, "once"), counted(ships.emu, "talks")) == (PROCESSES, 1)
        wanted = READY * (1 + GENERATIONS)
        await ships.emu.wait_for(lambda: counted(ships.emu, "warm") >= wanted)
        await ships.stop()
        made = _made_at(ships.emu)
        accounts = await settled(ships.emu, usual[0])
        remote_is_content(ships.emu)
        all_are_accounted_for(ships.emu, accounts)
        workers_are_content(ships)
        assert (counted(ships.emu, "once"), counted(ships.emu, "talks")) == (PROCESSES, 1)
        # A session is due for replacement so long after it was made at the earliest. As many as
        # are to be ready are made in that time, so each was replaced once at the most.
        young_s = LIFETIME_S - REFRESH_AHEAD_S - 1.0
        for first, fifth in zip(made, made[READY:], strict=False):
            assert fifth - first > young_s, [later - earlier for earlier, later in pairwise(made)]


def _made_at(emu: Emulator) -> list[float]:
    return [
        one.created_at.timestamp()
        for one in emu.sessions.values()
        if one.agent_rid == AGENTS["warm"]
    ]
