"""What of the driver's connection is used here, spelled out: the driver ships no types."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol


class Wire(Protocol):
    """One connection, as asyncpg makes it."""

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:
        """Run statements."""

    async def fetch(self, query: str, *args: Any, timeout: float | None = None) -> list[Any]:
        """All rows of a statement."""

    async def fetchrow(self, query: str, *args: Any, timeout: float | None = None) -> Any:
        """The first row, or None."""

    async def fetchval(self, query: str, *args: Any, timeout: float | None = None) -> Any:
        """The first column of the first row, or None."""

    async def add_listener(
        self, channel: str, callback: Callable[[Any, int, str, object], None]
    ) -> None:
        """LISTEN."""

    def add_termination_listener(self, callback: Callable[[Any], None]) -> None:
        """Be told when it ends, whoever ends it."""

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        """A transaction as a block."""

    def is_closed(self) -> bool:
        """Whether it is of no more use."""

    async def close(self, *, timeout: float | None = None) -> None:
        """Say goodbye."""

    def terminate(self) -> None:
        """End it at once, whatever is on its way."""


Connect = Callable[[], Awaitable[Wire]]
