"""The remote API through the budget: each call takes its place in line first (B13).

This room joins the two and knows neither's inside. What the remote says of throttling goes from
the one to the other here.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import NamedTuple, ParamSpec, TypeVar

from session_pool.errors import RemoteThrottled
from session_pool.foundry.api import Api
from session_pool.foundry.budget import Budget, Urgency

P = ParamSpec("P")
T = TypeVar("T")


class Turn(NamedTuple):
    """A place in line: how urgent, and since when the need is there (None: now)."""

    urgency: Urgency
    since: float | None = None


class Paced:
    """An `Api` and the `Budget` its calls go through.

    Args:
        api: opened and closed by whoever made it.
        budget: of the principal whose token the api uses.

    A `RemoteThrottled` lowers the budget, and its `retry_after_s` silences it for so long, before
    the error goes on to the caller. The time in line counts against no `timeout_s`: that begins
    with the request, and the caller bounds the whole with `asyncio.timeout`.
    """

    def __init__(self, api: Api, budget: Budget) -> None:
        self.api = api
        self.budget = budget

    async def call(
        self,
        turn: Urgency | Turn,
        method: Callable[P, Awaitable[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Wait for its turn and call: `await paced.call(Urgency.CREATE, api.create_session, ...)`.

        Args:
            turn: how urgent it is; a `Turn` to say since when.
            method: of the api.
            args: for the method.
            kwargs: for the method.
        """
        urgency, since = _both(turn)
        async with self.budget.slot(urgency, since):
            try:
                return await method(*args, **kwargs)
            except RemoteThrottled as error:
                self.budget.throttled(error.retry_after_s)
                raise

    @asynccontextmanager
    async def stream(
        self,
        turn: Urgency | Turn,
        method: Callable[P, AbstractAsyncContextManager[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> AsyncGenerator[T]:
        """Wait for its turn and enter; the place is kept until the stream is left.

        Args:
            turn: how urgent it is; a `Turn` to say since when.
            method: of the api, e.g. `streaming_continue`.
            args: for the method.
            kwargs: for the method.
        """
        urgency, since = _both(turn)
        async with self.budget.slot(urgency, since):
            try:
                async with method(*args, **kwargs) as entered:
                    yield entered
            except RemoteThrottled as error:
                self.budget.throttled(error.retry_after_s)
                raise


def _both(turn: Urgency | Turn) -> Turn:
    return turn if isinstance(turn, Turn) else Turn(turn)
