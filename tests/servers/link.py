"""A TCP link to a server under test that can be cut, or lose what the server answers.

Runs in a thread of its own, so that it works whatever the event loop under test is doing.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self


class Link:
    """Forwards 127.0.0.1:`port` to another port.

    Args:
        target: the server's port on 127.0.0.1.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._writers: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self._swallowing = False
        self._open = True
        self._swallowed = threading.Event()
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def swallow_answers(self) -> None:
        """From now on nothing that the server says arrives."""
        self._swallowed.clear()
        self._swallowing = True

    async def wait_swallowed(self) -> None:
        """Return once an answer was swallowed."""
        await asyncio.to_thread(self._swallowed.wait, 10)

    def cut(self) -> None:
        """Break every connection, and accept no more until it is mended."""
        self._open = False
        self._do(self._drop())

    def mend(self) -> None:
        """Be a link again."""
        self._open, self._swallowing = True, False

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._open:
            writer.transport.abort()
            return
        there, away = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers |= {writer, away}
        for source, sink, answers in ((reader, away, False), (there, writer, True)):
            pump = asyncio.create_task(self._pump(source, sink, answers=answers))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        try:
            while data := await source.read(65536):
                if answers and self._swallowing:
                    self._swallowed.set()
                    continue
                sink.write(data)
                await sink.drain()
        except OSError:
            return
        finally:
            sink.close()

    async def _drop(self) -> None:
        writers, self._writers = self._writers, set()
        for writer in writers:
            writer.transport.abort()
        if self._pumps:
            await asyncio.wait(self._pumps)

    async def _end(self) -> None:
        self._server.close()
        await self._drop()
        await self._server.wait_closed()
