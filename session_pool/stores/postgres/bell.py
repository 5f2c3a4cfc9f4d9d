"""The doorbell: one connection that listens on a channel of its own.

It is also the first to notice that the server went away, and tells so when it has found it again.
Rings may be lost with it: grants are state, so who waits also asks again from time to time.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from secrets import token_hex
from typing import Any, Final

from session_pool.errors import ConfigError
from session_pool.stores.postgres.troubles import ANY, OURS
from session_pool.stores.postgres.wire import Connect, Wire

PING_S: Final = 15.0
"""A connection that is silent for so long is asked whether it is there."""

FIRST_S, LONGEST_S = 0.05, 2.0
"""Between attempts to reach the server again: doubled from the one to the other, with jitter."""

HELLO_S: Final = 3.0
"""Within this time a ring to oneself is heard, or something between keeps rings away."""

HELLO: Final = "hello"


class Bell:
    """Listens on one channel.

    Args:
        connect: makes a connection.
        ring: told the payload of each notification, in the event loop.
        back: awaited once the bell hears again after it was deaf.

    Attributes:
        channel: of this bell alone.
    """

    def __init__(
        self,
        connect: Connect,
        ring: Callable[[str], None],
        back: Callable[[], Awaitable[None]],
    ) -> None:
        self.channel = f"session_pool_{token_hex(8)}"
        self._connect = connect
        self._ring = ring
        self._back = back
        self._wire: Wire | None = None
        self._deaf = asyncio.Event()
        self._hello = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def open(self, wire: Wire) -> None:
        """Listen on this connection, and on another when it breaks.

        Raises:
            ConfigError: what is rung is not heard.
        """
        await self._listen(wire)
        await wire.execute(f"SELECT pg_notify('{self.channel}', '{HELLO}')", timeout=HELLO_S)
        try:
            async with asyncio.timeout(HELLO_S):
                await self._hello.wait()
        except TimeoutError:
            raise ConfigError(
                "store: LISTEN is not heard: is there a pooler like PgBouncer in transaction or "
                "statement mode? Name the server itself in the URL, or a pool in session mode"
            ) from None
        self._task = asyncio.get_running_loop().create_task(self._keep(), name="session_pool bell")

    async def aclose(self) -> None:
        """Listen no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        wire, self._wire = self._wire, None
        if wire is not None and not wire.is_closed():
            wire.terminate()  # nothing is on its way that could be lost

    async def _listen(self, wire: Wire) -> None:
        self._wire = wire
        self._deaf.clear()
        wire.add_termination_listener(self._on_end)
        await wire.add_listener(self.channel, self._on_notice)

    def _on_end(self, wire: Any) -> None:
        if wire is self._wire:
            self._deaf.set()

    def _on_notice(self, wire: Any, pid: int, channel: str, payload: object) -> None:  # noqa: ARG002  # the driver's
        if payload == HELLO:
            self._hello.set()
        else:
            self._ring(str(payload))

    async def _keep(self) -> None:
        while True:
            await self._until_deaf()
            await self._again()

    async def _until_deaf(self) -> None:
        while not self._deaf.is_set():
            try:
                async with asyncio.timeout(PING_S):
                    await self._deaf.wait()
            except TimeoutError:
                await self._ping()

    async def _ping(self) -> None:
        wire = self._wire
        try:
            if wire is not None:
                await wire.execute("SELECT 1", timeout=PING_S / 3)
        except OURS:
            self._deaf.set()
            if wire is not None:
                wire.terminate()

    async def _again(self) -> None:
        pause = FIRST_S
        while True:
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311  # jitter, no secret
            pause = min(LONGEST_S, 2 * pause)
            wire: Wire | None = None
            try:
                wire = await self._connect()
                await self._listen(wire)
                await self._back()
            except ANY:  # not yet; whoever asks meanwhile is told why
                if wire is not None:
                    wire.terminate()
            except BaseException:
                if wire is not None:
                    wire.terminate()
                raise
            else:
                return
