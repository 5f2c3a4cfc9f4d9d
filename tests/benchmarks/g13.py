"""G13: take and put on a real Redis, beside the same scripts sent raw through the same client.

And growth (G17): the same cycle with very many parked sessions, and with very many agents.
"""

from __future__ import annotations

import asyncio
from statistics import median
from typing import Final

from session_pool.stores.redis import RedisStore
from session_pool.stores.redis.address import address_of
from tests.benchmarks.figures import Goal, Result, Row
from tests.benchmarks.redis_cycles import KEY, Round, park, race, raw, stock, through_the_store
from tests.benchmarks.rounds import ratio, turning
from tests.servers.valkey import Server

TASKS: Final = (1, 32, 256)
SHARES: Final = (0.8, 0.7, 0.7)
SPREAD, LITTLE, GROWTH = 4.0, 1.3, 1.5
POOL, RAW = "session_pool", "raw"

_Seen = dict[str, list[Round]]


def run(
    *, rounds: int = 7, round_s: float = 0.5, parked: int = 100_000, agents: int = 1000
) -> Result:
    """Measure in turns, on a server of its own."""
    with Server() as server:
        return asyncio.run(_run(server, rounds, round_s, parked, agents))


async def _run(server: Server, rounds: int, round_s: float, parked: int, agents: int) -> Result:
    store = RedisStore(address_of(server.url))
    await store.open()
    try:
        await stock(store, 2 * max(TASKS))
        cycles = {POOL: through_the_store(store), RAW: raw(store)}
        await race(cycles[POOL], 1, round_s / 10)  # the server learns the scripts
        seen: _Seen = {}
        for tasks in TASKS:
            for who in turning(tuple(cycles), rounds):
                seen.setdefault(f"{who} {tasks}", []).append(
                    await race(cycles[who], tasks, round_s)
                )
        growth = await _grow(store, rounds, round_s, parked, agents)
    finally:
        await store.aclose()
    rates = {who: [one.rate for one in found] for who, found in seen.items()}
    shares = [ratio(rates, f"{POOL} {tasks}", f"{RAW} {tasks}") for tasks in TASKS]
    crowd = seen[f"{POOL} {TASKS[-1]}"]
    spread = median(one.p99_s / one.p50_s for one in crowd)
    little = median(one.little for one in crowd)
    goals = [
        Goal(f">= {goal:.0%} of raw with {tasks} tasks", f"{share:.0%}", share >= goal)
        for tasks, goal, share in zip(TASKS, SHARES, shares, strict=True)
    ]
    most = max(growth.values())
    goals += [
        Goal(f"p99 <= {SPREAD:g} x p50 at {TASKS[-1]}", f"{spread:.1f} x", spread <= SPREAD),
        Goal(f"(tasks / rate) / p50 <= {LITTLE}", f"{little:.2f}", little <= LITTLE),
        Goal(
            f"cycle <= {GROWTH} x with {parked:,} parked, or {agents:,} agents (G17)",
            f"{most:.2f} x",
            most <= GROWTH,
        ),
    ]
    return Result(
        "G13",
        "cycles of take and put on a real Redis, one client process",
        f"medians of {rounds} interleaved rounds of {1e3 * round_s:.0f} ms",
        ("of raw", "k cycles/s", "p50 ms", "p99 ms", "Little"),
        tuple(_row(who, tasks, seen, rates) for tasks in TASKS for who in (POOL, RAW)),
        tuple(goals),
        {
            **{f"share_{tasks}": share for tasks, share in zip(TASKS, shares, strict=True)},
            "spread": spread,
            "little": little,
            **growth,
        },
        (
            f"With {parked:,} parked sessions a cycle takes {growth['parked']:.2f} x, of one of "
            f"{agents:,} agents {growth['agents']:.2f} x what it took before.",
        ),
    )


async def _grow(
    store: RedisStore, rounds: int, round_s: float, parked: int, agents: int
) -> dict[str, float]:
    small = [(await race(through_the_store(store), 1, round_s)).p50_s for _ in range(rounds)]
    for number in range(agents):
        await stock(store, 2, KEY._replace(agent_rid=f"ri.aip-agents..agent.{number:06}"))
    some = [KEY._replace(agent_rid=f"ri.aip-agents..agent.{n * 7 % agents:06}") for n in range(50)]
    many = [through_the_store(store, key) for key in some]
    at = 0

    async def over_all() -> None:
        nonlocal at
        at += 1
        await many[at % len(many)]()

    spread = [(await race(over_all, 1, round_s)).p50_s for _ in range(rounds)]
    await park(store, parked)
    full = [(await race(through_the_store(store), 1, round_s)).p50_s for _ in range(rounds)]
    return {"parked": median(full) / median(small), "agents": median(spread) / median(small)}


def _row(who: str, tasks: int, seen: _Seen, rates: dict[str, list[float]]) -> Row:
    found = seen[f"{who} {tasks}"]
    cells = (
        f"{ratio(rates, f'{who} {tasks}', f'{RAW} {tasks}'):.0%}",
        f"{median(one.rate for one in found) / 1e3:.1f}",
        f"{1e3 * median(one.p50_s for one in found):.2f}",
        f"{1e3 * median(one.p99_s for one in found):.2f}",
        f"{median(one.little for one in found):.2f}",
    )
    does = "Store.take and Store.put" if who == POOL else "the same scripts, packed before"
    return Row(who, cells, f"{tasks} tasks; {does}")
