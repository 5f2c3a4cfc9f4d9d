"""Fleets on one Redis: killed, frozen, cut off, and the server restarted and wiped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from tests.servers.valkey import Server, shared
from tests.workers import voyages

pytestmark = pytest.mark.timeout(120)

KEPT: Final = ("--appendonly", "yes", "--appendfsync", "always")
"""A server that has after a restart what it had before."""


@pytest.fixture
def server() -> Iterator[Server]:
    """One of the test's own."""
    with Server(*KEPT) as one:
        yield one


async def test_killed_and_frozen_processes_on_clocks_of_their_own_harm_nobody() -> None:
    await voyages.killed_and_frozen(f"{shared().url}?namespace=killed")


async def test_who_is_cut_off_loses_his_leases_and_harms_nobody() -> None:
    here = "?namespace=cut"
    far = f"redis://127.0.0.1:{{port}}{here}"
    await voyages.cut_off(f"{shared().url}{here}", shared().port, far)


async def test_a_fleet_outlives_a_restart_of_its_server(server: Server) -> None:
    def restart() -> None:
        server.stop()
        server.start()

    await voyages.restarted(server.url, restart, anew=True)


async def test_a_fleet_goes_on_when_its_server_is_wiped(server: Server) -> None:
    await voyages.wiped(server.url, server.flushall)
