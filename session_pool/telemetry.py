"""Statistics, events and logging: what the pool tells about itself.

Cheap enough for the hit path (an addition and a bisection), current values apart from totals (B24).
Logging is the standard library's, with structured extras, and quiet unless somebody configures it.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_left
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Final, Self

from session_pool.events import (
    AgentDrained,
    AgentPaused,
    ConversationReplaced,
    CreationFailed,
    CreationUnsettled,
    Event,
    EventsDropped,
    LeaseDropped,
    LeaseEnded,
    Mislabelled,
    OrphanFound,
    SessionDied,
    StoreAway,
    StoreBack,
    StoreForgot,
    TaskRestarted,
    ThresholdsScaled,
)

log: Final = logging.getLogger("session_pool")
log.addHandler(logging.NullHandler())

KEPT: Final = 1000
"""Events a subscriber may be behind before the oldest are dropped."""

BOUNDS_S: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
    1800.0,
)  # fmt: skip
"""Upper bounds of the histograms' buckets, in seconds; one more holds all above."""

BRIEF_S: Final = BOUNDS_S[0]
"""What is no longer than this is in the first bucket, which the hit path need not look for."""

_LOUD = (
    AgentDrained, AgentPaused, ConversationReplaced, CreationFailed, CreationUnsettled,
    LeaseDropped, LeaseEnded, Mislabelled, OrphanFound, SessionDied, StoreAway, StoreForgot,
    TaskRestarted, ThresholdsScaled,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Histogram:
    """How long something took: counts per bucket.

    Attributes:
        counts: one for each of `bounds_s` (durations up to that many seconds), and one for above.
        sum_s: all durations together, in seconds.
    """

    counts: tuple[int, ...]
    sum_s: float
    bounds_s: tuple[float, ...] = field(default=BOUNDS_S, repr=False)

    @property
    def count(self) -> int:
        """How many were observed."""
        return sum(self.counts)

    def quantile(self, q: float) -> float:
        """An upper bound, in seconds, below which a share `q` of all observations lies."""
        if not self.count:
            return 0.0
        rank, seen = q * self.count, 0
        for bound, count in zip((*self.bounds_s, float("inf")), self.counts, strict=True):
            seen += count
            if seen >= rank and count:
                return bound
        return float("inf")

    def __add__(self, other: Histogram) -> Histogram:
        counts = tuple(a + b for a, b in zip(self.counts, other.counts, strict=True))
        return Histogram(counts, self.sum_s + other.sum_s)


class Recorder:
    """A histogram being filled."""

    __slots__ = ("counts", "sum_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.sum_s = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.sum_s += seconds

    def read(self, *, at_once: int = 0) -> Histogram:
        """What was observed so far; `at_once` more took no time and were only counted."""
        first, *others = self.counts
        return Histogram((first + at_once, *others), self.sum_s)


NOTHING: Final = Recorder().read()


@dataclass(frozen=True, slots=True)
class PoolStats:
    """How the pool stands: current values, totals, and how long things took (B24).

    At any moment created + adopted = idle + leased + parked + quarantined + retiring + retired.

    Attributes:
        creating, idle, leased, parked, quarantined, retiring, waiting: now. `idle` includes those
            due for replacement.
        unsettled: creations whose answer was lost, now on record.
        paused: agents that are paused or drained, as far as this process knows (B25).
        created, adopted, retired: sessions, in total.
        waited, timeouts, created_failed: acquires that had to wait, that ran out of time, and
            failed attempts to create, in total.
        wait, create, lease: how long acquires waited, creations took and leases lasted.
        agents: the same by agent, under its name (or RID where it has none).
    """

    created: int = 0
    adopted: int = 0
    unsettled: int = 0
    creating: int = 0
    idle: int = 0
    leased: int = 0
    parked: int = 0
    quarantined: int = 0
    retiring: int = 0
    retired: int = 0
    waiting: int = 0
    paused: int = 0
    waited: int = 0
    timeouts: int = 0
    created_failed: int = 0
    wait: Histogram = NOTHING
    create: Histogram = NOTHING
    lease: Histogram = NOTHING
    agents: Mapping[str, PoolStats] = field(default_factory=dict)

    @classmethod
    def total(cls, agents: Mapping[str, PoolStats]) -> Self:
        """The sum over agents, with each of them in `.agents`."""
        values: dict[str, int] = {}
        histograms = {"wait": NOTHING, "create": NOTHING, "lease": NOTHING}
        for stats in agents.values():
            for name in _NUMBERS:
                values[name] = values.get(name, 0) + getattr(stats, name)
            for name, sum_ in histograms.items():
                histograms[name] = sum_ + getattr(stats, name)
        return cls(**values, **histograms, agents=agents)  # type: ignore[arg-type]  # by name


_NUMBERS: Final = tuple(
    name
    for name in PoolStats.__dataclass_fields__
    if name not in ("wait", "create", "lease", "agents")
)


class Subscription:
    """An endless iterator over what happens from now on; see `SessionPool.subscribe`.

    Keeps 1,000 unread events, then drops the oldest and says how many with `EventsDropped`. It ends
    when the pool is closed and everything was read, or with `close()`. One reader at a time.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._events: deque[Event] = deque()
        self._dropped = 0
        self._ended = False
        self._news = asyncio.Event()

    def offer(self, event: Event) -> None:
        """Keep an event for the reader."""
        if len(self._events) == KEPT:
            self._events.popleft()
            self._dropped += 1
        self._events.append(event)
        self._news.set()

    def close(self) -> None:
        """End the iteration once what is kept was read."""
        self._ended = True
        self._news.set()
        self._bus.forget(self)

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        while not self._events:
            if self._ended:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            return EventsDropped(count=dropped)
        return self._events.popleft()


class Bus:
    """Carries events to subscribers and to the log."""

    def __init__(self) -> None:
        self._subscriptions: list[Subscription] = []
        self._closed = False

    @property
    def heard(self) -> bool:
        """Somebody subscribes."""
        return bool(self._subscriptions)

    def subscribe(self) -> Subscription:
        """Hear of everything from this moment on."""
        subscription = Subscription(self)
        if self._closed:  # nothing will come any more
            subscription.close()
        else:
            self._subscriptions.append(subscription)
        return subscription

    def forget(self, subscription: Subscription) -> None:
        """Tell it nothing more."""
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)

    def publish(self, event: Event) -> None:
        """Tell the subscribers and the log."""
        for subscription in self._subscriptions:
            subscription.offer(event)
        level = logging.WARNING if isinstance(event, _LOUD) else logging.DEBUG
        if isinstance(event, StoreBack):  # the end of what was a warning
            level = logging.INFO
        if log.isEnabledFor(level):
            details = asdict(event)
            shown = " ".join(f"{name}={value}" for name, value in details.items() if name != "at")
            log.log(level, "%s %s", event.name, shown, extra={"event": event.name, **details})

    def close(self) -> None:
        """End every subscription, and those that come after."""
        self._closed = True
        for subscription in tuple(self._subscriptions):
            subscription.close()
