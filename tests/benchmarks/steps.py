"""How many steps the interpreter takes for a cycle (G11) and for a turn (G12), and where.

Steps are bytecode instructions. They are counted, not timed, so the figures are the same on a busy
machine; they have no goal. What C does in one step costs more than one, so times are in `g11` and
`g12`.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from types import FrameType
from typing import Any, Final

from tests.benchmarks.figures import Result, Row
from tests.benchmarks.peers import Peer, Pool, Semaphore

SESSIONS, TASKS, WARM = 8, 32, 500

PLACES: Final = (
    ("acquire", "`acquire`: the agent, the caller's line, the lease", ("Acquires.acquire",)),
    ("had", "the lease is had, or waited for", ("AskedLease.__aenter__", "Bells.stand")),
    ("store", "a session by its expiry, or a place in the express", ("Loans.lend",)),
    ("back", "given back, or passed on to who is next", ("Loans.take_back",)),
    (
        "over",
        "the lease is over",
        ("Lease.__aexit__", "Holding.laid_back", "Holding.__del__"),
    ),
)


def run(*, many: int = 640) -> Result:
    """Count, in loops of their own."""
    cycle = asyncio.run(_counted(Pool(), many, tasks=1))
    turn = asyncio.run(_counted(Pool(), many, tasks=TASKS))
    floor = asyncio.run(_counted(Semaphore(), many, tasks=TASKS))
    rows = [
        _row("session_pool", sum(cycle.values()), sum(turn.values()), many, "in all"),
        *(
            _row(f"  {name}", _of(cycle, where), _of(turn, where), many, does)
            for name, does, where in PLACES
        ),
        _row("asyncio.Semaphore", None, sum(floor.values()), many, "in all"),
    ]
    return Result(
        "steps",
        "bytecode instructions of a cycle and of a turn",
        f"counted over {many}",
        ("cycle", "turn"),
        tuple(rows),
        (),
        {"cycle": sum(cycle.values()) / many, "turn": sum(turn.values()) / many},
        ("What is missing to the whole is the caller's loop and the event loop.",),
    )


def _row(who: str, cycle: int | None, turn: int, many: int, does: str) -> Row:
    cells = ("" if cycle is None else f"{cycle / many:.0f}", f"{turn / many:.0f}")
    return Row(who, cells, does)


def _of(steps: Counter[str], where: tuple[str, ...]) -> int:
    return sum(steps[name] for name in where)


async def _counted(peer: Peer, many: int, *, tasks: int) -> Counter[str]:
    steps: Counter[str] = Counter()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode":
            steps[frame.f_code.co_qualname] += 1
        return trace

    await peer.open(SESSIONS)
    await peer.cycles(WARM)
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        if tasks == 1:
            await peer.cycles(many)
        else:
            turns = iter(range(many))
            async with asyncio.TaskGroup() as group:
                for _ in range(tasks):
                    group.create_task(peer.turns(turns, lambda _: None))
    finally:
        sys.settrace(before)
    await peer.aclose()
    return steps
