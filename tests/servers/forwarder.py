"""A link that can be cut: a TCP forwarder on loopback, in the test's own event loop."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self


class Forwarder:
    """Forwards a port of its own to a server's; an async context manager.

    Attributes:
        port: where to connect.
        target: the server's port; who connects from now on comes there.
        deaf: what the server answers is dropped, for as long as it is true.
    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self.target = target
        self.deaf = False
        self.answered = asyncio.Event()
        self._cut = False
        self._server: asyncio.Server | None = None
        self._ways: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Its address, as a Redis URL without options."""
        return f"redis://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._come, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.cut()
        assert self._server is not None
        self._server.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def cut(self) -> None:
        """End all connections, and let nobody through until `heal`."""
        self._cut = True
        for way in tuple(self._ways):
            way.transport.abort()

    def heal(self, target: int | None = None) -> None:
        """Let them through again, perhaps to another server."""
        self._cut = False
        self.target = self.target if target is None else target

    async def _come(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._ways.add(writer)
        try:
            if self._cut:
                return
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
            self._ways.add(back)
            tasks = [
                asyncio.create_task(self._carry(reader, back, answers=False)),
                asyncio.create_task(self._carry(there, writer, answers=True)),
            ]
            self._tasks.update(tasks)
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                back.transport.abort()
                self._ways.discard(back)
        except OSError:
            return  # the server is not there: neither is this connection
        finally:
            writer.transport.abort()
            self._ways.discard(writer)

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        try:
            while data := await reader.read(1 << 16):
                if answers:
                    self.answered.set()
                    if self.deaf:
                        continue
                writer.write(data)
        except OSError:
            return  # cut
