"""Fleets on one SQLite file: killed, frozen, on clocks of their own, and with the file gone."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.workers.account import (
    FROZEN_S,
    LIFETIME_S,
    SKEWS_S,
    all_are_accounted_for,
    jobs,
    looking,
    lost_leases,
    remote_is_content,
    settled,
    workers_are_content,
)
from tests.workers.fleet import fleet

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def url() -> Iterator[str]:
    """Of a store that is not there yet; its path is short, as sockets want it."""
    folder = Path(tempfile.mkdtemp(prefix="sp-"))
    yield f"sqlite:///{folder}/pool.db"
    shutil.rmtree(folder)


async def test_a_fleet_shares_one_file_in_peace(url: str) -> None:
    async with fleet(lifetime_s=LIFETIME_S, exchange_latency_s=0.02) as ships:
        usual = jobs(ships.emu, url)
        await ships.start(usual)
        ships.go()
        await ships.turns(150)
        await ships.stop()
        accounts = await settled(ships.emu, usual[0])
        remote_is_content(ships.emu)
        all_are_accounted_for(ships.emu, accounts)
        workers_are_content(ships)


async def test_killed_and_frozen_processes_on_clocks_of_their_own_harm_nobody(url: str) -> None:
    async with fleet(lifetime_s=LIFETIME_S, exchange_latency_s=0.02) as ships:
        usual = jobs(ships.emu, url)
        await ships.start(
            [job._replace(clock_ahead_s=skew) for job, skew in zip(usual, SKEWS_S, strict=True)]
        )
        ships.go()
        await ships.turns(50)
        doomed, frozen, *_ = ships.workers
        async with looking(url) as store:
            await ships.kill_between_creations(doomed, store)
            await ships.turns(40)
            await ships.freeze_holding(frozen, store)
        await asyncio.sleep(FROZEN_S)
        frozen.thaw()
        await ships.turns(40)
        await ships.stop()
        accounts = await settled(ships.emu, usual[0])
        remote_is_content(ships.emu)
        all_are_accounted_for(ships.emu, accounts)
        workers_are_content(ships, {"LeaseLost", "ExchangeUncertain"}, of=[frozen])
        assert lost_leases(frozen) > 0


async def test_a_fleet_goes_on_when_its_file_is_deleted(url: str) -> None:
    async with fleet(lifetime_s=LIFETIME_S, exchange_latency_s=0.02) as ships:
        usual = jobs(ships.emu, url)
        await ships.start(usual)
        ships.go()
        await ships.turns(50)
        for path in Path(url.removeprefix("sqlite:///")).parent.glob("pool.db*"):
            if path.is_file():
                path.unlink()
        before = set(ships.emu.sessions)
        await ships.hear_of_another_epoch()
        await ships.turns(50)
        await ships.stop()
        accounts = await settled(ships.emu, usual[0])
        # What nobody held when the file went is forgotten, and so is whose it was.
        remote_is_content(ships.emu, {"turns_that_lost_a_living_session"})
        assert ships.emu.audit().turns_that_lost_a_living_session <= usual[0].talks
        all_are_accounted_for(ships.emu, accounts, forgotten=before)
        workers_are_content(ships)
