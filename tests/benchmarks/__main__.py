"""`python -m tests.benchmarks [g11 g12 …]`: runs all, or those named, and prints what it saw.

It gates nothing: a goal that is missed is printed as such, and the exit status is 0.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final

from tests.benchmarks.figures import Result, heading, summary, table

ALL: Final = (
    *("g11", "g12", "g13", "g14_sqlite", "g14_postgres"),
    *("g15_sqlite", "g15_redis", "g15_postgres", "g4", "g5", "g6", "g18", "steps"),
)
"""In the order of printing; each is a module here with a `run`."""


def main(names: Sequence[str]) -> int:
    """Run and print; 2 for a name that there is not."""
    unknown = sorted(set(names) - set(ALL))
    if unknown:
        print(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(ALL)}")
        return 2
    print(heading(), flush=True)
    results: list[Result] = []
    for name in names or ALL:
        results.append(import_module(f"tests.benchmarks.{name}").run())
        print("\n" + table(results[-1]), flush=True)
    if goals := summary(results):
        print("\nin short\n" + goals)
    return 0


if __name__ == "__main__":
    sys.exit(main([name.lower() for name in sys.argv[1:]]))
