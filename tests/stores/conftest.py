"""One suite for every engine: each test below this folder that asks for a scene runs on all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.servers.valkey import on_path, packaged
from tests.stores.redis_engine import CLUSTER
from tests.stores.scene import ENGINES, Scene

# What needs a server that is not to be had is not collected; the run says so at its end.
collect_ignore_glob = [] if packaged() or on_path() else ["test_redis_*.py"]
collect_ignore = [] if CLUSTER else ["test_redis_cluster.py"]


@pytest.fixture(params=sorted(ENGINES))
async def scene(request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    """A store of this engine; ends by asserting that nothing in it contradicts itself."""
    scene = Scene(ENGINES[request.param]())
    await scene.store.open()
    yield scene
    await scene.close()


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder of this test's own, with room for sockets: their addresses are short."""
    folder = Path(os.path.realpath(tempfile.mkdtemp(prefix="pool-")))
    yield folder
    shutil.rmtree(folder)
