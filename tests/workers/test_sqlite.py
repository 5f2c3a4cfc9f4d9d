"""Fleets on one SQLite file: in peace, killed, frozen, on clocks of their own, the file gone."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.workers import voyages

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def path() -> Iterator[Path]:
    """Of a store that is not there yet; it is short, as sockets want it."""
    folder = Path(tempfile.mkdtemp(prefix="sp-"))
    yield folder / "pool.db"
    shutil.rmtree(folder)


async def test_a_fleet_shares_one_file_in_peace(path: Path) -> None:
    await voyages.in_peace(f"sqlite:///{path}")


async def test_killed_and_frozen_processes_on_clocks_of_their_own_harm_nobody(path: Path) -> None:
    await voyages.killed_and_frozen(f"sqlite:///{path}")


async def test_a_fleet_goes_on_when_its_file_is_deleted(path: Path) -> None:
    def delete() -> None:
        for part in ("", "-wal", "-shm"):
            Path(f"{path}{part}").unlink(missing_ok=True)

    await voyages.wiped(f"sqlite:///{path}", delete)
