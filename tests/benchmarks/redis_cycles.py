"""Cycles of take and put on a real Redis store, and the same scripts sent raw by the same client.

The floor asks the same connection for the same scripts, with arguments that were packed before but
for their ids, and reads of the answers only what the next question needs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count
from statistics import median
from struct import Struct
from time import perf_counter
from typing import Final, NamedTuple

from session_pool.model import PoolKey
from session_pool.space import Done, Grant, Put, Want
from session_pool.stores.redis import RedisStore
from session_pool.stores.redis.packing import UNKNOWN, put_arg, want_arg
from session_pool.stores.redis.scripts import SCRIPTS
from session_pool.stores.redis.wire import bulk

KEY: Final = PoolKey("stack.example.com", "default", "ri.aip-agents..agent.1")
_ids = count(1)

Cycle = Callable[[], Awaitable[None]]


def next_id() -> str:
    """As long as the pool's own."""
    return f"0123456789ab-{next(_ids)}"


def want(key: PoolKey = KEY) -> Want:
    """The same want all along, as the pool keeps it."""
    return Want(key, "me", None, None, 300.0, 30.0, 10_000, 100_000)


async def stock(store: RedisStore, sessions: int, key: PoolKey = KEY) -> None:
    """Insert idle sessions."""
    puts = [
        Put(
            key, next_id(), next_id(), "idle", rid=f"ri.aip-agents..session.{number:036}",
            agent_version="1.0", expires_in_s=86_400.0 + number, fresh_in_s=80_000.0,
            deadline_in_s=1800.0,
        )
        for number in range(sessions)
    ]  # fmt: skip
    await asyncio.gather(*map(store.put, puts))


async def park(store: RedisStore, sessions: int) -> None:
    """Insert conversations whose sessions are parked."""
    for start in range(0, sessions, 500):
        await stock(store, min(500, sessions - start))
        for number in range(start, min(start + 500, sessions)):
            talk = want()._replace(conversation=f"slack:C{number:07}", wish_s=0.0)
            grant = await store.take(talk, next_id(), patience_s=60.0, note_version=0)
            assert isinstance(grant, Grant)
            entry = grant.entry
            await store.put(
                Put(KEY, entry.id, next_id(), "parked", None, entry.fence, None, 259_200.0)
            )


def through_the_store(store: RedisStore, key: PoolKey = KEY) -> Cycle:
    """Take a session and give it back."""
    asked = want(key)

    async def cycle() -> None:
        grant = await store.take(asked, next_id(), patience_s=60.0, note_version=0)
        assert type(grant) is Grant
        entry = grant.entry
        back = Put(key, entry.id, next_id(), "idle", None, entry.fence, None, 1800.0)
        done = await store.put(back)
        assert type(done) is Done

    return cycle


def raw(store: RedisStore) -> Cycle:
    """The same two scripts, by hand."""
    scope, wire = store.scope_of(KEY), store._link.wire
    assert wire is not None
    take, put = SCRIPTS["take"], SCRIPTS["put"]
    asked = bulk(want_arg(want(), store._bell))
    begun = b"*%d\r\n" % (scope.words + 6) + store._prefix(take, scope)
    ended = b"*%d\r\n" % (scope.words + 5) + store._prefix(put, scope)
    numbers = Struct(">4d").pack(-1.0, 60.0, 0, -1.0)
    tail = put_arg(Put(KEY, "", "", "idle"), scope.text)[58:]
    head, back = Struct(">11d"), Struct(">8d").pack

    async def cycle() -> None:
        request = numbers + next_id().encode() + b"\0"
        answer = await wire.ask(b"%b%b%b" % (begun, bulk(request), asked))
        row = answer[2]
        fence = head.unpack_from(row)[1]
        entry_id = row[88 : row.index(b"\0", 88) + 1]
        given = back(-1.0, -1, fence, 1800.0, UNKNOWN, UNKNOWN, -1, 0)
        text = given + entry_id + next_id().encode() + b"\0" + tail
        answer = await wire.ask(b"%b%b" % (ended, bulk(text)))
        assert answer[1] == b"done"

    return cycle


class Round(NamedTuple):
    """One round of so many tasks.

    Attributes:
        rate: cycles a second.
        p50_s, p99_s: seconds of a cycle.
        little: (tasks / rate) / p50; where it is much more than 1, some tasks wait while others
            are served again and again.
    """

    rate: float
    p50_s: float
    p99_s: float
    little: float


async def race(cycle: Cycle, tasks: int, seconds: float) -> Round:
    """Tasks that run cycle after cycle for so long."""
    took: list[float] = []
    ends = perf_counter() + seconds

    async def task() -> None:
        began = perf_counter()
        while began < ends:
            await cycle()
            now = perf_counter()
            took.append(now - began)
            began = now

    began = perf_counter()
    await asyncio.gather(*(task() for _ in range(tasks)))
    rate = len(took) / (perf_counter() - began)
    took.sort()
    p50_s = median(took)
    return Round(rate, p50_s, took[int(0.99 * (len(took) - 1))], tasks / rate / p50_s)
