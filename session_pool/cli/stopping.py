"""How a command is told to end: the first SIGINT or SIGTERM asks, the second one insists.

Knows signals and the running loop, and none of the commands.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """A request to end.

    Attributes:
        signal: which signal asked for it, or None while nothing has.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._asked = asyncio.Event()

    def ask(self, by: signal.Signals) -> None:
        """Ask for the end."""
        self.signal = by
        self._asked.set()

    async def wait(self) -> signal.Signals:
        """Wait until the end is asked for, and say by what."""
        await self._asked.wait()
        assert self.signal is not None  # noqa: S101 - set before the event, for the type checker
        return self.signal


@contextmanager
def stopping() -> Iterator[Stop]:
    """While the block lasts, the first signal is a request; then they mean again what they did."""
    stop, loop = Stop(), asyncio.get_running_loop()
    # Plain handlers and not the loop's own: these work on every platform and every loop.
    before: dict[signal.Signals, Callable[[int, FrameType | None], Any] | int | None] = {}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)
        before.clear()

    def asked(number: int, _: FrameType | None) -> None:
        restore()
        loop.call_soon_threadsafe(stop.ask, signal.Signals(number))

    for number in SIGNALS:
        before[number] = signal.signal(number, asked)
    try:
        yield stop
    finally:
        restore()
