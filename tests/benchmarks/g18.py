"""G18: what `import session_pool` costs, beside importing what it cannot do without."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any, Final

from tests.benchmarks.figures import Goal, Result, Row
from tests.benchmarks.rounds import ratio, turning

OURS, FLOOR = "import session_pool", "import aiohttp, anyio, pydantic"
GOAL: Final = 1.3

LATER: Final = (
    "asyncpg", "click", "foundry_sdk", "opentelemetry", "psycopg", "redis", "rich", "sqlite3",
    "typer", "uvloop",
)  # fmt: skip
"""Drivers and extras: imported when they are needed, not before."""

ROOT: Final = Path(__file__).parents[2]

PROGRAM: Final = """
import json, sys, time
began = time.perf_counter()
{statement}
took = time.perf_counter() - began
print(json.dumps([took, sorted(sys.modules)]))
"""


def run(*, rounds: int = 9) -> Result:
    """Measure both, each time in a fresh interpreter."""
    statements = (OURS, FLOOR)
    for statement in statements:
        _import(statement)  # writes the byte code
    times: dict[str, list[float]] = {statement: [] for statement in statements}
    early: set[str] = set()
    for statement in turning(statements, rounds):
        took_s, modules = _import(statement)
        times[statement].append(took_s)
        if statement == OURS:
            early |= {name for name in LATER if name in modules}
    over = ratio(times, OURS, FLOOR)
    seen = ", ".join(sorted(early)) or "none"
    return Result(
        "G18",
        "importing, in fresh interpreters with byte code in place",
        f"medians of {rounds} interleaved rounds",
        ("x floor", "ms"),
        tuple(
            Row(
                statement,
                (
                    f"{ratio(times, statement, FLOOR):.2f}",
                    f"{1e3 * median(times[statement]):.0f}",
                ),
            )
            for statement in statements
        ),
        (
            Goal(f"<= {GOAL:g} x the floor", f"{over:.2f} x", over <= GOAL),
            Goal("no driver and no extra imported before it is needed", seen, not early),
        ),
        {"over_floor": over, "early": len(early)},
        (f"Looked for: {', '.join(LATER)}.",),
    )


def _import(statement: str) -> tuple[float, list[str]]:
    program = PROGRAM.format(statement=statement)
    done = subprocess.run(  # noqa: S603  # our own program, in our own interpreter
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    answer: Any = json.loads(done.stdout)
    return answer[0], answer[1]
