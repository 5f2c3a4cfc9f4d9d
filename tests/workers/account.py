"""What must be true when a fleet has ended: of the remote, of the store, and of each worker.

Upkeep has to be done first, of what the fleet left behind: by a fresh process, as it would be.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any, Final, NamedTuple

from session_pool import Agent, AgentPolicy, PoolStats, SessionPool
from session_pool.emulator import Emulator
from session_pool.model import Counts, PoolKey
from session_pool.stores.base import Store
from session_pool.stores.open import open_store
from tests.pool.house import conserve
from tests.workers.fleet import Fleet, Worker
from tests.workers.worker import LIMITS, Job

AGENTS: Final = {
    name: f"ri.aip-agents..agent.00000000-0000-4000-8000-00000000000{number}"
    for number, name in enumerate(("talks", "once", "warm"))
}
"""One for conversations, one whose sessions nobody shares, and one that is only kept warm."""

LIFETIME_S: Final = 60.0
"""Longer than a fleet is at sea: that a session dies between a look at it and the next words is no
fault, and no two runs would see the same. What is unused for long is replaced all the same."""

TTL_S: Final = 3.0

POLICY: Final[dict[str, Any]] = {
    # A process that is frozen in the act of sending is a danger to nobody for as long as its
    # session is in quarantine: lease and doubt together are longer than anybody is frozen here.
    "lease_ttl_s": TTL_S, "doubt_s": 4.0, "exchange_timeout_s": 5.0,
    "min_remaining_s": 48.0, "refresh_ahead_s": 54.0, "settle_s": 1.0,
    "create_timeout_s": 5.0, "min_idle": 3,
    "max_leased": 20, "acquire_timeout_s": 60.0, "delete_retired": "all",
}  # fmt: skip

FROZEN_S: Final = 5.0
"""Longer than a lease, and shorter than lease and doubt."""

SETTLED_WITHIN_S: Final = 25.0


def counted(emu: Emulator, name: str) -> int:
    """Sessions of one of the agents that were made so far."""
    return sum(one.agent_rid == AGENTS[name] for one in emu.sessions.values())


def jobs(emu: Emulator, store: str, workers: int = 4, **more: Any) -> list[Job]:
    """The usual jobs of a fleet."""
    agents = {
        "talks": (AGENTS["talks"], {**POLICY, "min_idle": 1, "max_leased": 100}),
        "once": (AGENTS["once"], dict(POLICY)),
    }
    job = Job("", emu.url, emu.token, store, agents)._replace(**more)
    return [job._replace(name=f"w{number}") for number in range(workers)]


class Account(NamedTuple):
    """Of one agent, when all has settled.

    Attributes:
        stats: as a fresh process tells them.
        known: RIDs of the sessions that the store knows.
    """

    stats: PoolStats
    known: set[str]


@asynccontextmanager
async def looking(url: str, emu: Emulator) -> AsyncIterator[Store]:
    """A look at a store, from beside the pools."""
    store = open_store(url, clock=monotonic, realm=emu.host)
    await store.open()
    try:
        yield store
    finally:
        await store.aclose()


async def settled(emu: Emulator, job: Job, *, search: bool = False) -> dict[str, Account]:
    """Let a fresh process look after what was left, and tell what there is then.

    Args:
        emu: the remote.
        job: of any worker of the fleet.
        search: until lost creations are settled as well, for which it may have to wait.
    """
    keys = {name: PoolKey(emu.host, "default", rid) for name, (rid, _) in job.agents.items()}
    agents = {
        name: Agent(rid, AgentPolicy(**{**fields, "min_idle": 0}))
        for name, (rid, fields) in job.agents.items()
    }
    async with looking(job.store, emu) as store:
        url, token = emu.url, emu.token
        async with SessionPool(
            url=url, token=token, store=job.store, agents=agents, limits=LIMITS, sole_owner=True
        ):
            ends = monotonic() + SETTLED_WITHIN_S
            while left := [
                counts for key in keys.values() if (counts := await _busy(store, key, search))
            ]:
                assert monotonic() < ends, f"never settles: {left}"
                await asyncio.sleep(0.1)  # nobody tells who is not one of the pool's callers
        async with SessionPool(
            url=url, token=token, store=job.store, agents=agents, limits=LIMITS
        ) as one:
            stats = one.stats()
        conserve(stats)
        found = {
            name: {entry.rid for entry in await store.find(key, limit=100_000)} - {""}
            for name, key in keys.items()
        }
    return {name: Account(stats.agents[name], found[name]) for name in keys}


async def _busy(store: Store, key: PoolKey, search: bool) -> Counts | None:
    counts, _ = await store.read(key)
    states = counts.of("creating", "leased", "quarantined", "retiring")
    lost = counts.of("unsettled") if search else 0
    return counts if states + lost + counts.waiting else None


def remote_is_content(emu: Emulator, dirty: Collection[str] = ()) -> None:
    """Assert that the remote saw nothing that a pool must never do."""
    audit = emu.audit()
    for name in (
        "exchanges_on_dead_sessions",
        "overlapping_exchanges",
        "sessions_with_two_marks",
        "turns_that_lost_a_living_session",
        "double_begun_texts",
    ):
        assert name in dirty or getattr(audit, name) == 0, (name, audit, _stories(emu))
    assert audit.exchanges > 0


def _stories(emu: Emulator) -> list[list[str]]:
    """All that was asked of sessions that were talked to after their end, for who looks for why."""
    late = {
        call.session_rid
        for call in emu.calls
        if call.op.endswith("continue") and call.error == "SessionNotFound"
    }
    return [
        [
            f"{call.at_s:.2f} {call.op} {call.error or call.status or call.outcome}"
            for call in emu.calls
            if call.session_rid == rid
        ]
        for rid in late
    ]


def all_are_accounted_for(
    emu: Emulator,
    accounts: dict[str, Account],
    *,
    forgotten: Collection[str] = (),
    exact: bool = True,
    twice: int = 0,
) -> None:
    """Assert that each session is known to the store, gone, or counted as unsettled (B12, B24).

    Args:
        emu: the remote.
        accounts: the store's side of it.
        forgotten: sessions made before the store was wiped, which may be nobody's now.
        exact: the store has counted each session once.
        twice: but for so many: creations under way in a process that was frozen for longer than
            their claims, whose sessions had come and gone as it was back. They are quarantined and
            handed to nobody, and B24 adds up.
    """
    for name, (stats, known) in accounts.items():
        made = [one for one in emu.sessions.values() if one.agent_rid == AGENTS[name]]
        strays = [one.rid for one in made if emu.is_alive(one.rid) and one.rid not in known]
        assert len(set(strays) - set(forgotten)) <= stats.unsettled, (name, strays, stats)
        if not forgotten and exact:
            assert stats.created + stats.adopted <= len(made) + twice, (name, len(made), stats)


def workers_are_content(
    ships: Fleet, allowed: Collection[str] = (), *, of: Sequence[Worker] | None = None
) -> None:
    """Assert that nobody got another's answer, and which errors were met.

    Args:
        ships: the fleet.
        allowed: names of the errors that may have happened.
        of: to these workers; None: to all.
    """
    for worker in ships.alive:
        report, where = worker.report, (worker.name, worker.report)
        assert not worker.trouble, worker.trouble
        assert report["wrong"] == 0, where
        excused = set(allowed) if of is None or worker in of else set()
        assert set(report["errors"]) <= excused, where
        assert excused or not report["lost"], where


def lost_leases(worker: Worker) -> int:
    """How many leases their holder was told that it has lost."""
    return int(sum(worker.report["lost"].values()))
