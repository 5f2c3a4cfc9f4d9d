"""Cancelling a coroutine at each of its awaits, one after the other, in every way there is.

A coroutine runs until it suspends; that is where a cancellation reaches it, and the only place. So
the helper counts suspensions, and strikes at the n-th for each n until the coroutine gets through.
Nothing here sleeps or guesses. It knows nothing of pools.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Literal, get_args

import anyio

Work = Callable[[], Awaitable[object]]

Way = Literal["cancel", "late", "timeout", "scope"]
"""How it is cancelled.

cancel: `task.cancel()` as the await begins.
late: `task.cancel()` when what was awaited has come, and the task has not been resumed yet. Such an
    answer is lost to the coroutine; whatever it granted must not be.
timeout: an `asyncio.timeout` whose deadline falls at that moment.
scope: an anyio cancel scope, under which every further await, those of the cleanup too, is
    cancelled again.
"""
WAYS: Final[tuple[Way, ...]] = get_args(Way)

ENDLESS: Final = 500
"""More awaits than anything here can have: a coroutine that never gets through."""


class Counted:
    """Awaits something, counts its suspensions, and strikes at one of them.

    Args:
        work: what is awaited.
        at: the number of the suspension to strike at; the first is 1.
        strike: cancels, in whatever way.
        late: strike when what it waits for has come, rather than as it begins to wait.

    Attributes:
        reached: suspensions so far.
        thrown: cancellations that reached the work.
    """

    def __init__(
        self, work: Awaitable[object], at: int, strike: Callable[[], object], *, late: bool = False
    ) -> None:
        self._work = work
        self._at = at
        self._strike = strike
        self._late = late
        self.reached = 0
        self.thrown = 0

    @property
    def struck(self) -> bool:
        """It came as far as that suspension."""
        return self.reached >= self._at

    def __await__(self) -> Generator[Any, Any, object]:
        inner = self._work.__await__()
        given: Any = None
        error: BaseException | None = None
        while True:
            try:
                if error is not None:
                    awaited = inner.throw(error)
                else:
                    awaited = inner.send(given) if given is not None else next(inner)
            except StopIteration as stop:
                return stop.value
            self.reached += 1
            if self.reached == self._at:
                self._strike_at(awaited)
            try:
                given, error = (yield awaited), None
            except BaseException as caught:  # noqa: BLE001  # the work's own, whatever it is
                error = caught
                self.thrown += isinstance(caught, asyncio.CancelledError)

    def _strike_at(self, awaited: object) -> None:
        if not self._late:
            self._strike()
        elif isinstance(awaited, asyncio.Future):
            # Before the task's own callback, which it adds when it sees the future.
            awaited.add_done_callback(lambda _: self._strike())
        else:
            asyncio.get_running_loop().call_soon(self._strike)


async def cancelled(work: Work, way: Way, at: int) -> bool:
    """Run something in a task of its own and cancel it at its n-th await.

    Args:
        work: makes the awaitable.
        way: how.
        at: n; the first await is 1.

    Returns:
        Whether it had an n-th await.

    Raises:
        AssertionError: it swallowed the cancellation.
        whatever else it raised, in the place of the cancellation or before it.
    """
    run = {"timeout": _by_timeout, "scope": _by_scope}.get(way, _by_cancel)
    counted = await asyncio.get_running_loop().create_task(run(work, way, at))
    return counted.struck


async def at_each_await(scene: Callable[[], AbstractAsyncContextManager[Work]], way: Way) -> int:
    """Cancel something at its n-th await, in a new scene each, for every n until it gets through.

    Args:
        scene: sets up, gives the work, and asserts afterwards what must hold.
        way: how.

    Returns:
        How many awaits there were.
    """
    for at in range(1, ENDLESS):
        try:
            async with scene() as work:
                struck = await cancelled(work, way, at)
        except BaseException as error:
            error.add_note(f"cancelled at await {at}, by {way}")
            raise
        if not struck:
            return at - 1
    raise AssertionError(f"it does not come to an end within {ENDLESS} awaits")


async def _by_cancel(work: Work, way: Way, at: int) -> Counted:
    task = asyncio.current_task()
    assert task is not None
    counted = Counted(work(), at, task.cancel, late=way == "late")
    try:
        await counted
    except asyncio.CancelledError:
        assert counted.struck, "cancelled, and by nobody here"
        assert task.uncancel() == 0, "a cancellation was counted twice"
    else:
        _not_swallowed(counted)
    return counted


async def _by_timeout(work: Work, way: Way, at: int) -> Counted:
    scope = asyncio.timeout(None)
    loop = asyncio.get_running_loop()
    counted = Counted(work(), at, lambda: scope.reschedule(loop.time()))
    try:
        async with scope:
            await counted
            _not_swallowed(counted)
    except TimeoutError:
        if not scope.expired():
            raise
    return counted


async def _by_scope(work: Work, way: Way, at: int) -> Counted:
    with anyio.CancelScope() as scope:
        counted = Counted(work(), at, scope.cancel)
        await counted
        _not_swallowed(counted)
    if counted.struck and counted.thrown:  # a deadline of the work's own cancels it too
        assert scope.cancelled_caught, "the scope's cancellation did not come back to it"
    return counted


def _not_swallowed(counted: Counted) -> None:
    assert not (counted.struck and counted.thrown), "the cancellation was swallowed"
