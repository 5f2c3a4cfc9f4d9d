"""A pool to which hypothesis does whatever comes to its mind, in virtual time.

Sessions die, creations fail, connections break, callers come, cancel, forget what they hold and
come again, and hours pass. After each step the account balances, nobody waits for what is there,
and the remote saw nothing odd. Whatever is found comes as a list of steps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from itertools import count
from typing import Any, Final, TypeVar

import looptime
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from session_pool import Agent, AgentPolicy, Lease, SessionPool, SessionPoolError
from session_pool.emulator import Emulator
from session_pool.model import Entry
from session_pool.stores.memory import MemoryStore

T = TypeVar("T")

POLICY: Final = AgentPolicy(
    min_idle=1,
    max_idle=3,
    max_leased=4,
    max_creating=3,
    acquire_timeout_s=120.0,
    exchange_timeout_s=60.0,
    settle_s=5.0,
    min_remaining_s=60.0,
    refresh_ahead_s=300.0,
    error_ttl_s=5.0,
)
LIFETIME_S: Final = 3600.0

conversations = st.sampled_from([None, "a", "b"])
numbers = st.integers(0, 7)
FAULTS: Final = (
    "create:1:503",
    "create:1:429:retry_after=2",
    "create:1:CreateSessionPermissionDenied",
    "create:1:lost_before",
    "create:1:malformed",
    "exchange:1:500",
    "exchange:1:429:retry_after=1",
    "exchange:1:lost_after",
    "exchange:1:lost_before",
    "exchange:1:SessionExecutionFailed",
    "get:1:500",
    "delete:1:503",
    "any:1:401",
)


class PoolMachine(RuleBasedStateMachine):
    """The steps, and what must hold between them.

    A step that has nothing to act on does nothing: what is possible must not hang on the timing of
    real sockets, or hypothesis could not repeat it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=looptime.new_event_loop)
        self.held: list[Lease] = []
        self.acquiring: list[asyncio.Task[Lease]] = []
        self.busy: list[asyncio.Task[Any]] = []
        self.turns = count(1)
        self.left_behind = False
        self.run(self._open())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something in the machine's own loop; no time passes between two calls."""
        return self.runner.run(work)

    async def _open(self) -> None:
        self.emu = Emulator(
            lifetime_s=LIFETIME_S,
            create_latency_s=0.8,
            exchange_latency_s=0.5,
            latency_s=0.05,
            seed=1,
        )
        await self.emu.start()
        self.store = MemoryStore(clock=asyncio.get_running_loop().time)
        self.pool = SessionPool(
            url=self.emu.url,
            token=self.emu.token,
            store=self.store,
            agents={"orders": Agent(self.emu.agent_rid, POLICY)},
        )
        await self.pool.open()

    def words(self, mark: str) -> str:
        """What was never said before, with the mark of whoever says it."""
        return f"turn {next(self.turns)} [[{mark}]]"

    # ------------------------------------------------------------------ callers

    @rule(conversation=conversations)
    def acquire(self, conversation: str | None) -> None:
        async def begin() -> None:
            taking = self.pool.acquire("orders", conversation=conversation)
            self.acquiring.append(asyncio.ensure_future(_awaited(taking)))
            await self._turn()

        self.run(begin())

    @rule(which=numbers, how=st.sampled_from(["plain", "unused", "discard", "read", "broken"]))
    def release(self, which: int, how: str) -> None:
        if not self.held:
            return
        lease = self.held.pop(which % len(self.held))
        self.left_behind |= how == "discard" and lease.conversation is not None

        async def end() -> None:
            match how:
                case "read":
                    assert lease.rid
                    await lease.release(unused=True)
                case "broken":
                    await lease.__aexit__(KeyError, KeyError("in the block"), None)
                case _:
                    await lease.release(unused=how == "unused", discard=how == "discard")
            await self._turn()

        self.run(end())

    @rule(which=numbers)
    def speak(self, which: int) -> None:
        if not self.held:
            return
        lease = self.held[which % len(self.held)]

        async def begin() -> None:
            text = self.words(lease.conversation or f"lease {lease.lease_id}")
            self.busy.append(asyncio.ensure_future(lease.blocking_continue(text, timeout=30)))
            await self._turn()

        self.run(begin())

    @rule(conversation=st.sampled_from(["a", "b"]))
    def ask(self, conversation: str) -> None:
        async def begin() -> None:
            asking = self.pool.conversation("orders", conversation).ask(self.words(conversation))
            self.busy.append(asyncio.ensure_future(asking))
            await self._turn()

        self.run(begin())

    @rule(which=numbers)
    def cancel(self, which: int) -> None:
        async def strike() -> None:
            pending: list[asyncio.Task[Any]] = [*self.acquiring, *self.busy]
            if pending:
                pending[which % len(pending)].cancel()
            await self._turn()

        self.run(strike())

    # ------------------------------------------------------------------ the world

    @rule(seconds=st.sampled_from([0.1, 0.5, 1.0, 5.0, 60.0, 900.0, 3000.0, 4000.0]))
    def time_passes(self, seconds: float) -> None:
        async def wait() -> None:
            await asyncio.sleep(seconds)
            await self._turn()

        self.run(wait())

    @rule(which=numbers)
    def a_session_dies(self, which: int) -> None:
        alive = [rid for rid in self.emu.sessions if self.emu.is_alive(rid)]
        # One that dies in the middle of an exchange answers as if nothing had been begun.
        if alive and not self.emu.in_flight("exchange"):
            self.emu.expire(alive[which % len(alive)])

    @rule(fault=st.sampled_from(FAULTS))
    def something_fails(self, fault: str) -> None:
        self.emu.inject(fault)

    # ------------------------------------------------------------------ what must hold

    @invariant()
    def the_account_balances(self) -> None:
        stats = self.pool.stats()
        here = stats.idle + stats.leased + stats.parked + stats.quarantined + stats.retiring
        assert stats.created + stats.adopted == here + stats.retired, stats
        assert stats.leased <= POLICY.max_leased
        assert stats.creating <= POLICY.max_creating

    @invariant()
    def nobody_waits_for_what_is_there(self) -> None:
        entries, now = self.run(self._entries())
        leased = sum(entry.state == "leased" for entry in entries)
        own = {
            entry.conversation: entry.state
            for entry in entries
            if entry.conversation is not None and entry.state not in ("retiring", "gone")
        }
        desk = self.pool._desks.of("orders")
        free = any(
            entry.state in ("idle", "ageing") and entry.expires - now >= desk.terms.min_remaining_s
            for entry in entries
        )
        assert desk.lender is not None
        for want in desk.lender.wants():
            state = own.get(want.conversation) if want.conversation is not None else None
            usable = free if state is None else state == "parked"
            assert not usable or leased >= POLICY.max_leased, (want, state, leased)

    @invariant()
    def the_remote_saw_nothing_odd(self) -> None:
        audit = self.emu.audit()
        assert audit.overlapping_exchanges == 0
        assert audit.sessions_with_two_marks == 0
        assert audit.double_begun_texts == 0
        assert self.left_behind or audit.turns_that_lost_a_living_session == 0
        assert audit.max_creates_in_flight <= POLICY.max_creating

    async def _entries(self) -> tuple[list[Entry], float]:
        key = self.pool._desks.of("orders").key
        found = await self.store.find(key, limit=10_000)
        return list(found), asyncio.get_running_loop().time()

    async def _turn(self) -> None:
        """Let what can go on now go on, and see what came of it."""
        await asyncio.sleep(0.001)
        for task in [task for task in self.acquiring if task.done()]:
            self.acquiring.remove(task)
            with suppress(SessionPoolError, asyncio.CancelledError):
                self.held.append(task.result())
        for done in [task for task in self.busy if task.done()]:
            self.busy.remove(done)
            with suppress(SessionPoolError, asyncio.CancelledError):
                done.result()

    def teardown(self) -> None:
        """Everybody lets go; then nothing is held, and the pool closes cleanly."""
        try:
            self.run(self._close())
        finally:
            self.runner.close()

    async def _close(self) -> None:
        for task in (*self.acquiring, *self.busy):
            task.cancel()
        await self._turn()
        for lease in self.held:
            await lease.release()
        self.emu.clear_faults()
        await asyncio.sleep(2 * POLICY.exchange_timeout_s)
        stats = self.pool.stats()
        assert stats.leased == stats.waiting == stats.quarantined == 0, stats
        await self.pool.aclose()
        await self.emu.aclose()
        left = [task.get_name() for task in asyncio.all_tasks()]
        assert not [name for name in left if name.startswith("session_pool")], left


async def _awaited(taking: Any) -> Lease:
    lease: Lease = await taking
    return lease


TestPoolMachine = PoolMachine.TestCase
TestPoolMachine.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
