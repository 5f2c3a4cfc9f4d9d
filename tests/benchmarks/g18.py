"""G18: what `import session_pool` costs, beside importing what it cannot do without.

Public names are loaded when they are first used, so the statement alone loads next to nothing. What
a user waits for is to have the pool in hand; the goal is held against that as well.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Final

from tests.benchmarks.figures import Goal, Result, Row
from tests.benchmarks.rounds import ratio, turning

USED: Final = "from session_pool import SessionPool"
OURS: Final = "import session_pool"
FLOOR: Final = "import aiohttp, anyio, pydantic"
GOAL: Final = 1.3

LATER: Final = (
    "asyncpg", "click", "foundry_sdk", "opentelemetry", "psycopg", "redis", "rich", "sqlite3",
    "typer", "uvloop",
)  # fmt: skip
"""Drivers and extras: imported when they are needed, not before."""

ROOT: Final = Path(__file__).parents[2]

PROGRAM: Final = """
import json, sys, time
began = time.process_time()
{statement}
took = time.process_time() - began
print(json.dumps([took, sorted(sys.modules)]))
"""


def run(*, rounds: int = 9) -> Result:
    """Measure each, every time in a fresh interpreter."""
    statements = (USED, OURS, FLOOR)
    times: dict[str, list[float]] = {statement: [] for statement in statements}
    early: set[str] = set()
    with TemporaryDirectory() as byte_code:
        for statement in statements:
            _import(statement, byte_code)  # writes the byte code
        for statement in turning(statements, rounds):
            took_s, modules = _import(statement, byte_code)
            times[statement].append(took_s)
            if statement == USED:
                early |= {name for name in LATER if name in modules}
    used, over = ratio(times, USED, FLOOR), ratio(times, OURS, FLOOR)
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
            Goal(f"`{OURS}`: <= {GOAL:g} x the floor", f"{over:.2f} x", over <= GOAL),
            Goal(f"`{USED}`: the same", f"{used:.2f} x", used <= GOAL),
            Goal("no driver and no extra imported before it is needed", seen, not early),
        ),
        {"over_floor": over, "used_over_floor": used, "early": len(early)},
        (f"Looked for: {', '.join(LATER)}.",),
    )


def _import(statement: str, byte_code: str) -> tuple[float, list[str]]:
    # All byte code in one folder of our own, whatever this environment does with it: else what is
    # installed would come compiled, and this tree perhaps as source.
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": byte_code}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(  # our own program, in our own interpreter
        [sys.executable, "-c", PROGRAM.format(statement=statement)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    answer: Any = json.loads(done.stdout)
    return answer[0], answer[1]
