"""A pool and an emulator under one roof, in virtual time, and what must be true when it closes.

`async with house(...)` inside the test (a looptime test has another clock than its fixtures). On
the way out it asserts that no session is unaccounted for (B24), that none of the pool's tasks is
left, and that the emulator saw nothing that a pool must never do.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, Final, TypeVar

from session_pool import (
    Agent,
    AgentPolicy,
    Lease,
    PoolStats,
    Reply,
    SessionPool,
)
from session_pool.emulator import AgentSetup, Emulator
from session_pool.events import Event, OrphanFound, SessionDeleted
from tests.stores.awaiting import AwaitingStore

E = TypeVar("E", bound=Event)
T = TypeVar("T")

COLD: Final = AgentPolicy(min_idle=0)
"""Nothing is made that nobody asked for: sessions can be counted exactly."""

LEFT: Final = ("turns_that_lost_a_living_session",)
"""For tests in which a conversation leaves a living session behind on purpose."""

OTHER_RID: Final = "ri.aip-agents..agent.00000000-0000-4000-8000-00000000000b"


def conserve(stats: PoolStats) -> None:
    """Assert B24 for the pool and for each of its agents."""
    for one in (stats, *stats.agents.values()):
        there = one.idle + one.leased + one.parked + one.quarantined + one.retiring
        assert one.created + one.adopted == there + one.retired, one


class House:
    """A pool, its emulator, and what happened.

    Attributes:
        emu, pool: the two.
        agent: the short name of the agent that most tests use.
        events: what the pool has told so far.
    """

    def __init__(self, emu: Emulator, pool: SessionPool, agent: str) -> None:
        self.emu = emu
        self.pool = pool
        self.agent = agent
        self.events: list[Event] = []
        self._turns = count(1)

    @property
    def stats(self) -> PoolStats:
        """The pool's numbers now, found to be conserved."""
        stats = self.pool.stats()
        conserve(stats)
        return stats

    def happened(self, kind: type[E]) -> list[E]:
        """The events of a kind so far."""
        return [event for event in self.events if isinstance(event, kind)]

    async def lease(self, **wish: Any) -> Lease:
        """Acquire one of the usual agent's sessions."""
        return await self.pool.acquire(self.agent, **wish)

    def words(self, key: str) -> str:
        """What was never said before, marked for the emulator's audit."""
        return f"turn {next(self._turns)} [[{key}]]"

    def ask(self, key: str, text: str = "", **more: Any) -> Coroutine[Any, Any, Reply]:
        """One turn of a conversation, its text marked for the emulator's audit."""
        said = f"{text} [[{key}]]" if text else self.words(key)
        return self.pool.conversation(self.agent, key).ask(said, **more)

    async def until(self, condition: Callable[[], object], *, within_s: float = 3600.0) -> None:
        """Let virtual time pass until the condition holds."""
        pause_s = 0.05
        async with asyncio.timeout(within_s):
            while not condition():
                await asyncio.sleep(pause_s)
                pause_s = min(1.0, 1.05 * pause_s)

    async def _listen(self) -> None:
        async for event in self.pool.subscribe():
            self.events.append(event)


@asynccontextmanager
async def house(
    *,
    policy: AgentPolicy = COLD,
    agents: dict[str, Agent] | None = None,
    pool: dict[str, Any] | None = None,
    close_s: float = 10.0,
    dirty: Sequence[str] = (),
    exact: bool = True,
    emulated: dict[str, AgentSetup] | None = None,
    **emulator: Any,
) -> AsyncIterator[House]:
    """An emulator and an open pool with the agent "orders".

    Args:
        policy: the pool's.
        agents: instead of "orders" alone; the first is the usual one.
        pool: more arguments of `SessionPool`.
        close_s: for `aclose`.
        dirty: counters of the audit that this test fills on purpose.
        exact: the emulator made what the pool counts, unsettled ones at most aside.
        emulated: agents as the emulator has them.
        emulator: its settings.
    """
    before = asyncio.all_tasks()
    async with Emulator(agents=emulated, **emulator) as emu:
        agents = agents or {"orders": Agent(emu.agent_rid)}
        given = {"url": emu.url, "token": emu.token, **(pool or {})}
        opened = SessionPool(policy=policy, agents=agents, **given)
        home = House(emu, opened, next(iter(agents)))
        await opened.open()
        listening = asyncio.create_task(home._listen())
        try:
            yield home
        finally:
            await opened.aclose(timeout=close_s)
            await listening
        stats = home.stats
        assert stats.leased == stats.creating == stats.waiting == 0, stats
        audit_is_clean(emu, dirty)
        if exact:
            unaccounted = emu.audit().sessions_created - stats.created - stats.adopted
            assert 0 <= unaccounted <= stats.unsettled + left_alone(home), (emu.audit(), stats)
        left = {
            task.get_name()
            for task in asyncio.all_tasks() - before
            if task.get_name().startswith("session_pool")
        }
        assert not left, left


def left_alone(home: House) -> int:
    """Sessions of lost creations that the pool found, and did not keep (B12)."""
    deleted = [it for it in home.happened(SessionDeleted) if it.reason == "orphan"]
    return len(home.happened(OrphanFound)) + len(deleted)


def audit_is_clean(emu: Emulator, dirty: Sequence[str] = ()) -> None:
    """Assert that the remote saw nothing that a pool must never do."""
    audit = emu.audit()
    for name in (
        "exchanges_on_dead_sessions",
        "overlapping_exchanges",
        "sessions_with_two_marks",
        "turns_that_lost_a_living_session",
        "double_begun_texts",
    ):
        assert name in dirty or getattr(audit, name) == 0, (name, audit)


async def spin(times: int) -> None:
    """Let the loop turn, without time passing."""
    for _ in range(times):
        await asyncio.sleep(0)


async def outcome(work: Awaitable[T]) -> T | BaseException:
    """What became of it: its value, or what it raised (a cancellation too)."""
    (result,) = await asyncio.gather(work, return_exceptions=True)
    return result


class LocalClock:
    """Seconds by the running loop, and as many more as a test lets pass at once.

    A jump is a machine that slept or a process that was frozen: no timer fired meanwhile.
    """

    def __init__(self, begin: float = 0.0) -> None:
        self.ahead_s = begin

    def __call__(self) -> float:
        return asyncio.get_running_loop().time() + self.ahead_s


def distant_store() -> AwaitingStore:
    """A store that is awaited, on a clock that a test may let jump."""
    return AwaitingStore(LocalClock())


@asynccontextmanager
async def another(
    home: House, store: AwaitingStore, *, policy: AgentPolicy = COLD
) -> AsyncIterator[SessionPool]:
    """A second process on the same store: a pool with its own way there.

    Args:
        home: whose agents and remote.
        store: the second one's; made with `shared=` the first one's.
        policy: as of the first.
    """
    agents = {home.agent: Agent(home.emu.agent_rid)}
    async with SessionPool(
        url=home.emu.url, token=home.emu.token, policy=policy, agents=agents, store=store
    ) as pool:
        yield pool


async def kill(pool: SessionPool, store: AwaitingStore) -> None:
    """End a process as `kill -9` does: nothing more leaves it, and it tells nobody.

    Args:
        pool: on a store of its own way.
        store: that way; nothing gets through any more.
    """
    store.away = True
    tasks = {task for task in pool._works._tasks if not task.done()}
    for task in tasks:
        task.cancel()
    await spin(5)
    await pool.aclose(0)
