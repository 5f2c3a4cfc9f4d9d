"""How the demo shows itself: a live table on a terminal, lines that only append anywhere else.

Everything fits into 80 columns. Knows the pool's statistics and the claims' words, and asks nobody
for anything.
"""

from __future__ import annotations

import os
import sys
import textwrap
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Final, Protocol, TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from session_pool import PoolStats
from session_pool.cli.claims import Claim, Summary
from session_pool.telemetry import Histogram

WIDTH: Final = 80
NEWS: Final = 7
"""Lines of news under the live table; with it they leave room on 24 lines."""

EVERY_S: Final = 2.0
"""Between two lines of numbers where there is no terminal."""

_HEADS: Final = (
    ("", "agent", -8),
    ("", "idle", 6),
    ("", "leased", 7),
    ("", "parked", 7),
    ("", "creating", 9),
    ("expiring", "soon", 9),
    ("", "created", 8),
    ("", "replaced", 9),
    ("wait", "p50", 8),
    ("wait", "p99", 8),
)


@dataclass(frozen=True, slots=True)
class Frame:
    """What there is to see at one moment.

    Attributes:
        at_s: seconds since the start.
        seconds: how long the demo takes.
        stats: of the pool.
        soon: by agent, sessions that end soon.
        replaced: by agent, sessions replaced before their end, so far.
    """

    at_s: float
    seconds: float
    stats: PoolStats
    soon: Counter[str]
    replaced: Counter[str]


class Screen(Protocol):
    """Where the demo shows itself."""

    def live(self) -> AbstractContextManager[object]:
        """While the block lasts the screen is in use."""

    def news(self, at_s: float, line: str) -> None:
        """Something happened, `at_s` seconds after the start."""

    def frame(self, frame: Frame) -> None:
        """How things stand."""

    def end(self, frame: Frame, summary: Summary) -> None:
        """The last frame, and the outcome."""


def screen_for(out: TextIO, environ: Mapping[str, str] = os.environ) -> Screen:
    """The screen that fits: live on a terminal, unless NO_COLOR or CI is set."""
    if can_move(out, environ) and not environ.get("NO_COLOR") and not environ.get("CI"):
        return LiveScreen(Console(file=out))
    return PlainScreen(out)


def can_move(out: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether what was printed there can be replaced: on a terminal that is not dumb."""
    return out.isatty() and environ.get("TERM") not in ("dumb", "")


class SilentScreen:
    """Shows nothing: who asked for JSON gets JSON."""

    def live(self) -> AbstractContextManager[object]:
        """Nothing to hold."""
        return nullcontext()

    def news(self, at_s: float, line: str) -> None:
        """Not shown."""

    def frame(self, frame: Frame) -> None:
        """Not shown."""

    def end(self, frame: Frame, summary: Summary) -> None:
        """Not shown."""


class PlainScreen:
    """Lines that only append, for files and pipes."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._next_s = 0.0

    def live(self) -> AbstractContextManager[object]:
        """Nothing to hold."""
        return nullcontext()

    def news(self, at_s: float, line: str) -> None:
        """One line."""
        self._print(f"{at_s:5.1f} s  {line}")

    def frame(self, frame: Frame) -> None:
        """One line now and then."""
        if frame.at_s < self._next_s:
            return
        self._next_s = frame.at_s + EVERY_S
        stats = frame.stats
        self._print(
            f"{frame.at_s:5.1f} s  idle {stats.idle}, leased {stats.leased}, parked "
            f"{stats.parked}, creating {stats.creating}, created {stats.created}, "
            f"replaced {frame.replaced.total()}"
        )

    def end(self, frame: Frame, summary: Summary) -> None:
        """The table, and the claims."""
        ticks = _ticks(self._out)
        self._print("", *table(frame), "")
        for claim in summary.claims:
            self._print(*lines_of(claim, ticks))
        self._print("", *closing(summary))

    def _print(self, *lines: str) -> None:
        for line in lines:
            print(line, file=self._out)
        self._out.flush()


class LiveScreen:
    """A table that is kept up to date, with the latest news under it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._latest: deque[str] = deque(maxlen=NEWS)

    def live(self) -> AbstractContextManager[object]:
        """Holds the cursor; gives it back however the block ends."""
        return self._live

    def news(self, at_s: float, line: str) -> None:
        """Shown with the next frame."""
        self._latest.append(f"{at_s:5.1f} s  {line}")

    def frame(self, frame: Frame) -> None:
        """Draw."""
        at_s, seconds = min(frame.at_s, frame.seconds), frame.seconds
        done = round(24 * at_s / seconds)
        bar = Text("━" * done, "green") + Text("━" * (24 - done), "dim")
        head = Text(f"session-pool demo  {at_s:4.0f} of {seconds:.0f} s  ") + bar
        latest = [Text(line, "dim") for line in self._latest]
        lines = [head, Text(), *_styled(table(frame)), Text(), *latest]
        self._live.update(_sheet(lines), refresh=True)

    def end(self, frame: Frame, summary: Summary) -> None:
        """The table as it was last, and the claims."""
        ticks = _ticks(self._console.file)
        lines = [*_styled(table(frame)), Text()]
        for claim in summary.claims:
            first, *more = lines_of(claim, ticks)
            text = Text(first)
            text.stylize("bold green" if claim.ok else "bold red", 0, 1)
            lines += [text, *map(Text, more)]
        lines += [Text(), *map(Text, closing(summary))]
        self._console.print(_sheet(lines))


def table(frame: Frame) -> list[str]:
    """The numbers of each agent and of all, as lines of one width."""
    rows = [tuple(head for head, _, _ in _HEADS), tuple(head for _, head, _ in _HEADS)]
    for name, stats in frame.stats.agents.items():
        rows.append(_row(name, stats, frame.soon[name], frame.replaced[name]))
    rows.append(_row("all", frame.stats, frame.soon.total(), frame.replaced.total()))
    return ["".join(_cells(row)) for row in rows]


def _row(name: str, stats: PoolStats, soon: int, replaced: int) -> tuple[str, ...]:
    numbers = (stats.idle, stats.leased, stats.parked, stats.creating, soon, stats.created)
    waits = (_bound(stats.wait, 0.5), _bound(stats.wait, 0.99))
    return (name, *map(str, numbers), str(replaced), *waits)


def _cells(row: tuple[str, ...]) -> Iterator[str]:
    for cell, (_, _, width) in zip(row, _HEADS, strict=True):
        yield cell.rjust(width) if width > 0 else cell.ljust(-width)


def _bound(waits: Histogram, share: float) -> str:
    """A quantile, which a histogram of buckets knows from above only."""
    if not waits.count:
        return "-"
    bound_s = waits.quantile(share)
    if bound_s == float("inf"):
        return "long"
    return f"<{bound_s * 1000:g} ms" if bound_s < 1 else f"<{bound_s:g} s"


def lines_of(claim: Claim, ticks: tuple[str, str]) -> list[str]:
    """A claim with its tick or cross: one line, or more where one cannot hold it."""
    tick, cross = ticks
    text = f"{tick if claim.ok else cross} {claim.finding} - {claim.promise}"
    return textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def closing(summary: Summary) -> list[str]:
    """The last lines: what came of it, and how to see the same again."""
    count, failed = len(summary.claims), len(summary.failed)
    held = f"all {count} claims hold" if not failed else f"{failed} of {count} claims do not hold"
    early = "interrupted; " if summary.interrupted else ""
    audit = summary.evidence.audit
    return [
        f"{early}{held}, by the audit of the server: {audit.exchanges} exchanges,",
        f"{audit.sessions_created} sessions, {audit.requests} requests in "
        f"{summary.seconds:.0f} s; --seed {summary.seed} plays the same parts again",
    ]


def _ticks(out: Any) -> tuple[str, str]:
    try:
        "✓✗".encode(getattr(out, "encoding", None) or sys.getdefaultencoding())
    except UnicodeEncodeError:
        return ("+", "x")
    return ("✓", "✗")


def _styled(rows: list[str]) -> list[Text]:
    heads, agents, total = rows[:2], rows[2:-1], rows[-1]
    return [
        *(Text(row, "dim") for row in heads),
        *map(Text, agents),
        Text(total, "bold"),
    ]


def _sheet(lines: list[Text]) -> Text:
    # Cropped and not wrapped: on a narrow terminal a table of broken lines is none.
    return Text("\n", no_wrap=True, overflow="crop").join(lines)
