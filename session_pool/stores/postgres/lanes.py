"""How questions reach the database: a few connections, and a lane per key.

What is asked about one key while a connection is on its way with that key's last questions goes
together with the next: one trip, one lock, one commit for all of them. So processes contend for a
key's lock one by one, not task by task, and few connections carry much.

The tasks that hold the connections belong to the store: a caller that is cancelled drops its future
and never touches a connection (the driver would send a cancel request after it, which may hit
somebody else's question). Knows no SQL and no meaning of what it carries.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, Final

from session_pool.errors import PoolClosed, SessionPoolError, StoreUnavailable
from session_pool.stores.postgres.troubles import ANY, OURS, AnotherEpochError, translated
from session_pool.stores.postgres.wire import Connect, Wire

ANSWER_S: Final = 5.0
"""How long an answer may take, all in all; then the connection is given up with the question."""

CONNECTIONS: Final = 4
"""For questions, at most; they are opened as they are needed."""

TOGETHER: Final = 32
"""Questions of one key in one trip: what a key's lock is held for stays in the milliseconds."""

Carry = Callable[[Wire, Any, list[Any]], Awaitable[Sequence[Any]]]
"""Takes a lane's name and questions, gives as many answers."""


class _Asked:
    """A question on its way."""

    __slots__ = ("future", "question", "wire")

    def __init__(self, question: Any, future: asyncio.Future[Any]) -> None:
        self.question = question
        self.future = future
        self.wire: Wire | None = None


class _Lane:
    """What is asked about one thing, in order."""

    __slots__ = ("asked", "busy", "carry", "doing", "name", "together")

    def __init__(self, name: Hashable, doing: str, carry: Carry, together: int) -> None:
        self.name = name
        self.doing = doing
        self.carry = carry
        self.together = together
        self.asked: deque[_Asked] = deque()
        self.busy = False  # a connection has it, or it waits for one


class Lanes:
    """The connections for questions, and who waits for them.

    Args:
        connect: makes a connection ready for questions; raises what is ours.
        where: host and database, for what is told.
        answer_s: see `ANSWER_S`.
    """

    def __init__(self, connect: Connect, where: str, answer_s: float = ANSWER_S) -> None:
        self._connect = connect
        self._where = where
        self._answer_s = answer_s
        self._loop = asyncio.get_running_loop()
        self._lanes: dict[Hashable, _Lane] = {}
        self._ready: deque[_Lane] = deque()
        self._resting: list[asyncio.Future[None]] = []
        self._workers: set[asyncio.Task[None]] = set()
        self._wires: set[Wire] = set()
        self._busy: set[Wire] = set()
        self._closed = False

    def ask(
        self, name: Hashable, doing: str, carry: Carry, question: Any, *, together: int = TOGETHER
    ) -> asyncio.Future[Any]:
        """Send a question along; its answer, or why there is none, comes by the future.

        Args:
            name: of the lane; what has the same name is carried in order, by the same `carry`.
            doing: what is being done, as a noun, for what is told.
            carry: how it is asked.
            question: for `carry`.
            together: how many go in one trip at most.
        """
        if self._closed:
            raise PoolClosed("the store is closed")
        future: asyncio.Future[Any] = self._loop.create_future()
        asked = _Asked(question, future)
        timer = self._loop.call_later(self._answer_s, self._give_up, asked, doing)
        future.add_done_callback(lambda _: timer.cancel())
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = _Lane(name, doing, carry, together)
        lane.asked.append(asked)
        if not lane.busy:
            lane.busy = True
            self._ready.append(lane)
            self._call_worker()
        return future

    def hang_up(self) -> None:
        """Give up every connection: what they know of the database's functions is outdated."""
        for wire in self._wires:
            wire.terminate()

    async def aclose(self) -> None:
        """End the connections; whoever waits for an answer is told that there is none."""
        self._closed = True
        for wire in self._busy:  # a cancelled question would be followed by a cancel request
            wire.terminate()
        workers = list(self._workers)
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        for lane in self._lanes.values():
            _fail(lane.asked, StoreUnavailable(f"store: {lane.doing}: the store was closed"))
        self._lanes.clear()

    # ------------------------------------------------------------------ who carries

    def _call_worker(self) -> None:
        while self._resting:
            resting = self._resting.pop()
            if not resting.done():
                resting.set_result(None)
                return
        if len(self._workers) < CONNECTIONS:
            worker = self._loop.create_task(self._work(), name="session_pool postgres")
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)

    async def _work(self) -> None:
        wire: Wire | None = None
        try:
            while True:
                if not self._ready:
                    resting: asyncio.Future[None] = self._loop.create_future()
                    self._resting.append(resting)
                    await resting
                    continue
                lane = self._ready.popleft()
                wire = await self._trip(lane, wire)
                if lane.asked:
                    self._ready.append(lane)
                else:
                    lane.busy = False
                    self._lanes.pop(lane.name, None)
        finally:
            if wire is not None:
                await _end(wire)

    async def _trip(self, lane: _Lane, wire: Wire | None) -> Wire | None:
        """Carry what a lane has; the connection, if it is good for more."""
        trip: list[_Asked] = []
        try:
            if wire is None or wire.is_closed():
                wire = None
                wire = await self._connect()
                self._wires.add(wire)
            while lane.asked and len(trip) < lane.together:
                asked = lane.asked.popleft()
                if not asked.future.done():
                    asked.wire = wire
                    trip.append(asked)
            if trip:
                self._busy.add(wire)
                answers = await lane.carry(wire, lane.name, [one.question for one in trip])
                for asked, answer in zip(trip, answers, strict=True):
                    if not asked.future.done():
                        asked.future.set_result(answer)
        except ANY as error:
            trouble = translated(error, lane.doing, self._where)
            trouble.__cause__ = error if trouble is not error else error.__cause__
            # Without a connection nothing of the lane can be asked; else only these were.
            _fail(trip if wire is not None else lane.asked, trouble)
            if wire is not None and not isinstance(trouble, AnotherEpochError):
                wire.terminate()  # what it has prepared may be what is wrong
        except BaseException as error:
            if isinstance(error, Exception) and wire is not None and wire.is_closed():
                # The driver stumbles over a connection that was ended while it prepared something.
                trouble = StoreUnavailable(
                    f"store: {lane.doing}: the connection to {self._where} was closed meanwhile"
                )
                trouble.__cause__ = error
                _fail(trip, trouble)
                return wire
            trouble = StoreUnavailable(f"store: {lane.doing}: the store was closed")
            _fail(trip, trouble)
            _fail(lane.asked, trouble)
            self._lanes.pop(lane.name, None)
            if wire is not None:
                wire.terminate()
            raise
        finally:
            if wire is not None:
                self._busy.discard(wire)
            for asked in trip:
                asked.wire = None
            self._wires = {one for one in self._wires if not one.is_closed()}
        return wire

    def _give_up(self, asked: _Asked, doing: str) -> None:
        if asked.future.done():
            return
        if asked.wire is not None:  # what it is waiting for may come, but not in time
            asked.wire.terminate()
        asked.future.set_exception(
            StoreUnavailable(
                f"store: {doing}: no answer from {self._where} in {self._answer_s:g} s"
            )
        )


def _fail(asked: list[_Asked] | deque[_Asked], trouble: SessionPoolError) -> None:
    for one in asked:
        if not one.future.done():
            own = type(trouble)(str(trouble))  # an exception raised twice mixes two tracebacks
            own.__cause__ = trouble.__cause__
            one.future.set_exception(own)
    asked.clear()


async def _end(wire: Wire) -> None:
    if wire.is_closed():
        return
    try:
        await wire.close(timeout=1)
    except OURS:  # it is given up either way
        wire.terminate()
