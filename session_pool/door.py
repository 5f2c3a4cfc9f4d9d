"""Whether a pool hands out anything, here and now: one look for all who ask.

It belongs to one event loop, and may be shut for good or, before it is open, for the time being.
"""

from __future__ import annotations

import asyncio

from session_pool.errors import PoolClosed


class Door:
    """The way into a pool.

    Args:
        refusal: why nothing is handed out; None while it is open. A text: an error that is raised
            for many collects all their tracebacks.

    Attributes:
        loop: the only one in which it is open.
    """

    __slots__ = ("loop", "refusal")

    def __init__(self, refusal: str | None) -> None:
        self.refusal = refusal
        self.loop: asyncio.AbstractEventLoop | None = None

    def check(self) -> None:
        """Raise if the pool may not be used here and now.

        Raises:
            PoolClosed: it is not open, or belongs to another loop or process.
        """
        if self.refusal is not None:
            raise PoolClosed(self.refusal)
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:  # a thread without one
            here = None
        if here is not self.loop:
            raise PoolClosed(
                "this pool was opened in another event loop; open one in each loop that uses it"
            )

    def shut(self) -> PoolClosed | None:
        """Why it is shut, as an error to raise; None while it is open."""
        return None if self.refusal is None else PoolClosed(self.refusal)
