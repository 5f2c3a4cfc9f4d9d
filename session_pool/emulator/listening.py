"""Listening on an address, going silent, coming back, and stopping promptly.

It knows aiohttp's runner and sites; what is served is not its business.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from aiohttp import web

# All handlers are ended before aiohttp is asked to stop, so this is a safeguard and no wait.
_SHUTDOWN_S: Final = 1.0


class Listener:
    """A web server on one address.

    Args:
        listen: "host:port", "[v6]:port" or "unix:///path".

    Raises:
        ValueError: it is none of these.
    """

    def __init__(self, listen: str) -> None:
        self.url = ""
        self._path: str | None = None
        self._host, self._port = "", 0
        self._runner: web.AppRunner | None = None
        self._site: web.BaseSite | None = None
        scheme, _, path = listen.partition("://")
        if scheme == "unix" and path:
            self._path = path
            return
        host, colon, port = listen.rpartition(":")
        if not colon or not host or not port.isdecimal() or int(port) > 65535:
            raise ValueError(f"listen: {listen!r} is neither host:port nor unix:///path")
        self._host, self._port = host.strip("[]"), int(port)

    async def start(self, app: web.Application) -> None:
        """Serve the application.

        Raises:
            RuntimeError: it was started before.
            OSError: the address cannot be had.
        """
        if self._runner is not None:
            raise RuntimeError("an emulator starts once")
        # A handler whose client hangs up is told so by being cancelled.
        self._runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=_SHUTDOWN_S
        )
        await self._runner.setup()
        try:
            await self.resume()
        except OSError:
            await self._runner.cleanup()
            raise

    async def resume(self) -> None:
        """Listen, at the same address as before if there was one."""
        if self._runner is None or self._site is not None:
            return
        if self._path is not None:
            self._site = web.UnixSite(self._runner, self._path)
            await self._site.start()
            self.url = f"unix://{self._path}"
            return
        site = web.TCPSite(self._runner, self._host, self._port, reuse_address=True)
        await site.start()
        self._site, self._port = site, self._runner.addresses[0][1]
        host = f"[{self._host}]" if ":" in self._host else self._host
        self.url = f"http://{host}:{self._port}"

    async def silence(self) -> None:
        """Stop listening, and break what connections there are."""
        if self._site is not None:
            await self._site.stop()
            self._site = None
        server = self._runner.server if self._runner is not None else None
        for connection in server.connections if server is not None else ():
            if connection.transport is not None:
                connection.transport.abort()
        # Connections end in callbacks of the next turn of the loop, handlers in the one after.
        for _ in range(3):
            await asyncio.sleep(0)

    async def close(self) -> None:
        """Stop for good."""
        await self.silence()
        if self._runner is not None:
            await self._runner.cleanup()
        if self._path is not None:
            _remove(self._path)
        self.url = ""


def _remove(path: str) -> None:
    """Take the socket's file away; Python 3.13 does so itself."""
    Path(path).unlink(missing_ok=True)
