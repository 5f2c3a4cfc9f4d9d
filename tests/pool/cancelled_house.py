"""The scene in which things are cancelled: an emulator, a pool on either kind of store, and the
account that must balance afterwards.

Made for `tests.cancelling`: each scene is a new house, and leaving it asserts that nobody's
cancellation lost, leaked or blocked anything (B9, B22, B23, B24).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final, Literal

from session_pool import Agent, AgentPolicy, Lease, RequestLimits, SessionPool
from session_pool.emulator import Emulator
from session_pool.model import Counts, PoolKey
from session_pool.stores.base import Store
from session_pool.stores.memory import MemoryStore
from tests.cancelling import Work
from tests.stores.awaiting import AwaitingStore

AGENT: Final = "orders"
CREATE_S: Final = 0.8
EXCHANGE_S: Final = 0.5
LIFETIME_S: Final = 86400.0
DOUBT_S: Final = 1.0
QUIET_S: Final = 700
"""More than the default `exchange_timeout_s`, by which the longest quarantine ends."""

POLICY: Final = {"min_idle": 0, "doubt_s": DOUBT_S}

Kind = Literal["local", "awaited"]
KINDS: Final[tuple[Kind, ...]] = ("local", "awaited")
"""A store in this process, and one that is awaited as a server's is."""


class House:
    """One emulator and one pool.

    Attributes:
        held: leases that the scene holds on purpose; given back at its end.
        others: other callers' acquires; each must get its session.
        conversations: those that the scene speaks of; each must be usable afterwards.
        found_dead: exchanges that the scene lets meet a session that died unnoticed.
        left_behind: living sessions that a conversation of the scene leaves on purpose.
        over: the scene has closed the pool.
    """

    def __init__(
        self, emu: Emulator, store: Store, policy: AgentPolicy, limits: RequestLimits | None
    ) -> None:
        self.emu = emu
        self.store = store
        self.pool = SessionPool(
            url=emu.url,
            token=emu.token,
            store=store,
            agents={AGENT: Agent(emu.agent_rid, policy)},
            limits=limits,
        )
        self.key = PoolKey(emu.host, "default", emu.agent_rid)
        self.held: list[Lease] = []
        self.others: list[asyncio.Task[None]] = []
        self.conversations: list[str] = []
        self.found_dead = 0
        self.left_behind = 0
        self.over = False
        self._later: list[asyncio.Task[None]] = []

    async def counts(self) -> Counts:
        """How the agent stands, as the store says."""
        return (await self.store.read(self.key))[0]

    async def hold(self, conversation: str | None = None) -> Lease:
        """A lease that the scene holds."""
        lease = await self.pool.acquire(AGENT, conversation=conversation)
        self.held.append(lease)
        return lease

    async def speak(self, conversation: str, text: str = "hello") -> None:
        """One turn of a conversation, which then has a session, parked."""
        self.conversations.append(conversation)
        await self.pool.conversation(AGENT, conversation).ask(f"{text} [[{conversation}]]")

    def other(self, conversation: str | None = None) -> None:
        """Somebody else acquires, and gives back at once."""

        async def acquire() -> None:
            async with self.pool.acquire(AGENT, conversation=conversation):
                pass

        self.others.append(asyncio.create_task(acquire()))

    def later(self, in_s: float, work: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Do something after so many virtual seconds, whatever happens to whom."""

        async def wait() -> None:
            await asyncio.sleep(in_s)
            await work()

        self._later.append(asyncio.create_task(wait()))

    async def settle(self) -> None:
        """See what was begun come to its end."""
        for task in self._later:
            await task
        for task in self.others:  # some of them were begun just now
            await task
        for lease in self.held:
            await lease.release()

    # ------------------------------------------------------------------ the account

    async def check(self) -> None:
        """Assert that nothing was lost, and close."""
        await self.settle()
        if not self.over:
            await self._others_are_served()
            await self._upkeep_is_done()
            await self._account_balances()
        await self.pool.aclose()
        await self._account_balances()
        await self._nothing_is_left()
        self._remote_saw_nothing_odd()

    async def _others_are_served(self) -> None:
        loop = asyncio.get_running_loop()
        for conversation in self.conversations:
            began = loop.time()
            await self.pool.conversation(AGENT, conversation).ask(f"so? [[{conversation}]]")
            took_s = loop.time() - began - EXCHANGE_S
            # The exchange that may be going on, or was never begun, and a creation at worst.
            assert took_s <= 2 * DOUBT_S + CREATE_S + 0.01, f"its own took {took_s:.3f} s"
        began = loop.time()
        async with self.pool.acquire(AGENT):
            took_s = loop.time() - began
        assert took_s <= CREATE_S + 0.01, f"the next acquire took {took_s:.3f} s"

    async def _upkeep_is_done(self) -> None:
        """Quarantines have ended, and what was retired is deleted; in virtual time."""
        for _ in range(QUIET_S):
            counts = await self.counts()
            if not counts.of("leased", "quarantined", "creating", "retiring"):
                return
            await asyncio.sleep(1.0)
        raise AssertionError(f"still not quiet: {counts}")

    async def _account_balances(self) -> None:
        counts = await self.counts()
        assert counts.waiting == 0
        assert counts.of("leased", "quarantined", "creating", "retiring", "unsettled") == 0, counts
        tally = counts.tally
        here = counts.of("idle", "ageing", "parked")
        assert tally.get("created", 0) == here + tally.get("retired", 0), counts
        assert tally.get("created", 0) == self.emu.audit().sessions_created

    async def _nothing_is_left(self) -> None:
        ours = [
            task.get_name()
            for task in asyncio.all_tasks()
            if task.get_name().startswith("session_pool")
        ]
        assert ours == []
        works = self.pool._works
        assert works._bells == {}
        for desk in self.pool._desks.all():
            assert (desk.waiting, desk.creating, desk.leases, desk.talking) == ({}, {}, {}, {})

    def _remote_saw_nothing_odd(self) -> None:
        audit = self.emu.audit()
        assert audit.exchanges_on_dead_sessions <= self.found_dead
        assert audit.overlapping_exchanges == 0
        assert audit.sessions_with_two_marks == 0
        assert audit.turns_that_lost_a_living_session <= self.left_behind
        assert audit.double_begun_texts == 0


Prepare = Callable[[House], Awaitable[Work]]
"""Sets a scene up, and gives the work that is to be cancelled in it."""


@asynccontextmanager
async def house(
    kind: Kind,
    *,
    emulator: dict[str, Any] | None = None,
    policy: dict[str, Any] | None = None,
    opened: bool = True,
    limits: RequestLimits | None = None,
) -> AsyncIterator[House]:
    """A house; leaving it asserts that its account balances.

    Args:
        kind: of the store.
        emulator: settings beside the latencies.
        policy: the agent's, where it differs.
        opened: open the pool, and wait until it is warm.
        limits: of requests, where those of one user are too few.
    """
    settings: dict[str, Any] = {
        "create_latency_s": CREATE_S,
        "exchange_latency_s": EXCHANGE_S,
        "lifetime_s": LIFETIME_S,
    }
    clock = asyncio.get_running_loop().time
    store: Store = MemoryStore(clock=clock) if kind == "local" else AwaitingStore(clock)
    async with Emulator(seed=1, **(settings | (emulator or {}))) as emu:
        here = House(emu, store, AgentPolicy(**(POLICY | (policy or {}))), limits)
        try:
            if opened:
                await here.pool.open()
                await here.pool.ready()
            yield here
            await here.check()
        finally:
            await here.pool.aclose(0)
