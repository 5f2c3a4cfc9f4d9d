"""The way to the server: made, looked after, and made again when it breaks.

Reconnects by itself, with growing pauses, so that bells and a lost epoch are noticed though nobody
asks. Knows how to find the node of a cluster that has the keys; knows no operation of the store.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

import hiredis

from session_pool.errors import ConfigError, SessionPoolError, StoreUnavailable
from session_pool.stores.redis.address import Address
from session_pool.stores.redis.greeting import Greeting, Node, greet
from session_pool.stores.redis.trouble import translated
from session_pool.stores.redis.wire import ANSWER_S, Wire, command

PAUSES_S: Final = (0.02, 0.05, 0.1, 0.2, 0.5)
"""Between attempts; the last one for ever, so that who waits is served soon after the return."""

REDIRECTS: Final = 5
"""How often one node of a cluster may send us to another before it counts as away."""

_log: Final = logging.getLogger(__name__)


class Link:
    """One connection, for as long as the store is open.

    Args:
        address: where to.
        key: any key of the namespace.
        channels: the bells that are heard.
        heard: told of each ring: the channel, and what was said.
        arrived: awaited on each new connection before anybody may use it; what it raises makes the
            attempt fail.

    Attributes:
        wire: the connection; None while there is none.
        shown: the server, as errors name it.
    """

    def __init__(
        self,
        address: Address,
        key: bytes,
        channels: Sequence[bytes],
        heard: Callable[[bytes, bytes], None],
        arrived: Callable[[Wire, Greeting], Awaitable[None]],
    ) -> None:
        self.wire: Wire | None = None
        self.address = address
        self.shown = address.shown
        self._key = key
        self._channels = channels
        self._heard = heard
        self._arrived = arrived
        self._nodes: tuple[Node, ...] = ()
        self._mending: asyncio.Task[None] | None = None
        self._coming: asyncio.Future[Wire] | None = None
        self._closed = False

    async def open(self) -> None:
        """Connect for the first time.

        Raises:
            ConfigError, StoreMismatch, StoreUnavailable: see `Store.open`.
        """
        self.wire = await self._connect()

    async def aclose(self) -> None:
        """Let go of the connection, and of the task that would make it anew."""
        self._closed = True
        mending, self._mending = self._mending, None
        if mending is not None:
            mending.cancel()
            with suppress(asyncio.CancelledError):
                await mending
        wire, self.wire = self.wire, None
        if wire is not None:
            wire.end(ConnectionAbortedError("the store is closed"))
            await asyncio.sleep(0)  # the transport lets go of its socket in the next turn
        self._tell(StoreUnavailable("the store is closed"))

    async def ready(self) -> Wire:
        """The connection, once there is one.

        Raises:
            StoreUnavailable: the next attempt failed, or none ended in time.
        """
        if self.wire is not None:
            return self.wire
        if self._closed:
            raise StoreUnavailable(f"the store at {self.shown} is closed")
        if self._coming is None:
            self._coming = asyncio.get_running_loop().create_future()
        coming = self._coming
        try:
            async with asyncio.timeout(ANSWER_S):
                return await asyncio.shield(coming)
        except TimeoutError as error:
            raise translated(error, self.shown, "connecting") from error

    def lost(self, wire: Wire, reason: Exception) -> None:
        """This connection leads nowhere any more."""
        wire.end(ConnectionResetError(str(reason)))

    # ------------------------------------------------------------------ connecting

    async def _connect(self) -> Wire:
        # The URL's own address first; in a cluster any node that was ever named will do.
        try:
            return await self._attempt(None)
        except SessionPoolError:
            for node in self._nodes:
                with suppress(SessionPoolError):  # the first one's is told
                    return await self._attempt(node)
            raise

    async def _attempt(self, node: Node | None) -> Wire:
        for _ in range(REDIRECTS):
            address = self.address
            if node is not None:
                address = replace(address, host=node[0], port=node[1], unix=None)
            wire: Wire | None = None
            try:
                async with asyncio.timeout(ANSWER_S):
                    wire = await self._dial(address)
                    greeting = await greet(wire, address, self._key)
                    self._nodes = greeting.nodes or self._nodes
                    node = greeting.owner
                    if node is None:
                        await self._settle_in(wire, greeting)
                        self.shown = address.shown
                        arrived, wire = wire, None
                        return arrived
            except (OSError, hiredis.HiredisError) as error:
                raise translated(error, address.shown, "opening the store") from error
            finally:
                if wire is not None:
                    wire.end(ConnectionAbortedError("given up"))
        raise StoreUnavailable(f"opening the store: the cluster at {self.shown} has no owner yet")

    async def _dial(self, address: Address) -> Wire:
        loop = asyncio.get_running_loop()

        def make() -> Wire:
            return Wire(self._pushed, self._ended)

        if address.unix is not None:
            _, wire = await loop.create_unix_connection(make, address.unix)
        else:
            _, wire = await loop.create_connection(
                make, address.host, address.port, ssl=address.tls
            )
        return wire

    async def _settle_in(self, wire: Wire, greeting: Greeting) -> None:
        # A refused subscription is an answer where a push was due, and so comes to the ping.
        for channel in self._channels:
            wire.send(command(greeting.subscribe, channel))
        answer = await wire.ask(command(b"PING"))
        if isinstance(answer, hiredis.ReplyError):
            raise translated(answer, self.shown, "listening for bells") from answer
        await self._arrived(wire, greeting)

    # ------------------------------------------------------------------ what comes, and what ends

    def _pushed(self, message: Sequence[Any]) -> None:
        if message[0] in (b"message", b"smessage"):
            self._heard(message[1], message[2])
        elif message[0] == b"sunsubscribe" and self.wire is not None:
            # A node of a cluster says so when the keys have gone to another.
            self.lost(self.wire, ConnectionResetError("the namespace has another node now"))

    def _ended(self, wire: Wire, reason: Exception) -> None:
        if wire is not self.wire:
            return
        self.wire = None
        if not self._closed and self._mending is None:
            _log.warning("the store at %s is lost: %s", self.shown, reason)
            self._mending = asyncio.get_running_loop().create_task(self._mend())

    async def _mend(self) -> None:
        attempts = 0
        while True:
            try:
                wire = await self._connect()
            except SessionPoolError as error:
                self._tell(error)
                pause_s = PAUSES_S[min(attempts, len(PAUSES_S) - 1)]
                attempts += 1
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311  # no secret
                continue
            if not wire.alive:
                continue
            self.wire, self._mending = wire, None
            _log.info("the store at %s is back", self.shown)
            self._tell(wire)
            return

    def _tell(self, outcome: Wire | SessionPoolError) -> None:
        coming, self._coming = self._coming, None
        if coming is None or coming.done():
            return
        if isinstance(outcome, Wire):
            coming.set_result(outcome)
            return
        if isinstance(outcome, ConfigError):  # it was right once, so it may be again
            outcome = StoreUnavailable(str(outcome))
        coming.set_exception(outcome)
        coming.exception()  # nobody may have waited for it
