"""`session-pool demo`: the main job, run against an emulated stack in this process.

A real HTTP server on loopback, sessions that live for seconds only, a pool on memory://, and people
who use it. Puts the other rooms together; what is claimed in the end stands in `claims`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from session_pool import SessionPool
from session_pool.cli.claims import Summary, judge
from session_pool.cli.evidence import Witness
from session_pool.cli.people import AGENTS, CONVERSATIONS, WORKERS, People, agents, policy
from session_pool.cli.screen import Frame, Screen
from session_pool.cli.stopping import Stop
from session_pool.emulator import Emulator
from session_pool.telemetry import Subscription

FRAME_S: Final = 0.25
READY_S: Final = 15.0
LAST_WORDS_S: Final = 0.5
"""For answers on their way when people stop."""
CLOSE_S: Final = 1.5
"""For creations on their way when the demo ends; they take 1.2 s at most."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to play.

    Attributes:
        seconds: how long it takes, from warming up to the last answer.
        lifetime_s: of a session, after its last exchange.
        seed: of all chances.
        faults: scripted faults of the server, in their one-line form.
    """

    seconds: float
    lifetime_s: float
    seed: int
    faults: Sequence[str] = ()

    @property
    def create_latency_s(self) -> float:
        """As on a real stack, 0.8 s; less only where sessions live hardly longer."""
        return min(0.8, self.lifetime_s / 5)


async def perform(plan: Plan, screen: Screen, stop: Stop) -> Summary:
    """Play it, show it, and judge it.

    Args:
        plan: what to play.
        screen: where to show it.
        stop: a request to end early; the summary is of what was played by then.

    Raises:
        SessionPoolError: the pool could not be made ready.
        ValueError: a fault that cannot be meant.
        OSError: no port of loopback could be had.
    """
    emulator = Emulator(
        faults=plan.faults,
        seed=plan.seed,
        lifetime_s=plan.lifetime_s,
        create_latency_s=plan.create_latency_s,
        exchange_latency_s=min(0.5, plan.lifetime_s / 8),
        latency_jitter=0.5,
    )
    async with emulator:
        pool = SessionPool(
            url=emulator.url,
            token=emulator.token,
            policy=policy(plan.lifetime_s),
            agents=agents(),
        )
        show = _Show(plan, screen, emulator, pool)
        await pool.open()
        following = asyncio.create_task(show.follow(pool.subscribe()))
        try:
            with screen.live():
                await show.run(stop)
        finally:
            await pool.aclose(CLOSE_S)
            await following  # the closed pool has no more to tell
        return show.end(interrupted=stop.signal is not None)


class _Show:
    """One performance, from the curtain to the summary."""

    def __init__(self, plan: Plan, screen: Screen, emulator: Emulator, pool: SessionPool) -> None:
        self._plan = plan
        self._screen = screen
        self._pool = pool
        self._emulator = emulator
        self._witness = Witness(emulator, plan.lifetime_s)
        self._time = asyncio.get_running_loop().time
        self._began = self._time()
        self._frame: Frame | None = None
        self._people = People(
            pool,
            now=emulator.now,
            lifetime_s=plan.lifetime_s,
            seed=plan.seed,
            news=self._news,
        )

    async def run(self, stop: Stop) -> None:
        """Play until it is over, or until told to stop."""
        tasks = [asyncio.create_task(it) for it in (stop.wait(), self._act(), self._draw())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            self._frame = self._look()
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome

    async def follow(self, events: Subscription) -> None:
        """Hear what the pool tells, until it is closed."""
        async for event in events:
            self._witness.hear(event)

    def end(self, *, interrupted: bool) -> Summary:
        """Judge, and show the outcome; the pool is closed by now."""
        frame = self._frame or self._look()
        evidence = self._witness.evidence(self._people.turns, frame.stats, self._pool.stats())
        summary = Summary(
            claims=judge(evidence),
            evidence=evidence,
            seed=self._plan.seed,
            seconds=frame.at_s,
            lifetime_s=self._plan.lifetime_s,
            interrupted=interrupted,
        )
        self._screen.end(frame, summary)
        return summary

    async def _act(self) -> None:
        plan = self._plan
        self._news(
            f"{len(AGENTS)} agents, {CONVERSATIONS} conversations, {WORKERS} workers; "
            f"a session lives {plan.lifetime_s:g} s"
        )
        self._news(f"warming up: a creation takes about {plan.create_latency_s:.1f} s")
        await self._pool.ready(READY_S)
        self._news("sessions are ready, people come")
        await self._people.play(max(1.0, plan.seconds - self._at_s() - LAST_WORDS_S))

    async def _draw(self) -> None:
        while True:
            self._screen.frame(self._look())
            await asyncio.sleep(FRAME_S)

    def _look(self) -> Frame:
        stats = self._pool.stats()
        self._witness.look(stats)
        return Frame(
            at_s=self._at_s(),
            seconds=self._plan.seconds,
            stats=stats,
            soon=self._witness.expiring_soon(),
            replaced=self._witness.replaced.copy(),
        )

    def _news(self, line: str) -> None:
        self._screen.news(self._at_s(), line)

    def _at_s(self) -> float:
        return self._time() - self._began


def exit_code(summary: Summary, stop: Stop) -> int:
    """How the process ends: 0 as claimed, 1 where a claim fails (said on stderr), or the signal."""
    if summary.failed:
        findings = "; ".join(claim.finding for claim in summary.failed)
        print(f"session-pool demo: does not hold: {findings}", file=sys.stderr)
    if stop.signal is not None:
        return 128 + stop.signal
    return 1 if summary.failed else 0
