"""How a command is told to end: the first signal asks, the second one insists.

Knows signals and the running loop, and none of the commands.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final, TypeVar

T = TypeVar("T")

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
"""What tells a command to end."""

AND_HANGUP: Final = (*SIGNALS, *((signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()))
"""The same, and the end of the terminal, for what has to be given back then too."""


class Stop:
    """A request to end.

    Attributes:
        signal: which signal asked for it last, or None while nothing has.
        instead: takes every signal while it is set; then none of them insists.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.instead: Callable[[signal.Signals], None] | None = None
        self._asked = asyncio.Event()

    def ask(self, by: signal.Signals) -> None:
        """Ask for the end."""
        self.signal = by
        self._asked.set()
        if self.instead is not None:
            self.instead(by)

    async def wait(self) -> signal.Signals:
        """Wait until the end is asked for, and say by what."""
        await self._asked.wait()
        assert self.signal is not None  # noqa: S101 - set before the event, for the type checker
        return self.signal

    async def unless(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Do something unless asked to end before it is done; it is cancelled then.

        Returns:
            What it gave; None if it was cancelled.
        """
        doing = asyncio.ensure_future(work)
        asked = asyncio.ensure_future(self.wait())
        try:
            await asyncio.wait((doing, asked), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (asked, doing):
                task.cancel()
        await asyncio.wait((doing,))
        return None if doing.cancelled() else doing.result()


@contextmanager
def stopping(numbers: Sequence[signal.Signals] = SIGNALS) -> Iterator[Stop]:
    """While the block lasts, the first signal is a request; then they mean again what they did.

    A hang-up that is ignored from the start, as under nohup, stays ignored.
    """
    stop, loop = Stop(), asyncio.get_running_loop()
    # Plain handlers and not the loop's own: these work on every platform and every loop.
    before: dict[signal.Signals, Callable[[int, FrameType | None], Any] | int | None] = {}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)
        before.clear()

    def asked(number: int, _: FrameType | None) -> None:
        if stop.instead is None:
            restore()
        loop.call_soon_threadsafe(stop.ask, signal.Signals(number))

    for number in numbers:
        if number in SIGNALS or signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, asked)
    try:
        yield stop
    finally:
        restore()
