"""Who uses the pool in the demo: chatbot conversations with pauses, and workers.

They know the pool's public names and the server's clock (to note when they asked), and keep a
journal of what they said and were told. What is made of it stands in `claims`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final

from session_pool import Agent, AgentPolicy, Conversation, Reply, SessionPool, SessionPoolError

AGENTS: Final = {
    "orders": "ri.aip-agents..agent.6f1c4a52-0d2e-4b8e-9a77-1c5d3e9f0a11",
    "support": "ri.aip-agents..agent.b3a9d7e4-52c1-4f0a-8e66-7d20c4f1b522",
    "travel": "ri.aip-agents..agent.0e8b6c13-9f47-4d35-a1d8-53fa27c6e833",
}
CONVERSATIONS: Final = 12
WORKERS: Final = len(AGENTS)
FORGETFUL: Final = 6
"""Conversations that once pause for longer than a session lives: the first ones to begin."""

_WORDS: Final = {
    "orders": ("Where is my order?", "And the one before?", "Can it come on Friday?"),
    "support": ("My screen stays dark.", "I did that.", "It says error 7.", "Now it works!"),
    "travel": ("Is there a night train?", "With a bicycle?", "And back on Sunday?"),
}


def policy(lifetime_s: float) -> AgentPolicy:
    """A policy whose thresholds fit sessions that live only seconds."""
    return AgentPolicy(
        min_idle=3,
        doubt_s=0.1 * lifetime_s,
        min_remaining_s=0.2 * lifetime_s,
        refresh_ahead_s=0.5 * lifetime_s,
        settle_s=0.2 * lifetime_s,
        acquire_timeout_s=15.0,
        exchange_timeout_s=15.0,
    )


def agents() -> dict[str, Agent]:
    """The demo's agents by name."""
    return {name: Agent(rid) for name, rid in AGENTS.items()}


@dataclass(slots=True, eq=False)
class Turn:
    """One text that somebody sent through the pool.

    Attributes:
        mark: of its conversation; it stands in the text too.
        agent: the agent's name.
        number: which turn of its conversation it is, the first being 1.
        asked_s: when it was asked, in seconds by the server's clock.
        conversation: it belongs to a named conversation; else it is a worker's.
        context: what the reply says of it ("kept", "new", "lost").
        session_rid, trace_id: where it went, once it was answered.
        error: the name of the error that it ended in.
    """

    mark: str
    agent: str
    number: int
    asked_s: float
    conversation: bool = True
    context: str = ""
    session_rid: str = ""
    trace_id: str = ""
    error: str = ""

    @property
    def answered(self) -> bool:
        """Whether an answer came."""
        return bool(self.trace_id)


class People:
    """Everybody who talks; `play` lets them.

    Args:
        pool: an open pool with the demo's agents.
        now: the server's clock, in seconds.
        lifetime_s: of a session.
        seed: of words and pauses; everybody has their own chances, so order changes nothing.
        news: told what is worth telling, in one line.

    Attributes:
        turns: all texts sent, in the order in which they were asked.
    """

    def __init__(
        self,
        pool: SessionPool,
        *,
        now: Callable[[], float],
        lifetime_s: float,
        seed: int,
        news: Callable[[str], None],
    ) -> None:
        self.turns: list[Turn] = []
        self._pool = pool
        self._now = now
        self._seconds = 0.0
        self._lifetime_s = lifetime_s
        self._seed = seed
        self._news = news
        self._over = asyncio.Event()

    async def play(self, seconds: float) -> None:
        """Talk for so long; what was begun by then is finished.

        Cancelling it stops them in the middle of their words.
        """
        self._seconds = seconds
        async with asyncio.TaskGroup() as group:
            for number in range(CONVERSATIONS):
                group.create_task(self._converse(number))
            for number in range(WORKERS):
                group.create_task(self._work(number))
            await self._pause(seconds)
            self._over.set()

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._over.wait()
        except TimeoutError:
            pass  # the pause is over, and the demo is not

    def _chances(self, name: str) -> Random:
        return Random(f"{self._seed} {name}")  # noqa: S311 - to play the same again, no secret

    def _moment_s(self, chance: Random) -> float:
        """A pause between turns: mostly short, and well within a session's life."""
        usual_s = self._seconds / 16
        return min(chance.lognormvariate(0.0, 0.5) * usual_s, 0.5 * self._lifetime_s)

    # ------------------------------------------------------------------ chatbots

    async def _converse(self, number: int) -> None:
        agent = list(AGENTS)[number % len(AGENTS)]
        mark = f"{agent}-{number // len(AGENTS) + 1}"
        talk = self._pool.conversation(agent, ("demo", mark))
        chance = self._chances(mark)
        # One begins in each twelfth of the first half, so that all have time to go on.
        await self._pause((number + chance.random()) / CONVERSATIONS * 0.5 * self._seconds)
        count = 0
        while not self._over.is_set():
            count += 1
            words = chance.choice(_WORDS[agent])
            await self._say(talk, Turn(mark, agent, count, self._now()), words)
            away_s = self._moment_s(chance)
            if number < FORGETFUL and count == 2:
                away_s = self._lifetime_s * chance.uniform(1.3, 1.6)
                self._news(f"{mark} is silent for {away_s:.1f} s, longer than its session lives")
            await self._pause(away_s)

    async def _say(self, talk: Conversation, turn: Turn, words: str) -> None:
        text = f"{words} ({turn.number}) [[{turn.mark}]]"
        self.turns.append(turn)
        try:
            if turn.number % 2:
                reply = await talk.ask(text)
            else:
                async with talk.stream(text) as stream:
                    async for _ in stream:
                        pass
                    reply = stream.reply
        except SessionPoolError as error:
            self._failed(turn, error)
            return
        self._answered(turn, reply)

    def _answered(self, turn: Turn, reply: Reply) -> None:
        turn.context = reply.context
        turn.session_rid, turn.trace_id = reply.session_rid, reply.trace_id
        if reply.context == "new":
            self._news(f"{turn.mark} begins")
        elif reply.context == "lost":
            self._news(f"{turn.mark} comes back: its session had expired, and it is told so")

    # ------------------------------------------------------------------ workers

    async def _work(self, number: int) -> None:
        agent = list(AGENTS)[number]
        chance = self._chances(f"{agent}-job")
        job = 0
        while not self._over.is_set():
            await self._pause(self._moment_s(chance))
            job += 1
            mark = f"{agent}-job-{job}"
            turn = Turn(mark, agent, 1, self._now(), conversation=False)
            try:
                async with self._pool.acquire(agent) as lease:
                    if number == 0 and job % 2 == 0:
                        self._news(f"{mark} had nothing to do, and gives {lease.rid[-6:]} back")
                        await lease.release(unused=True)
                        continue
                    for count in range(1, 1 + chance.randint(1, 2)):
                        turn = Turn(mark, agent, count, self._now(), conversation=False)
                        self.turns.append(turn)
                        text = f"{chance.choice(_WORDS[agent])} ({count}) [[{mark}]]"
                        exchange = await lease.blocking_continue(text)
                        turn.session_rid, turn.trace_id = lease.rid, exchange.trace_id
            except SessionPoolError as error:
                if turn not in self.turns:  # not even a session was to be had
                    self.turns.append(turn)
                self._failed(turn, error)

    def _failed(self, turn: Turn, error: SessionPoolError) -> None:
        turn.error = type(error).__name__
        self._news(f"{turn.mark} failed: {turn.error}")
