"""Waiting for conditions and holding requests back, so that tests need no sleep.

`Watch` wakes who waits for a condition whenever something changed; a `Gate` holds the requests of
an operation until they are let through. Neither knows what the requests are about.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Literal, Self

Stage = Literal["before", "after"]


class Watch:
    """Conditions that somebody waits for; asked again at each `changed`."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Callable[[], object], asyncio.Future[None]]] = []

    def changed(self) -> None:
        """Something changed: wake those whose condition now holds, or fails."""
        for condition, future in tuple(self._waiting):
            if future.done():
                continue
            try:
                holds = condition()
            except Exception as error:  # noqa: BLE001 - the waiter's own code, so the waiter's error
                future.set_exception(error)
            else:
                if holds:
                    future.set_result(None)

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until the condition holds, asked now and after each change.

        The mere passing of time is no change. Cancelling it leaves nothing behind.
        """
        if condition():
            return
        entry = (condition, asyncio.get_running_loop().create_future())
        self._waiting.append(entry)
        try:
            await entry[1]
        finally:
            self._waiting.remove(entry)


class Gate:
    """Holds the requests of an operation; leaving its block lets all of them through.

    Attributes:
        ops: the operations it holds.
        stage: "before" anything has happened, or "after" the effect, before the answer.
        waiting: how many requests stand before it now.
        reached: how many ever came to it.
    """

    def __init__(self, gates: Gates, ops: frozenset[str], stage: Stage) -> None:
        self._gates = gates
        self._line: deque[asyncio.Future[None]] = deque()
        self._passes = 0
        self.ops = ops
        self.stage = stage
        self.reached = 0

    @property
    def waiting(self) -> int:
        return len(self._line)

    async def wait_waiting(self, count: int = 1) -> None:
        """Wait until at least so many requests stand before the gate."""
        await self._gates.watch.until(lambda: self.waiting >= count)

    def let(self, count: int = 1) -> None:
        """Let so many requests through, in the order they came; those to come included."""
        self._passes += count
        self._serve()

    def open(self) -> None:
        """Let everything through, and hold nothing any more."""
        self._gates.remove(self)
        self._passes += len(self._line)
        self._serve()

    async def stand(self) -> None:
        """A request's side: wait to be let through."""
        self.reached += 1
        if self._passes and not self._line:
            self._passes -= 1
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append(future)
        self._gates.watch.changed()
        try:
            await future
        finally:
            if future in self._line:  # cancelled at shutdown
                self._line.remove(future)

    def _serve(self) -> None:
        while self._passes and self._line:
            self._passes -= 1
            future = self._line.popleft()
            if not future.done():
                future.set_result(None)
        self._gates.watch.changed()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.open()


class Gates:
    """All gates there are; a request passes each one that concerns it, in turn."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self._gates: list[Gate] = []

    def add(self, ops: frozenset[str], stage: Stage) -> Gate:
        """Put up a gate."""
        gate = Gate(self, ops, stage)
        self._gates.append(gate)
        return gate

    def remove(self, gate: Gate) -> None:
        """Take a gate down, if it stands."""
        if gate in self._gates:
            self._gates.remove(gate)

    async def go_through(self, op: str, stage: Stage) -> None:
        """A request's side: pass the gates of this operation and stage."""
        for gate in tuple(self._gates):
            if op in gate.ops and gate.stage == stage and gate in self._gates:
                await gate.stand()
