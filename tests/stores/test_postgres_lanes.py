"""A connection to PostgreSQL that ends under its driver's hands fails a question, and no more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from session_pool import StoreUnavailable
from session_pool.stores.postgres.lanes import Lanes
from session_pool.stores.postgres.wire import Wire


class Ended:
    """A connection that is terminated while it is in use, as by an answer that is too late."""

    def __init__(self) -> None:
        self.closed = False

    def is_closed(self) -> bool:
        """Whether it is good for nothing more."""
        return self.closed

    def terminate(self) -> None:
        """End it."""
        self.closed = True


async def test_asyncpg_stumbles_over_a_connection_that_was_ended_meanwhile() -> None:
    wires: list[Ended] = []

    async def connect() -> Wire:
        wires.append(Ended())
        return cast("Wire", wires[-1])

    async def carry(wire: Wire, _: object, asked: list[Any]) -> Sequence[Any]:
        if len(wires) > 1:
            return asked
        wire.terminate()
        gone: Any = None
        return cast("Sequence[Any]", gone.bind_execute())  # as its introspection does

    lanes = Lanes(connect, "host/database")
    with pytest.raises(StoreUnavailable, match="was closed meanwhile"):
        await lanes.ask("key", "take", carry, 1)
    assert await lanes.ask("key", "take", carry, 2) == 2
    for one in wires:
        one.terminate()
    await lanes.aclose()


async def test_what_is_wrong_with_ourselves_is_not_hidden() -> None:
    async def connect() -> Wire:
        return cast("Wire", Ended())

    async def carry(_wire: Wire, _: object, _asked: list[Any]) -> Sequence[Any]:
        raise ZeroDivisionError

    lanes = Lanes(connect, "host/database")
    with pytest.raises(StoreUnavailable):
        await lanes.ask("key", "take", carry, 1)
    (worker,) = lanes._workers
    with pytest.raises(ZeroDivisionError):
        await worker
    await lanes.aclose()
