"""Fixtures of the remote side."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from aioresponses import aioresponses

from session_pool.foundry import FoundryClient, StaticToken
from tests.foundry.stub import URL, Remote


@pytest.fixture
def remote() -> Iterator[Remote]:
    """A remote that is answered for, without a socket."""
    with aioresponses() as mocked:
        yield Remote(mocked)


@pytest.fixture
async def client() -> AsyncIterator[FoundryClient]:
    """A client whose requests take no time by its own clock."""
    client = FoundryClient(URL, StaticToken("t0ken"), clock=lambda: 0.0)
    await client.open()
    yield client
    await client.aclose()
