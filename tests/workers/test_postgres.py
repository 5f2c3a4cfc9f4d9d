"""Fleets on one PostgreSQL: killed, frozen, cut off, and the server restarted."""

from __future__ import annotations

import pytest

from tests.servers.postgres import postgres_server, shared_server
from tests.workers import voyages

pytestmark = pytest.mark.timeout(120)


async def test_killed_and_frozen_processes_on_clocks_of_their_own_harm_nobody() -> None:
    await voyages.killed_and_frozen(f"{shared_server().url()}&namespace=killed")


async def test_who_is_cut_off_loses_his_leases_and_harms_nobody() -> None:
    here, server = "?namespace=cut", shared_server()
    far = f"postgresql://postgres@127.0.0.1:{{port}}/postgres{here}"
    await voyages.cut_off(f"{server.url(tcp=True)}{here}", server.port, far)


async def test_a_fleet_outlives_a_restart_of_its_server() -> None:
    with postgres_server() as server:
        await voyages.restarted(server.url(tcp=True), server.restart, anew=False)
