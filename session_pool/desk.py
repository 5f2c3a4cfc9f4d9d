"""One agent as this process serves it: its terms, its wants, its note, who holds, and its numbers.

Plain state with little behaviour. It learns how long sessions of the agent live and scales the
thresholds to that (B16). It asks nobody anything.
"""

from __future__ import annotations

import asyncio
import weakref
from typing import Any, Final, NamedTuple

from session_pool.errors import AgentUnavailable as Unavailable
from session_pool.errors import AuthError, ConfigError, SessionPoolError
from session_pool.events import ThresholdsScaled
from session_pool.model import FOREVER, Counts, PoolKey, Sighting, Terms
from session_pool.policy import AgentPolicy
from session_pool.rules import lie_ready, plain, scaled, wish
from session_pool.space import NO_NOTE, Failure, Grant, Noted, Refusal, Ticket, Want
from session_pool.stores.base import LocalStore
from session_pool.telemetry import Bus, PoolStats, Recorder

MEANINGFUL: Final = 0.1
"""Lifetimes that differ by less than this share leave the scaled thresholds as they are."""


class Asked(NamedTuple):
    """What a caller asked for, as far as it shapes the want."""

    conversation: str | None = None
    agent_version: str | None = None
    min_remaining_s: float | None = None


NOTHING_ASKED = Asked()


class First(NamedTuple):
    """How far the short way came: a request that stands in line, is refused, or needs a look.

    Attributes:
        answer: the store's; None where it is to be asked again, since the bell was rung.
        place, began: of one that has stood in line: its number, and since when by the loop's time.
    """

    request: str
    want: Want
    answer: Grant | Ticket | Refusal | None
    place: int | None = None
    began: float | None = None


class Desk:
    """What this process knows of one agent.

    Args:
        name: under which it is listed, or its RID.
        key: the pool key.
        policy: the agent's.
        listed: it is in the configuration, so it is kept warm from the start.
        holder: this process.
        local: the store, if it ends with the process: then leases are without end (B21).
        bus: where the news of scaled thresholds goes.

    Attributes:
        plain: the want of who asks for nothing in particular.
        nothing_noted: the note says nothing that a hand-out has to heed (`rules.plain`).
        timeout_s: the policy's for an acquire; min_idle, max_idle, look_s: of `terms`; here since
            the short ways read them, and a model's or a named tuple's attributes cost more.
        lie_ready: its sessions do as a lease ends that nobody did anything with.
        lender: the short ways of a store in this process; None for one that is awaited.
    """

    def __init__(
        self,
        name: str,
        key: PoolKey,
        policy: AgentPolicy,
        *,
        listed: bool,
        holder: str,
        local: LocalStore | None,
        bus: Bus,
    ) -> None:
        self.name = name
        self.key = key
        self.policy = policy
        self.listed = listed
        self.terms: Terms = policy.terms()
        self.noted = Noted(NO_NOTE, 0, 0.0, True)
        self.noted_at = 0.0
        self.nothing_noted = True
        self.asked_at: float | None = None
        self.born_with_s: float | None = None
        self.last_error: SessionPoolError | None = None
        self.counts = Counts({}, 0, 0, {})
        self.waiting: dict[str, Asked] = {}
        self.creating: dict[str, str | None] = {}
        self.leases: dict[str, weakref.ref[Any]] = {}
        self.talking: dict[str, asyncio.Task[Any] | None] = {}
        self.waits, self.creates, self.held = Recorder(), Recorder(), Recorder()
        self.hits = 0
        self.waited = self.timeouts = self.created_failed = 0
        self.plain: Want
        self.lie_ready: bool
        self.timeout_s = policy.acquire_timeout_s
        self._holder = holder
        self.lender = local.lender(key) if local is not None else None
        self._ttl_s = FOREVER if local is not None else policy.lease_ttl_s
        self._bus = bus
        self._adapt()

    @property
    def rid(self) -> str:
        """The agent's RID."""
        return self.key.agent_rid

    def target(self, now: float) -> int:
        """How many idle sessions to keep: none for an unlisted agent that nobody asks for."""
        asked = self.asked_at is not None and now - self.asked_at < self.policy.unlisted_idle_s
        return self.terms.min_idle if self.listed or asked else 0

    def take_note(self, noted: Noted, now: float) -> None:
        """Know the key's note as it stands, by this process's clock."""
        self.noted, self.noted_at, self.nothing_noted = noted, now, plain(noted.note)

    def failing(self, now: float) -> Failure | None:
        """The known failure, while it keeps newcomers from trying (B10)."""
        fresh = self.noted.age_s + now - self.noted_at < self.terms.error_ttl_s
        return self.noted.note.failure if fresh else None

    def want(self, asked: Asked) -> Want:
        """What to ask the store for.

        Raises:
            ConfigError: a wish for more life than the agent's sessions are born with (B8).
        """
        if asked is NOTHING_ASKED:
            return self.plain
        wish_s = wish(asked.min_remaining_s, self.terms)
        if self.born_with_s is not None and wish_s > self.born_with_s:
            if (asked.min_remaining_s or 0.0) > self.born_with_s:
                raise ConfigError(
                    f"min_remaining_s: {asked.min_remaining_s:g} s is more than sessions of "
                    f"{self.name} are born with ({self.born_with_s:.0f} s); ask for less"
                )
            wish_s = asked.min_remaining_s or 0.0
        return self.plain._replace(
            conversation=asked.conversation,
            agent_version=asked.agent_version or self.terms.agent_version,
            wish_s=wish_s,
        )

    def learn(self, seen: Sighting) -> bool:
        """Take in how long a new session lives; True if what waiters may wish for has changed."""
        lifetime_s, before = seen.session.lifetime_s, self.born_with_s
        if seen.remaining_s <= 0:
            return False
        self.born_with_s = seen.remaining_s
        shorter = before is None or seen.remaining_s < 0.99 * before
        fitting = scaled(self.policy.terms(), lifetime_s)
        drift = abs(fitting.refresh_ahead_s / self.terms.refresh_ahead_s - 1)
        if drift < MEANINGFUL:
            return shorter
        first = self.terms.refresh_ahead_s == self.policy.refresh_ahead_s
        self.terms = fitting
        self._adapt()
        if first:
            self._bus.publish(
                ThresholdsScaled(
                    agent_rid=self.rid,
                    lifetime_s=lifetime_s,
                    refresh_ahead_s=fitting.refresh_ahead_s,
                )
            )
        return True

    def version_to_create(self) -> str | None:
        """The version of the next session: that of a waiter for whom none is under way yet."""
        under_way = list(self.creating.values())
        for asked in self.waiting.values():
            version = asked.agent_version or self.terms.agent_version
            if version not in under_way:
                return version
            under_way.remove(version)
        return self.terms.agent_version

    def overfull(self, counts: Counts) -> bool:
        """Whether a cap on what lies ready or is remembered is exceeded."""
        states, terms = counts.states, self.terms
        return (
            states.get("idle", 0) > terms.max_idle
            or states.get("parked", 0) + states.get("gone", 0) > terms.max_parked
        )

    def stats(self) -> PoolStats:
        """The agent's numbers, with the store's counts of one moment (B24)."""
        counts = self.counts
        return PoolStats(
            created=counts.tally.get("created", 0),
            adopted=counts.tally.get("adopted", 0),
            retired=counts.tally.get("retired", 0),
            unsettled=counts.of("unsettled"),
            creating=counts.of("creating"),
            idle=counts.of("idle", "ageing"),
            leased=counts.of("leased"),
            parked=counts.of("parked"),
            quarantined=counts.of("quarantined"),
            retiring=counts.of("retiring"),
            waiting=counts.waiting,
            waited=self.waited,
            timeouts=self.timeouts,
            created_failed=self.created_failed,
            wait=self.waits.read(at_once=self.hits),
            create=self.creates.read(),
            lease=self.held.read(),
        )

    def _adapt(self) -> None:
        terms = self.terms
        self.lie_ready = lie_ready(terms)
        self.min_idle, self.max_idle, self.look_s = (
            terms.min_idle,
            terms.max_idle,
            terms.verify_after_s,
        )
        self.plain = Want(
            self.key,
            self._holder,
            None,
            terms.agent_version,
            terms.min_remaining_s,
            self._ttl_s,
            terms.max_leased,
            terms.max_waiting,
        )


def failure_of(error: SessionPoolError) -> Failure | None:
    """The error as a note can carry it to other processes; None for one that passes (B10)."""
    if not isinstance(error, Unavailable | AuthError):
        return None
    return Failure(
        "auth" if isinstance(error, AuthError) else "agent",
        str(error),
        error.error_name,
        error.error_instance_id,
        error.status,
    )


def error_of(failure: Failure) -> Unavailable | AuthError:
    """The failure as an error to raise, the same in every process."""
    kind = AuthError if failure.kind == "auth" else Unavailable
    return kind(
        failure.message,
        error_name=failure.error_name,
        error_instance_id=failure.error_instance_id,
        status=failure.status,
    )
