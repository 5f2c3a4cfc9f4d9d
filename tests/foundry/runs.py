"""Requests through a budget, for its tests: what started when, and how many ran at once."""

from __future__ import annotations

import asyncio

from session_pool.foundry import Budget, Limits, Urgency


class Runs:
    """Requests through a budget: what started when, and how many ran at once."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.started: list[tuple[str, float]] = []
        self.running = 0
        self.peak = 0
        self.tasks: list[asyncio.Task[None]] = []

    def send(
        self, urgency: Urgency, name: str = "", *, since: float | None = None, takes_s: float = 1
    ) -> asyncio.Task[None]:
        async def run() -> None:
            async with self.budget.slot(urgency, since):
                self.started.append((name or urgency.name, asyncio.get_running_loop().time()))
                self.running += 1
                self.peak = max(self.peak, self.running)
                try:
                    await asyncio.sleep(takes_s)
                finally:
                    self.running -= 1

        task = asyncio.create_task(run())
        self.tasks.append(task)
        return task

    async def over(self) -> None:
        await asyncio.gather(*self.tasks, return_exceptions=True)
        snapshot = self.budget.snapshot()
        assert sum(snapshot.in_use.values()) == 0
        assert sum(snapshot.waiting.values()) == 0
        assert self.budget._timer is None

    @property
    def order(self) -> list[str]:
        return [name for name, _ in self.started]


def made(rate: int = 1_000_000, at_once: int = 1, share: float = 1.0) -> Runs:
    return Runs(Budget(Limits(rate, at_once, share)))
