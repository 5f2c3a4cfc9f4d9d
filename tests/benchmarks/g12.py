"""G12: 32 tasks contend for 8 sessions: how many turns a second, and how evenly.

Rates alone flatter whoever lets newcomers barge in, and percentiles hide starved tasks. So grants
are counted per task, and Little's law is applied: in a fair line every task waits the same, so
tasks / throughput is the median time from one end of a task's turn to the next; where it is much
more, some tasks wait while others are served again and again.
"""

from __future__ import annotations

import asyncio
import gc
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from time import process_time

from tests.benchmarks.figures import Goal, Result, Row
from tests.benchmarks.peers import Note, Peer, Pool, Semaphore, everybody
from tests.benchmarks.rounds import ratio, turning

SHARE, APART = 0.6, 1


@dataclass(frozen=True)
class Round:
    """One round of one contender.

    Attributes:
        turn_s: processor time per turn.
        grants: how many turns each task got.
        little: (tasks / throughput) / median time from one end of a task's turn to the next.
    """

    turn_s: float
    grants: list[int]
    little: float

    @property
    def apart(self) -> int:
        """By how much the luckiest task's grants exceed the unluckiest's."""
        return max(self.grants) - min(self.grants)


def run(*, rounds: int = 7, round_s: float = 0.15, tasks: int = 32, sessions: int = 8) -> Result:
    """Measure everybody, a few tenths of a second at a time."""
    return asyncio.run(_run(rounds, round_s, tasks, sessions))


async def _run(rounds: int, round_s: float, tasks: int, sessions: int) -> Result:
    peers, absent = everybody()
    async with AsyncExitStack() as stack:
        for peer in peers:
            await peer.open(sessions)
            stack.push_async_callback(peer.aclose)
        many: dict[str, int] = {}
        for peer in peers:
            warm = await _contend(peer, tasks, 8 * tasks)
            many[peer.name] = tasks * max(8, int(round_s / warm.turn_s / tasks))
        seen: dict[str, list[Round]] = {peer.name: [] for peer in peers}
        for peer in turning(peers, rounds):
            seen[peer.name].append(await _contend(peer, tasks, many[peer.name]))
    rates = {who: [1 / one.turn_s for one in all_] for who, all_ in seen.items()}
    share = ratio(rates, Pool.name, Semaphore.name)
    apart = max(one.apart for one in seen[Pool.name])
    return Result(
        "G12",
        f"{tasks} tasks on {sessions} sessions, each held over a sleep(0)",
        f"medians of {rounds} interleaved rounds of {1e3 * round_s:.0f} ms",
        ("of Sem.", "k turns/s", "grants/task", "Little"),
        tuple(_row(peer, seen[peer.name], rates) for peer in peers),
        (
            Goal(f">= {SHARE:.0%} of asyncio.Semaphore's rate", f"{share:.0%}", share >= SHARE),
            Goal(
                "grants per task equal to within 1, in every round",
                f"{apart} apart",
                apart <= APART,
            ),
        ),
        {"share": share, "apart": apart},
        (
            "Of the Semaphore's rate. Grants: least and most, in the most uneven round. Little: "
            "(tasks / throughput) / median time from turn to turn; 1.0 is even. All but the pool "
            "and the semaphore let newcomers barge in: theirs is for information.",
            *absent,
        ),
    )


async def _contend(peer: Peer, tasks: int, many: int) -> Round:
    grants: list[list[int]] = [[] for _ in range(tasks)]
    rate_s = await _race(peer, many, [mine.append for mine in grants])
    # Once more with a look at the clock each turn, which would slow the fastest most.
    ends: list[list[float]] = [[] for _ in range(tasks)]
    even_s = await _race(peer, many, [_stamper(mine) for mine in ends])
    between = [later - end for mine in ends for end, later in pairwise(mine)]
    return Round(rate_s, [len(mine) for mine in grants], tasks * even_s / median(between))


async def _race(peer: Peer, many: int, notes: list[Note]) -> float:
    """So many turns, shared out among tasks as they come: seconds per turn."""
    turns = iter(range(many))
    gc.collect()
    began = process_time()
    async with asyncio.TaskGroup() as group:
        for note in notes:
            group.create_task(peer.turns(turns, note))
    return (process_time() - began) / many


def _stamper(ends: list[float]) -> Note:
    return lambda _: ends.append(process_time())


def _row(peer: Peer, seen: list[Round], rates: dict[str, list[float]]) -> Row:
    uneven = max(seen, key=lambda one: one.apart)
    cells = (
        f"{ratio(rates, peer.name, Semaphore.name):.0%}",
        f"{median(rates[peer.name]) / 1e3:.0f}",
        f"{min(uneven.grants)}-{max(uneven.grants)}",
        f"{median(one.little for one in seen):.2f}",
    )
    return Row(peer.name, cells, peer.does)
