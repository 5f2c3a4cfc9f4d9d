"""What one cycle of the memory store costs, beside asyncio.Queue's put and get in the same run.

`python -m tests.benchmarks.store_cycle` prints medians of interleaved rounds. The store alone: what
the pool adds is in the figures of the public API. It gates nothing.
"""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from statistics import median
from time import perf_counter
from typing import Final

from session_pool.model import FOREVER, Facts, PoolKey, Session
from session_pool.space import Grant, Put, Ticket, Want
from session_pool.stores.memory import MemoryStore

KEY: Final = PoolKey("stack.example.com", "default", "ri.aip-agents..agent.1")
ROUNDS: Final = 9
CYCLES: Final = 4000

Cycles = Callable[[int], None]
"""Runs that many cycles."""


def queue() -> Cycles:
    """asyncio.Queue: put and get of one item, no task switch."""
    items: asyncio.Queue[int] = asyncio.Queue()

    def run(cycles: int) -> None:
        put, get = items.put_nowait, items.get_nowait
        for _ in range(cycles):
            put(1)
            get()

    return run


def awaited_queue() -> Cycles:
    """asyncio.Queue as it is mostly used: put and get are awaited."""
    items: asyncio.Queue[int] = asyncio.Queue()

    async def cycle(cycles: int) -> None:
        for _ in range(cycles):
            await items.put(1)
            await items.get()

    return lambda cycles: asyncio.run(cycle(cycles))


def want(conversation: str | None = None, cap: int = 100) -> Want:
    """The same want all along, as the pool keeps it."""
    return Want(KEY, "me", conversation, None, 300.0, FOREVER, cap, 100_000)


def stocked(sessions: int) -> MemoryStore:
    """A store with idle sessions."""
    store = MemoryStore()
    for number in range(sessions):
        expires = 86_400.0 + number
        store.put_nowait(
            Put(KEY, f"e{number}", f"o{number}", "idle", expires_in_s=expires, fresh_in_s=80_000.0)
        )
    return store


def shortly(sessions: int = 10) -> Cycles:
    """The same by the short way back: the lease ends with nothing to say."""
    store = stocked(sessions)
    take, give_back, plain, ids = store.take_nowait, store.give_back_nowait, want(), _ids()

    def run(cycles: int) -> None:
        for _ in range(cycles):
            grant = take(plain, next(ids), patience_s=FOREVER, note_version=0)
            assert type(grant) is Grant
            entry = grant.entry
            give_back(KEY, entry.id, entry.fence, next(ids), "idle", 1800.0)

    return run


def warm(sessions: int = 10, store: MemoryStore | None = None) -> Cycles:
    """Take a free session and give it back by a put; nobody waits."""
    store = stocked(sessions) if store is None else store
    take, put, plain, ids = store.take_nowait, store.put_nowait, want(), _ids()

    def run(cycles: int) -> None:
        for _ in range(cycles):
            grant = take(plain, next(ids), patience_s=FOREVER, note_version=0)
            assert type(grant) is Grant
            entry = grant.entry
            put(Put(KEY, entry.id, next(ids), "idle", None, entry.fence, entry.facts, 1800.0))

    return run


def talking(store: MemoryStore, conversations: int) -> Cycles:
    """A turn of one parked conversation after the other."""
    take, put, ids = store.take_nowait, store.put_nowait, _ids()
    wants = [want(f"slack:C{number:07}") for number in range(0, conversations, 97)]

    def run(cycles: int) -> None:
        for number in range(cycles):
            asked = wants[number % len(wants)]
            grant = take(asked, next(ids), patience_s=FOREVER, note_version=0)
            assert type(grant) is Grant
            entry = grant.entry
            put(Put(KEY, entry.id, next(ids), "parked", None, entry.fence, entry.facts, 9e4))

    return run


def contended(
    waiters: int, sessions: int = 8, *, talks: bool = False, patience_s: float = FOREVER
) -> Cycles:
    """Each cycle: stand in line, be rung, fetch by asking again, give back."""
    store, ids, rung = stocked(sessions), _ids(), list[str]()
    store.watch(rung.append)
    take, give_back = store.take_nowait, store.give_back_nowait
    wants = [want(f"c{n}" if talks else None, sessions) for n in range(waiters if talks else 1)]
    turn = count()
    held = []
    for _ in range(sessions):
        grant = take(want(cap=sessions), next(ids), patience_s=FOREVER, note_version=0)
        assert type(grant) is Grant
        held.append(grant.entry)
    asked: dict[str, Want] = {}

    def stand() -> None:
        request, plain = next(ids), wants[next(turn) % len(wants)]
        asked[request] = plain
        ticket = take(plain, request, patience_s=patience_s, note_version=0)
        assert type(ticket) is Ticket

    for _ in range(waiters - sessions):
        stand()

    def run(cycles: int) -> None:
        for number in range(cycles):
            entry = held[number % sessions]
            give_back(KEY, entry.id, entry.fence, next(ids), "idle", 1800.0)
            request = rung.pop()
            grant = take(asked.pop(request), request, patience_s=patience_s, note_version=0)
            assert type(grant) is Grant
            held[number % sessions] = grant.entry
            stand()

    return run


def parked(sessions: int) -> MemoryStore:
    """A store with conversations whose sessions are parked, made as the pool makes them."""
    store, ids = MemoryStore(), _ids()
    asked = want()
    now = datetime(2026, 1, 1, tzinfo=UTC)
    agent, version = KEY.agent_rid, "1.0"
    for number in range(sessions):
        rid = f"ri.aip-agents..session.{number:036}"
        times = [now + timedelta(seconds=number + later) for later in (0, 60, 86_460)]
        session = Session(rid, agent, version, times[0], times[1], times[2], 2)
        facts = Facts(session, 86_400.0, 1)
        entry_id = next(ids)
        made = Put(KEY, entry_id, entry_id, "idle", facts=facts, deadline_in_s=1800.0, rid=rid)
        store.put_nowait(
            made._replace(
                agent_version=version, expires_in_s=86_400.0, fresh_in_s=80_000.0 + number
            )
        )
        talk = asked._replace(conversation=f"slack:C{number:07}")
        grant = store.take_nowait(talk, next(ids), patience_s=FOREVER, note_version=0)
        assert type(grant) is Grant
        entry = grant.entry
        gone_s = 3 * 86_400.0 + number
        store.put_nowait(
            Put(KEY, entry.id, next(ids), "parked", None, entry.fence, facts, gone_s, 86_400.0)
        )
    return store


def footprint(sessions: int = 50_000) -> tuple[float, MemoryStore]:
    """Bytes per parked session, all that the caller's values weigh included."""
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    store = parked(sessions)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return (after - before) / sessions, store


def interleaved(cases: dict[str, Cycles], rounds: int, cycles: int) -> dict[str, float]:
    """Median seconds per cycle of each, measured in turns."""
    seen: dict[str, list[float]] = {name: [] for name in cases}
    for run in cases.values():
        run(cycles // 4)
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, run in cases.items():
                began = perf_counter()
                run(cycles)
                seen[name].append((perf_counter() - began) / cycles)
    finally:
        gc.enable()
    return {name: median(times) for name, times in seen.items()}


def run(
    parked_sessions: int = 50_000, rounds: int = ROUNDS, cycles: int = CYCLES
) -> dict[str, float]:
    """Microseconds per cycle by name, "… / queue" ratios, and bytes per parked session."""
    bytes_each, many = footprint(parked_sessions)
    few = parked(100)
    seen = interleaved(
        {
            "queue": queue(),
            "queue, awaited": awaited_queue(),
            "warm": shortly(),
            "warm, by a put": warm(),
            "warm, 10,000 idle": shortly(10_000),
            f"warm, by a put, {parked_sessions} parked": warm(store=_with_idle(many)),
            "a turn, 100 parked": talking(few, 100),
            f"a turn, {parked_sessions} parked": talking(many, parked_sessions),
            "32 on 8": contended(32),
            "32 on 8, patience": contended(32, patience_s=15.0),
            "10,000 on 8": contended(10_000),
            "1,000 conversations on 8": contended(1_000, talks=True),
        },
        rounds,
        cycles,
    )
    answer = {name: 1e6 * seconds for name, seconds in seen.items()}
    answer |= {f"{name} / queue": seconds / seen["queue"] for name, seconds in seen.items()}
    answer["bytes per parked session"] = bytes_each
    return answer


def _with_idle(store: MemoryStore) -> MemoryStore:
    for number in range(10):
        store.put_nowait(Put(KEY, f"i{number}", f"p{number}", "idle", expires_in_s=86_400.0))
    return store


def _ids() -> Iterator[str]:
    return (f"0123456789ab-{number}" for number in count())


if __name__ == "__main__":
    figures = run()
    for name in figures:
        if f"{name} / queue" in figures:
            print(f"{name:34} {figures[name]:7.2f} us {figures[f'{name} / queue']:6.2f} x queue")
    print(f"{'bytes per parked session':34} {figures['bytes per parked session']:7.0f}")
