"""What a benchmark hands back, and how it is printed: one table that a person reads.

Knows no benchmark. Figures are ratios first, since those alone hold on a small and noisy machine;
absolute times follow for scale.
"""

from __future__ import annotations

import os
import platform
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

WIDTH: Final = 98


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        who: the product, or the peer.
        cells: as many as the table has columns; ratios first.
        does: what it does, per cycle or in this run.
    """

    who: str
    cells: tuple[str, ...]
    does: str = ""


@dataclass(frozen=True)
class Goal:
    """A line to reach, and what was seen of it.

    Attributes:
        says: the goal in words.
        seen: the figure it is held against, with its unit.
        met: whether it is reached.
    """

    says: str
    seen: str
    met: bool


@dataclass(frozen=True)
class Result:
    """One benchmark's outcome.

    Attributes:
        name: its number among the goals, e.g. "G11".
        title: what is measured.
        how: how often, and in what order.
        columns: headings of the cells, ratios first.
        rows: the product and its peers.
        goals: each held against what was seen.
        figures: the numbers behind it all, by name, for tests.
        notes: what a reader should know beside it.
    """

    name: str
    title: str
    how: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    goals: tuple[Goal, ...]
    figures: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def met(self) -> bool:
        """Whether all its goals are reached."""
        return all(goal.met for goal in self.goals)


def heading() -> str:
    """The machine and the Python that all figures of this run belong to."""
    cores = os.cpu_count() or 1
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return (
        f"session_pool beside its peers, in one run on {cores} shared cores, {python}, asyncio.\n"
        "Hold on to the ratios: absolute times move by a quarter from run to run."
    )


def table(result: Result) -> str:
    """The result as text, at most `WIDTH` wide."""
    return "\n".join(_lines(result))


def summary(results: Iterable[Result]) -> str:
    """One line for each goal: reached or missed, and by how much."""
    lines = []
    for result in results:
        for goal in result.goals:
            mark = "met   " if goal.met else "MISSED"
            lines += _wrapped(f"{result.name:4} {mark} {goal.seen:>14}   ", goal.says)
    return "\n".join(lines)


def _lines(result: Result) -> Iterator[str]:
    yield from _wrapped(f"{result.name:4} ", f"{result.title} ({result.how})")
    columns = [
        max(len(title), *(len(row.cells[number]) for row in result.rows))
        for number, title in enumerate(result.columns)
    ]
    who = max(len(row.who) for row in result.rows)
    heads = "  ".join(f"{t:>{w}}" for t, w in zip(result.columns, columns, strict=True))
    yield f"  {heads}"
    for row in result.rows:
        cells = "  ".join(f"{cell:>{w}}" for cell, w in zip(row.cells, columns, strict=True))
        yield from _wrapped(f"  {cells}  {row.who:<{who}}  ", row.does)
    for goal in result.goals:
        mark = "met" if goal.met else "MISSED"
        yield from _wrapped(f"  {mark:>6}  ", f"{goal.says}: {goal.seen}")
    for note in result.notes:
        yield from _wrapped("          ", note)


def _wrapped(first: str, text: str) -> list[str]:
    indent = " " * len(first)
    lines = textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=indent)
    return lines or [first.rstrip()]
