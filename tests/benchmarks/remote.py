"""A remote without HTTP: it makes sessions after a given latency and keeps count.

The benchmarks measure the pool, so nothing but the pool may cost anything. It stands in as
`SessionPool(api=...)`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, Final

from session_pool.errors import RemoteRejected
from session_pool.foundry import Background, SessionPage
from session_pool.model import Exchange, Session, Sighting

AGENT: Final = "ri.aip-agents..agent.00000000-0000-4000-8000-000000000001"
BORN: Final = datetime(2030, 1, 1, tzinfo=UTC)


class Remote:
    """Sessions on demand.

    Args:
        latency_s: of each creation, by the loop's clock; 0 answers at once.
        lifetime_s: of each session.

    Attributes:
        started: when each creation began, by the loop's clock.
        in_flight, most_in_flight: creations under way, now and at most.
        calls: requests of any kind.
    """

    def __init__(self, *, latency_s: float = 0.0, lifetime_s: float = 86_400.0) -> None:
        self.started: list[float] = []
        self.in_flight = self.most_in_flight = self.calls = 0
        self._latency_s = latency_s
        self._lifetime_s = lifetime_s
        self._numbers = count(1)
        self._ends: dict[str, float] = {}

    async def open(self) -> None:
        """Nothing to connect."""

    async def aclose(self) -> None:
        """Nothing to let go of."""

    def background(self) -> Background:
        """Nothing runs behind."""
        return ()

    async def create_session(
        self, agent_rid: str, *, agent_version: str | None = None, timeout_s: float
    ) -> Sighting:
        """A new session, after the latency."""
        now = asyncio.get_running_loop().time
        self.calls += 1
        self.started.append(now())
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            if self._latency_s:
                await asyncio.sleep(self._latency_s)
        finally:
            self.in_flight -= 1
        rid = f"ri.aip-agents..session.00000000-0000-4000-8000-{next(self._numbers):012d}"
        self._ends[rid] = now() + self._lifetime_s
        return self._seen(rid)

    async def get_session(self, agent_rid: str, session_rid: str, *, timeout_s: float) -> Sighting:
        """The session as it stands."""
        self.calls += 1
        return self._seen(session_rid)

    async def list_sessions(
        self,
        agent_rid: str,
        *,
        page_size: int | None = None,
        page_token: str | None = None,
        timeout_s: float,
    ) -> SessionPage:
        """One page of what there is."""
        self.calls += 1
        first, rids = int(page_token or 0), list(self._ends)
        behind = first + (page_size or 100)
        page = tuple(self._seen(rid) for rid in rids[first:behind])
        return SessionPage(page, str(behind) if behind < len(rids) else None)

    async def delete_session(self, agent_rid: str, session_rid: str, *, timeout_s: float) -> None:
        """It is gone."""
        self.calls += 1
        del self._ends[session_rid]

    async def blocking_continue(
        self,
        agent_rid: str,
        session_rid: str,
        *,
        text: str,
        trace_id: str,
        parameter_inputs: Mapping[str, Any] | None = None,
        contexts_override: Sequence[Any] | None = None,
        timeout_s: float,
    ) -> Exchange:
        """Refused: nothing is said here."""
        raise _no_talk()

    def streaming_continue(
        self,
        agent_rid: str,
        session_rid: str,
        *,
        text: str,
        trace_id: str,
        message_id: str,
        parameter_inputs: Mapping[str, Any] | None = None,
        contexts_override: Sequence[Any] | None = None,
        timeout_s: float,
    ) -> AbstractAsyncContextManager[AsyncIterator[str]]:
        """Refused: nothing is said here."""
        raise _no_talk()

    async def cancel(
        self,
        agent_rid: str,
        session_rid: str,
        *,
        message_id: str,
        response: str | None = None,
        timeout_s: float,
    ) -> Exchange | None:
        """Refused: nothing is said here."""
        raise _no_talk()

    async def content(
        self, agent_rid: str, session_rid: str, *, timeout_s: float
    ) -> tuple[Exchange, ...]:
        """Nothing was said."""
        self.calls += 1
        return ()

    async def trace_complete(
        self, agent_rid: str, session_rid: str, trace_id: str, *, timeout_s: float
    ) -> bool:
        """Refused: nothing is said here."""
        raise _no_talk()

    def _seen(self, rid: str) -> Sighting:
        remaining_s = self._ends[rid] - asyncio.get_running_loop().time()
        end = BORN + timedelta(seconds=self._lifetime_s)
        return Sighting(Session(rid, AGENT, "1.0", BORN, BORN, end, 0), remaining_s)


def _no_talk() -> RemoteRejected:
    return RemoteRejected("the benchmarks exchange nothing")
