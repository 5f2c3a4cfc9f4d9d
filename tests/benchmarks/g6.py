"""G6: ten thousand idle sessions made in one second do not end in one second (B14).

A day in virtual time: the loop's clock jumps from timer to timer, so only the work is real. The
request limits are out of the way, hence the spacing is the pool's own. A caller probes throughout:
it never waits, so whoever is refused found no usable session where there should have been one.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import looptime

from session_pool import AcquireTimeout, Agent, AgentPolicy, RequestLimits, SessionPool
from tests.benchmarks.figures import Goal, Result, Row
from tests.benchmarks.remote import AGENT, Remote

TIMES_MEAN = 3.0
UNLIMITED = RequestLimits(requests_per_minute=100_000_000, concurrent_requests=1_000_000)

PROBE_S, CLOSELY_S = 60.0, 1.0
"""How often a caller comes by: all day, and around the renewal."""


class Day(NamedTuple):
    """What was seen in one lifetime and a bit.

    Attributes:
        renewals: when each creation of the last hour or so began, by the virtual clock.
        probes, refused: callers, and those of them who would have had to wait.
        least_idle: fewest idle sessions that a caller found.
        least_remaining_s: least life left of a session that was handed out.
    """

    renewals: list[float]
    probes: int
    refused: int
    least_idle: int
    least_remaining_s: float

    @property
    def peak(self) -> int:
        """Most creations that began within any one second."""
        most = first = 0
        for behind, at in enumerate(self.renewals, 1):
            while self.renewals[first] <= at - 1.0:
                first += 1
            most = max(most, behind - first)
        return most


def run(*, sessions: int = 10_000, lifetime_s: float = 86_400.0) -> Result:
    """Live through one lifetime, and `refresh_ahead_s` more."""
    policy = AgentPolicy(
        min_idle=sessions,
        max_idle=2 * sessions,
        max_creating=sessions,
        verify_after_s=2 * lifetime_s,
    )
    loop = looptime.new_event_loop(start=0.0, noop_cycles=2)
    try:
        day = loop.run_until_complete(_live(policy, lifetime_s))
    finally:
        loop.close()
    mean = sessions / policy.refresh_ahead_s
    over, took_s = day.peak / mean, day.renewals[-1] - day.renewals[0]
    return Result(
        "G6",
        f"{sessions:,} idle sessions made in one second, {lifetime_s / 3600:g} h before they end",
        "one run in virtual time",
        ("peak, x mean", "peak /s", "renewed"),
        (
            Row(
                "session_pool",
                (f"{over:.2f}", f"{day.peak}", f"{len(day.renewals):,}"),
                f"replaced ahead of their end, over {took_s:.0f} s; the mean is {mean:.1f} /s "
                f"over refresh_ahead_s = {policy.refresh_ahead_s:g} s",
            ),
        ),
        (
            Goal(
                f"creations per second at renewal <= {TIMES_MEAN:g} x the mean",
                f"{over:.2f} x",
                over <= TIMES_MEAN,
            ),
            Goal(
                f"no caller waits while a usable session exists ({day.probes:,} came by)",
                f"{day.refused} waited",
                day.refused == 0,
            ),
        ),
        {
            "over_mean": over,
            "renewed": len(day.renewals),
            "refused": day.refused,
            "probes": day.probes,
            "least_idle": day.least_idle,
            "least_remaining_s": day.least_remaining_s,
        },
        (
            f"Callers found {day.least_idle:,} idle sessions or more, and got none with less than "
            f"{day.least_remaining_s:.0f} s left.",
        ),
    )


async def _live(policy: AgentPolicy, lifetime_s: float) -> Day:
    now = asyncio.get_running_loop().time
    remote = Remote(latency_s=0.8, lifetime_s=lifetime_s)
    probes = refused = 0
    least_idle, least_remaining_s = policy.min_idle, lifetime_s
    async with SessionPool(
        url="https://stack.invalid",
        token="benchmark",
        agents={"agent": Agent(AGENT, policy)},
        limits=UNLIMITED,
        api=remote,
    ) as pool:
        await pool.ready(10)
        assert now() <= 1.0, "they were to be made within one second"
        closely = lifetime_s - policy.refresh_ahead_s - PROBE_S
        while now() < lifetime_s + policy.refresh_ahead_s:
            least_idle = min(least_idle, pool.stats().idle)
            probes += 1
            try:
                async with pool.acquire(AGENT, timeout=0) as lease:
                    lease.mark_unused()
                    least_remaining_s = min(least_remaining_s, lease.remaining_s())
            except AcquireTimeout:
                refused += 1
            await asyncio.sleep(PROBE_S if now() < closely else CLOSELY_S)
        renewals = [at for at in remote.started if at >= closely]
    return Day(renewals, probes, refused, least_idle, least_remaining_s)
