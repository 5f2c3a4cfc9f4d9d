"""The screen: it fits 80 columns, appends where there is no terminal, and ticks what holds."""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import replace

from rich.console import Console

from session_pool import PoolStats
from session_pool.cli.claims import Summary, judge
from session_pool.cli.screen import (
    WIDTH,
    Frame,
    LiveScreen,
    PlainScreen,
    lines_of,
    screen_for,
    table,
)
from session_pool.telemetry import Recorder
from tests.cli.judged import FAULTLESS, ORDERS, spoilt

TICKS = ("✓", "✗")


def waits(*seconds: float) -> PoolStats:
    recorder = Recorder()
    for second in seconds:
        recorder.observe(second)
    return replace(ORDERS, wait=recorder.read())


def frame(at_s: float = 3.0, **agents: PoolStats) -> Frame:
    agents = agents or {"orders": ORDERS, "support": ORDERS}
    return Frame(at_s, 20.0, PoolStats.total(agents), Counter(orders=1), Counter(orders=2))


def summary(seen: object = None) -> Summary:
    evidence = FAULTLESS if seen is None else spoilt(overlapping_exchanges=1)
    return Summary(
        claims=judge(evidence), evidence=evidence, seed=7, seconds=20.0, lifetime_s=6.0,
        interrupted=False,
    )  # fmt: skip


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_the_table_has_one_width_of_at_most_80_columns() -> None:
    big = replace(ORDERS, idle=9999, leased=9999, parked=9999, creating=9999, created=99999)
    lines = table(frame(travel=big, orders=waits(0.3, 70.0)))
    assert {len(line) for line in lines} == {len(lines[0])}
    assert len(lines[0]) <= WIDTH


def test_the_table_has_a_row_for_each_agent_and_one_for_all() -> None:
    rows = [line.split() for line in table(frame())]
    assert rows[2] == ["orders", "3", "1", "4", "0", "1", "20", "2", "-", "-"]
    assert rows[3] == ["support", "3", "1", "4", "0", "0", "20", "0", "-", "-"]
    assert rows[4] == ["all", "6", "2", "8", "0", "1", "40", "2", "-", "-"]


def test_waits_are_told_as_the_bounds_that_a_histogram_knows() -> None:
    told = {
        seconds: table(frame(orders=waits(seconds)))[2].split("2", 2)[-1].split()[-2:]
        for seconds in (0.0, 0.3, 0.9, 4000.0)
    }
    assert told == {
        0.0: ["<1", "ms"],
        0.3: ["<500", "ms"],
        0.9: ["<1", "s"],
        4000.0: ["long", "long"],
    }


def test_claims_are_ticked_or_crossed_and_wrapped_at_80_columns() -> None:
    for claim in (*judge(FAULTLESS), *judge(spoilt(overlapping_exchanges=1, unfinished=12345))):
        first, *more = lines_of(claim, TICKS)
        assert first[0] == TICKS[not claim.ok]
        assert all(len(line) <= WIDTH for line in (first, *more))
        assert all(line.startswith("  ") for line in more)


def test_without_a_terminal_lines_only_append_and_carry_no_escape() -> None:
    out = io.StringIO()
    screen = screen_for(out, {"FORCE_COLOR": "1"})
    with screen.live():
        screen.frame(frame(0.0))
        screen.frame(frame(0.5))
        screen.news(0.7, "orders-1 begins")
    screen.end(frame(20.0), summary())
    lines = out.getvalue().splitlines()
    assert lines[0].startswith("  0.0 s  idle 6, leased 2")
    assert lines[1] == "  0.7 s  orders-1 begins"
    assert "\x1b" not in out.getvalue()
    assert max(map(len, lines)) <= WIDTH


def test_a_terminal_gets_a_table_that_redraws_itself() -> None:
    out = Terminal()
    screen = LiveScreen(Console(file=out, force_terminal=True, width=80, height=24))
    with screen.live():
        screen.news(0.7, "orders-1 begins")
        screen.frame(frame(1.0))
    screen.end(frame(20.0), summary())
    assert "orders-1 begins" in out.getvalue()
    assert "\x1b[" in out.getvalue()
    assert "all 10 claims hold" in out.getvalue()


def test_no_color_ci_and_dumb_terminals_get_plain_lines() -> None:
    for environ in ({"NO_COLOR": "1"}, {"CI": "true"}, {"TERM": "dumb"}):
        assert isinstance(screen_for(Terminal(), environ), PlainScreen)
    assert isinstance(screen_for(Terminal(), {"TERM": "xterm", "NO_COLOR": ""}), LiveScreen)


def test_an_encoding_without_ticks_gets_others() -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    PlainScreen(out).end(frame(), summary("spoilt"))
    text = raw.getvalue().decode()
    assert "+ exchanges on dead sessions: 0" in text
    assert "x overlapping exchanges: 1" in text
    assert "1 of 10 claims do not hold" in text
