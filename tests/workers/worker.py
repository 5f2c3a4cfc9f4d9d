"""A worker of a fleet: a process with a pool of its own on the shared store, and many tasks.

Run as a program. Its first line of input is its `Job`; it answers in lines of JSON: that it is
ready, how far it is, and as it ends what it saw. The line "go" lets it begin, "stop" lets it end.
It judges nothing but that each answer is the answer to what was asked; the rest is the fleet's.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import count
from typing import Any, Final, NamedTuple

from session_pool import Agent, AgentPolicy, Lease, RequestLimits, SessionPool, SessionPoolError
from session_pool.events import LeaseEnded, StoreForgot
from tests.workers import clocks

PATIENCE_S: Final = 40.0
"""For an acquire and for an exchange: longer than whatever a test does to it lasts."""

KEPT_S: Final = 4.0
"""How long a session is kept by who keeps it long: longer than a lease is in these tests."""

MIX: Final = {"talk": 11, "once": 5, "unused": 3, "hold": 2, "keep": 1, "cancel": 3}
"""Tasks of each kind: 25."""


LIMITS: Final = RequestLimits(requests_per_minute=10_000_000, concurrent_requests=10_000)
"""Of all processes of a fleet: what one names holds for all on the store (B13)."""


class Job(NamedTuple):
    """What a worker is told.

    Attributes:
        name: unique in its fleet.
        url, token: of the remote.
        store: where the state is.
        agents: by short name; the RID, and the policy's fields.
        mix: tasks of each kind, by the names of `Turns`.
        talks: conversations, which all workers share.
        think_s: the mean pause of a task between two turns.
        clock_ahead_s: how far its clocks are ahead of the machine's.
    """

    name: str
    url: str
    token: str
    store: str
    agents: dict[str, tuple[str, dict[str, Any]]]
    mix: dict[str, int] = MIX
    talks: int = 12
    think_s: float = 0.3
    clock_ahead_s: float = 0.0


class Turns:
    """What the tasks of a worker do, one turn after the other; each method is a kind of turn."""

    def __init__(self, job: Job, pool: SessionPool) -> None:
        self.job = job
        self.pool = pool
        self.done: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.samples: dict[str, str] = {}
        self.contexts: Counter[str] = Counter()
        self.wrong = 0
        self.over = asyncio.Event()
        self._numbers = count(1)

    async def talk(self) -> None:
        """One turn of a conversation that others may want at the same time."""
        key = self._key()
        words = self._words(key)
        reply = await self.pool.conversation("talks", key).ask(words, timeout=PATIENCE_S)
        self.contexts[reply.context] += 1
        self._check(reply.text, words)

    async def once(self) -> None:
        """A question without a conversation, in a session that nobody else may ever see."""
        words = self._words(f"once {self.job.name} {next(self._numbers)}")
        async with self.pool.acquire("once", timeout=PATIENCE_S) as lease:
            exchange = await lease.blocking_continue(words, timeout=PATIENCE_S)
        self._check(exchange.text, words)

    async def unused(self) -> None:
        """A session that was not needed after all."""
        lease = await self.pool.acquire("once", timeout=PATIENCE_S)
        await lease.release(unused=True)

    async def hold(self) -> None:
        """A conversation's session kept for a while, with two questions."""
        key = self._key()
        async with self.pool.acquire("talks", conversation=key, timeout=PATIENCE_S) as lease:
            for words in (self._words(key), self._words(key)):
                exchange = await lease.blocking_continue(words, timeout=PATIENCE_S)
                self._check(exchange.text, words)
                with suppress(TimeoutError):  # held without doing anything; being lost ends it
                    async with asyncio.timeout(0.1):
                        await lease.lost.wait()

    async def keep(self) -> None:
        """A conversation of this worker's own, held for longer than a lease is without renewal."""
        key = f"kept by {self.job.name}"
        async with self.pool.acquire("talks", conversation=key, timeout=PATIENCE_S) as lease:
            await lease.blocking_continue(self._words(key), timeout=PATIENCE_S)
            await self._until_over_or(lease, KEPT_S)
            if not lease.lost.is_set():
                await lease.blocking_continue(self._words(key), timeout=PATIENCE_S)

    async def cancel(self) -> None:
        """A turn that its caller gives up, wherever it is just then."""
        turn = asyncio.create_task(random.choice((self.talk, self.once))())
        await asyncio.wait([turn], timeout=random.uniform(0.0, 0.1))
        turn.cancel()
        (outcome,) = await asyncio.gather(turn, return_exceptions=True)
        if isinstance(outcome, Exception):
            raise outcome

    async def wait(self) -> None:
        """One session, when the word is given; kept until the end."""
        async with self.pool.acquire("once", timeout=PATIENCE_S) as lease:
            self.done["served"] += 1
            self._tell()
            await self._until_over_or(lease, None)
        await self.over.wait()

    async def run(self, kind: str) -> None:
        """Turns of one kind, until it is over."""
        turn: Callable[[], Awaitable[None]] = getattr(self, kind)
        while not self.over.is_set():
            try:
                await turn()
            except Exception as error:  # noqa: BLE001  # whatever it is, the fleet is to judge it
                name = type(error).__name__
                self.errors[name] += 1
                self.samples.setdefault(name, str(error) or repr(error.__cause__))
                if not isinstance(error, SessionPoolError):
                    self.samples[name] += f" {error.__traceback__}"
            self.done[kind] += 1
            if self.done.total() % 5 == 0:
                self._tell()
            with suppress(TimeoutError):
                async with asyncio.timeout(random.uniform(0.0, 2 * self.job.think_s)):
                    await self.over.wait()

    async def _until_over_or(self, lease: Lease, timeout_s: float | None) -> None:
        """Return when the work is over, the lease is lost, or the time is up."""
        news = [asyncio.create_task(event.wait()) for event in (self.over, lease.lost)]
        await asyncio.wait(news, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        for task in news:
            task.cancel()

    def _tell(self) -> None:
        say(turns=self.done.total(), served=self.done["served"], errors=self.errors)

    def _key(self) -> str:
        return f"talk {random.randrange(self.job.talks)}"

    def _words(self, mark: str) -> str:
        return f"turn {self.job.name}-{next(self._numbers)} [[{mark}]]"

    def _check(self, answer: str, words: str) -> None:
        self.wrong += not answer.endswith(words)  # the emulator repeats what it was asked


def say(**what: Any) -> None:
    """Tell the fleet."""
    print(json.dumps(what), flush=True)


async def work(job: Job) -> None:
    """Open, wait for the word, work, and tell what was seen."""
    policies = {name: AgentPolicy(**fields) for name, (_, fields) in job.agents.items()}
    agents = {name: Agent(rid, policies[name]) for name, (rid, _) in job.agents.items()}
    pool = SessionPool(
        url=job.url, token=job.token, store=job.store, agents=agents, limits=LIMITS, sole_owner=True
    )
    turns = Turns(job, pool)
    lost: Counter[str] = Counter()
    seen: Counter[str] = Counter()

    async def listen() -> None:
        async for event in pool.subscribe():
            seen[event.name] += 1
            if isinstance(event, LeaseEnded):
                lost[event.why] += 1
            elif isinstance(event, StoreForgot):
                say(forgot=event.held)

    async with pool:
        listening = asyncio.create_task(listen())
        await asyncio.sleep(0)
        say(ready=pool._works.holder)
        if await _line() == "go":
            running = [
                asyncio.create_task(turns.run(kind))
                for kind, tasks in job.mix.items()
                for _ in range(tasks)
            ]
            await _line()
            turns.over.set()
            await asyncio.gather(*running)
    await listening
    say(
        report={
            "done": turns.done, "errors": turns.errors, "samples": turns.samples, "lost": lost,
            "contexts": turns.contexts, "wrong": turns.wrong, "events": seen,
        }
    )  # fmt: skip


async def _line() -> str:
    line: str = await asyncio.to_thread(sys.stdin.readline)
    return line.strip()


def main() -> None:
    """Be a worker."""
    job = Job(*json.loads(sys.stdin.readline()))
    random.seed(f"{job.name} {time.time_ns()}")
    clocks.shift(job.clock_ahead_s)
    asyncio.run(work(job))


if __name__ == "__main__":
    main()
