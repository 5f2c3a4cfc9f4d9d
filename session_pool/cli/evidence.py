"""Collecting what the claims are judged on: the server's records, and the pool's own news.

The server saw every request, so what it saw counts; the pool's news say what it meant to do.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from session_pool import PoolStats
from session_pool.cli.claims import Evidence, balanced
from session_pool.cli.people import AGENTS, Turn
from session_pool.emulator import Emulator, SessionRecord
from session_pool.events import ConversationReplaced, Event, SessionCreated, SessionDied
from session_pool.events import SessionRetired as Retired

SOON: Final = 0.25
"""Of a session's life: what ends within this share of it is "expiring soon"."""

_NAMES: Final = {rid: name for name, rid in AGENTS.items()}


class Witness:
    """Follows the pool from outside: its events, its numbers, and the server's records.

    Args:
        emulator: the server.
        lifetime_s: of a session.

    Attributes:
        replaced: by agent, idle sessions retired because their replacement was ready.
        looks, unbalanced: how often the pool's account was looked at, and did not add up.
    """

    def __init__(self, emulator: Emulator, lifetime_s: float) -> None:
        self.replaced: Counter[str] = Counter()
        self.looks = self.unbalanced = 0
        self._emulator = emulator
        self._soon_s = SOON * lifetime_s
        self._kept: dict[str, str] = {}

    def hear(self, event: Event) -> None:
        """Take in what the pool says happened."""
        match event:
            case SessionCreated():
                self._kept[event.session_rid] = _NAMES.get(event.agent_rid, event.agent_rid)
            case Retired():
                agent = self._kept.pop(event.session_rid, None)
                if event.reason == "replaced" and agent is not None:
                    self.replaced[agent] += 1
            case SessionDied():
                self._kept.pop(event.session_rid, None)
            case ConversationReplaced():
                self._kept.pop(event.replaces, None)

    def look(self, stats: PoolStats) -> None:
        """Look at the pool's account (B24)."""
        self.looks += 1
        self.unbalanced += not balanced(stats)

    def expiring_soon(self) -> Counter[str]:
        """By agent, sessions that the pool keeps and that end within a quarter of a life."""
        now_ns = self._emulator.now() * 1e9
        found: Counter[str] = Counter()
        for rid, agent in self._kept.items():
            session = self._emulator.sessions.get(rid)
            if session is not None and 0 < session.shown_ns - now_ns <= self._soon_s * 1e9:
                found[agent] += 1
        return found

    def evidence(self, turns: Sequence[Turn], stats: PoolStats, after: PoolStats) -> Evidence:
        """Everything that was seen.

        Args:
            turns: the texts that were sent.
            stats: the pool's, when the last of them had been answered.
            after: the pool's, now that it is closed.
        """
        history = _history(self._emulator.sessions)
        answered = [turn for turn in turns if turn.answered]
        failed = sum(1 for turn in turns if turn.error)
        truths = [(turn, history[turn.trace_id]) for turn in answered if turn.conversation]
        lost = [turn for turn, truth in truths if truth.context == "lost"]
        settings = self._emulator.settings
        return Evidence(
            audit=self._emulator.audit(),
            answered=len(answered),
            failed=failed,
            unfinished=len(turns) - len(answered) - failed,
            waits_s=tuple(
                truth.begun_s - turn.asked_s for turn, truth in truths if turn.number == 1
            ),
            creation_s=settings.create_latency_s * (1 + settings.latency_jitter),
            replaced=self.replaced.total(),
            left_to_expire=self._left_to_expire(),
            lost=len(lost),
            announced=sum(1 for turn in lost if turn.context == "lost"),
            misled=sum(1 for turn, truth in truths if truth.context not in ("lost", turn.context)),
            looks=self.looks,
            unbalanced=self.unbalanced,
            stats=stats,
            made=after.created,
            unsettled=after.unsettled,
        )

    def _left_to_expire(self) -> int:
        sessions = self._emulator.sessions
        return sum(
            1
            for rid in self._kept
            if rid in sessions
            and not sessions[rid].traces
            and not sessions[rid].deleted
            and not self._emulator.is_alive(rid)
        )


@dataclass(frozen=True, slots=True)
class Truth:
    """An exchange as the server knows it.

    Attributes:
        begun_s: when it reached the server, by the server's clock.
        context: what its conversation's agent knew of what was said before: "new", "kept", "lost".
    """

    begun_s: float
    context: str


def _history(sessions: Mapping[str, SessionRecord]) -> dict[str, Truth]:
    """By trace id, what the server knows of each exchange that carried a mark."""
    said = defaultdict(list)
    for session in sessions.values():
        for exchange in session.traces.values():
            said[exchange.mark].append(exchange)
    truths: dict[str, Truth] = {}
    for exchanges in said.values():
        before = None
        for exchange in sorted(exchanges, key=lambda it: it.begun_ns):
            same = exchange.session_rid == before
            context = "new" if before is None else "kept" if same else "lost"
            truths[exchange.trace_id] = Truth(exchange.begun_ns / 1e9, context)
            before = exchange.session_rid
    return truths
