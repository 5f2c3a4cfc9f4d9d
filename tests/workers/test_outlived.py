"""What outlives the process or the server that knew of it: creations, and writes not replicated."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.servers.forwarder import Forwarder
from tests.servers.valkey import Server
from tests.workers.account import (
    LIFETIME_S,
    all_are_accounted_for,
    counted,
    jobs,
    remote_is_content,
    settled,
    workers_are_content,
)
from tests.workers.fleet import fleet
from tests.workers.voyages import EXCHANGE_S, LOSSES

pytestmark = pytest.mark.timeout(120)


async def test_a_creation_outlives_its_process_and_keeps_nobody_waiting() -> None:
    folder = Path(tempfile.mkdtemp(prefix="sp-"))
    async with fleet(lifetime_s=LIFETIME_S) as ships:
        usual = jobs(ships.emu, f"sqlite:///{folder}/pool.db", 2, mix={"wait": 1})
        for rid_and_policy in usual[0].agents.values():
            rid_and_policy[1]["min_idle"] = 0
        await ships.start(usual)
        doomed, other = ships.workers
        async with ships.emu.hold("create", stage="after"):
            doomed.tell("go")
            await ships.emu.wait_for(lambda: counted(ships.emu, "once"))
            ships.kill(doomed)
        other.tell("go")
        await ships.until(lambda: other.served)
        await ships.stop()
        accounts = await settled(ships.emu, usual[0], search=True)
        all_are_accounted_for(ships.emu, accounts)
        workers_are_content(ships)
        # The lost one, the other's, and at most one for the dead one's place in line.
        assert counted(ships.emu, "once") <= 3
    shutil.rmtree(folder)


async def test_a_replica_promoted_without_the_last_writes_is_noticed_by_all() -> None:
    with Server() as primary, Server() as replica:
        async with (
            fleet(lifetime_s=LIFETIME_S, exchange_latency_s=EXCHANGE_S) as ships,
            Forwarder(primary.port) as front,
            Forwarder(primary.port) as between,
        ):
            usual = jobs(ships.emu, front.url)
            await ships.start(usual)
            replica.ask("REPLICAOF", "127.0.0.1", str(between.port))
            ships.go()
            await ships.turns(50)
            await asyncio.to_thread(replica.in_step)
            between.cut()
            await ships.turns(20)  # of which the replica does not hear
            front.cut()
            primary.kill()
            replica.replica_of(None)
            front.heal(replica.port)
            before = set(ships.emu.sessions)
            await ships.hear_of_another_epoch()
            await ships.turns(40)
            await ships.stop()
            accounts = await settled(ships.emu, usual[0])
            # Exclusive and remembered is what the replica knew (B1). The rest is noticed: who held
            # what it gave to others is told so, and nobody goes on unawares.
            remote_is_content(ships.emu, {"turns_that_lost_a_living_session"})
            audit = ships.emu.audit()
            assert audit.turns_that_lost_a_living_session <= usual[0].talks + len(usual)
            all_are_accounted_for(ships.emu, accounts, forgotten=before)
            workers_are_content(ships, LOSSES)
