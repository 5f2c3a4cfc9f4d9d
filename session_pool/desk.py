"""One agent as this process serves it: its terms, its wants, its note, who holds, and its numbers.

Plain state with little behaviour. It learns how long sessions of the agent live and scales the
thresholds to that (B16). It asks nobody anything.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Iterator
from itertools import chain
from typing import Any, Final

from session_pool.asked import AT_ONCE, NOTHING_ASKED, Asked
from session_pool.errors import ConfigError, SessionPoolError
from session_pool.events import (
    AgentDrained,
    AgentPaused,
    AgentRecycled,
    AgentResumed,
    ThresholdsScaled,
)
from session_pool.foundry import Urgency
from session_pool.model import FOREVER, Counts, PoolKey, Sighting, Sought, Terms
from session_pool.policy import AgentPolicy
from session_pool.refusals import MOST, Choice, of_version
from session_pool.rules import lie_ready
from session_pool.space import NO_NOTE, Failure, Noted, Want
from session_pool.stores.base import LocalStore
from session_pool.stores.lending import Lender
from session_pool.telemetry import Bus, PoolStats, Recorder
from session_pool.thresholds import scaled, wish

MEANINGFUL: Final = 0.1
"""Lifetimes that differ by less than this share leave the scaled thresholds as they are."""


LATE_S: Final = 120.0
"""A request whose client has gone may take effect so much later than one that is waited for: about
as long as gateways keep one."""


class Desk:
    """What this process knows of one agent.

    Args:
        name: under which it is listed, or its RID.
        key: the pool key.
        policy: the agent's.
        listed: it is in the configuration, so it is kept warm from the start.
        holder: this process.
        local: the store, if it ends with the process: then leases are without end (B21).
        bus: where the news of scaled thresholds, and of a new note, goes.

    Attributes:
        stranger: only other processes serve it; here it is looked after and nothing more.
        wary: the note says something of sessions that lie ready, so each is judged as it is handed
            out or comes back.
        told_malformed: that its sessions cannot be listed was said aloud.
        waiting: by request of those who wait the long way, which version they asked for, and what
            they were told to wait for (`Ticket.needs`).
        version_errors: what creations of versions were refused with here.
        warming: what calls of `warm` wait for, by the bell of each.
        plain: the want of who asks for nothing in particular.
        nothing_noted: the note says nothing that a hand-out has to heed: a free session that is
            granted is what `rules.confirm` calls ready.
        timeout_s: the policy's for an acquire; min_idle, max_idle, look_s: of `terms`; here since
            the short ways read them, and a model's or a named tuple's attributes cost more.
        lie_ready: its sessions do as a lease ends that nobody did anything with.
        lender: the short ways of a store in this process; None for one that is awaited.
        lends: the same while `nothing_noted`, so that it may lend; else None.
        lays_by: the same while `lie_ready` and not `wary`, so that it may take back; else None.
    """

    # What each hit reads has a slot of its own; the rest is too much for a dictionary that is
    # shared with the other desks.
    __slots__ = (
        "__dict__", "__weakref__", "asked_at", "held", "hits", "key", "lays_by", "leases",
        "lender", "lends", "look_s", "max_idle", "min_idle", "note_version", "plain", "timeout_s",
        "waited", "waits",
    )  # fmt: skip

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
        self.stranger = False
        self.terms: Terms = policy.terms()
        self.noted = Noted(NO_NOTE, 0, 0.0, True)
        self.note_version = 0
        self.noted_at = 0.0
        self.wary = False
        self.warming: dict[str, int] = {}
        self.nothing_noted = True
        self.asked_at: float | None = None
        self.born_with_s: float | None = None
        self.fresh_messages: int | None = None
        self.newest: str | None = None
        self.last_error: SessionPoolError | None = None
        self.version_errors: dict[str, SessionPoolError] = {}
        self._elsewhere: dict[str, float] = {}
        self.counts = Counts({}, 0, 0, {})
        self.waiting: dict[str, tuple[str | None, str]] = {}
        self.asking: set[Any] = set()  # requests on the long way, which a close takes back
        self.creating: dict[str, str | None] = {}
        self.leases: dict[str, weakref.ref[Any]] = {}
        self.talking: dict[str, asyncio.Task[Any] | None] = {}
        self.waits, self.creates, self.held = Recorder(), Recorder(), Recorder()
        self.hits = 0
        self.waited = self.timeouts = self.created_failed = 0
        self.plain: Want
        self.lie_ready: bool
        self.lends: Lender | None
        self.lays_by: Lender | None
        self.timeout_s = policy.acquire_timeout_s
        self._holder = holder
        self.lender = local.lender(key) if local is not None else None
        self._ttl_s = FOREVER if local is not None else policy.lease_ttl_s
        self._bus = bus
        self._told_scaled = self.told_malformed = False
        self._adapt()

    @property
    def rid(self) -> str:
        """The agent's RID."""
        return self.key.agent_rid

    def target(self, now: float) -> int:
        """How many idle sessions to keep: none for an unlisted agent that nobody asks for."""
        asked = self.asked_at is not None and now - self.asked_at < self.policy.unlisted_idle_s
        target = self.terms.min_idle if self.listed or asked else 0
        return max(target, *self.warming.values()) if self.warming else target

    def take_note(self, noted: Noted, now: float) -> None:
        """Know the key's note as it stands, by this process's clock; tell what is new in it."""
        was, self.noted, self.noted_at = self.noted, noted, now
        self.note_version = noted.version
        note = noted.note
        self.wary = note.early_death_s is not None or note.recycled > 0 or note.drained
        silent = note.failure is None and note.doubted_before is None
        if note.refused:  # of others' versions the short ways need not know
            silent = silent and of_version(note, self.terms.agent_version) is None
        self.nothing_noted = silent and not self.wary and noted.open
        self._choose_ways()
        if noted.version <= was.version:  # an answer that was overtaken, or another epoch's
            return
        self._elsewhere.clear()
        if note.recycled > was.note.recycled:
            self._bus.publish(AgentRecycled(agent_rid=self.rid))
        if note.drained and not was.note.drained:
            self._bus.publish(AgentDrained(agent_rid=self.rid))
        elif was.open and not noted.open:
            self._bus.publish(AgentPaused(agent_rid=self.rid))
        elif noted.open and not was.open:
            self._bus.publish(AgentResumed(agent_rid=self.rid))

    def failing(self, now: float, version: str | None = None) -> Failure | None:
        """The known failure, while it keeps newcomers for that version from trying (B10)."""
        note, age_s = self.noted.note, self.noted.age_s + now - self.noted_at
        if note.failure is not None and age_s < self.terms.error_ttl_s:
            return note.failure
        return self.barred(now, version)

    def barred(self, now: float, version: str | None) -> Failure | None:
        """What a version by number was refused for, while it alone must not be tried (B10)."""
        one = of_version(self.noted.note, version)
        if one is None:
            return None
        age_s = one.age_s + self.noted.age_s + now - self.noted_at
        return one.failure if age_s < self.terms.error_ttl_s else None

    def met(self, error: SessionPoolError, version: str | None = None) -> None:
        """Keep what a creation, of a version that alone it concerns, failed with, as a cause."""
        if version is None:
            self.last_error = error
            return
        self.version_errors[version] = error
        if len(self.version_errors) > MOST:
            del self.version_errors[next(iter(self.version_errors))]

    def cause(self, failure: Failure, version: str | None) -> SessionPoolError | None:
        """The error behind a known failure, where this process has met it itself."""
        if failure is self.noted.note.failure:
            return self.last_error
        return self.version_errors.get(version or "")

    def want(self, asked: Asked) -> Want:
        """What to ask the store for.

        Raises:
            ConfigError: a wish for more life than the agent's sessions are born with (B8).
        """
        if asked is NOTHING_ASKED or asked is AT_ONCE:
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

    def learn(self, seen: Sighting, *, pinned: bool = False) -> bool:
        """Take in how a new session is; True if what waiters may wish for has changed."""
        lifetime_s, before = seen.session.lifetime_s, self.born_with_s
        self.fresh_messages = seen.session.message_count
        if not pinned:
            self.newest = seen.session.agent_version
        if seen.remaining_s <= 0:
            return False
        self.born_with_s = seen.remaining_s
        shorter = before is None or seen.remaining_s < 0.99 * before
        fitting = scaled(self.policy.terms(), lifetime_s)
        drift = abs(fitting.refresh_ahead_s / self.terms.refresh_ahead_s - 1)
        if drift < MEANINGFUL:
            return shorter
        self.terms = fitting
        self._adapt()
        if not self._told_scaled and fitting.refresh_ahead_s < self.policy.refresh_ahead_s:
            self._told_scaled = True
            self._bus.publish(
                ThresholdsScaled(
                    agent_rid=self.rid,
                    lifetime_s=lifetime_s,
                    refresh_ahead_s=fitting.refresh_ahead_s,
                )
            )
        return True

    def sought(self, version: str | None) -> Sought:
        """What a session of that version will look like, should its creation's answer be lost."""
        return Sought(
            agent_version=version,
            newest=self.newest,
            messages=self.fresh_messages,
            until_s=self.policy.create_timeout_s + LATE_S,
        )

    def choose(self, now: float) -> Choice | None:
        """What the next session is to be: what a waiter wants for whom none is under way yet.

        What is known to be refused is left out, but for one creation at a time that tries it once
        `error_ttl_s` have passed (B10).

        Returns:
            None if nothing may be tried now of what is wanted.
        """
        under_way = list(self.creating.values())
        for version in self._versions():
            if version in under_way:
                under_way.remove(version)
            elif (choice := self._try(version, now)) is not None:
                return choice
        choice = self._try(self.terms.agent_version, now)
        # Who waits in other processes may wait for what is refused, so none is made for them.
        if choice is not None and self.noted.note.refused:
            return choice._replace(waited_for=False)
        return choice

    def tried_elsewhere(self, probe: str, until: float) -> None:
        """Somebody else tries what was refused: leave it to them for a while."""
        self._elsewhere[probe] = until

    def _try(self, version: str | None, now: float) -> Choice | None:
        one = of_version(self.noted.note, version)
        if one is None:
            return Choice(version)
        if self.barred(now, version) or version in self.creating.values():
            return None
        elsewhere = now < self._elsewhere.get(one.probe, now)
        return None if elsewhere else Choice(version, one.probe)

    def missing(self) -> int:
        """How many creations its callers here wait for that are not under way."""
        counts = self.counts  # of this process's last answer: others' waiters are not counted on
        creating = counts.of("creating")
        ceiling = min(counts.new, self.terms.max_creating)
        return max(0, min(len(self.waiting), ceiling - creating))

    def lacking(self, target: int) -> int:
        """How many of so many sessions to lie ready are neither there nor under way."""
        counts = self.counts
        note = self.noted.note
        refused = note.failure is not None or of_version(note, self.terms.agent_version) is not None
        if refused or not self.noted.open:
            return 0
        creating, fresh = counts.of("creating"), counts.of("idle")
        short = target - fresh - max(0, creating - counts.new)
        return max(0, min(short, self.terms.max_creating - creating))

    def urgency(self) -> Urgency:
        """What its next creation is for."""
        if self.counts.new:
            return Urgency.CREATE
        return Urgency.REPLACE if self.counts.of("ageing") else Urgency.WARM

    def _versions(self) -> Iterator[str | None]:
        if self.lender is not None:  # it knows those as well who stand in line the short way
            return (want.agent_version for want in self.lender.wants())
        # Who waits for a session that is there wants none made, as far as it was told.
        waiting, usual = self.waiting.values(), self.terms.agent_version
        in_want = (version or usual for version, needs in waiting if needs != "own")
        others = (version or usual for version, needs in waiting if needs == "own")
        return chain(in_want, others)

    def overfull(self, counts: Counts) -> bool:
        """Whether a cap on what lies ready or is remembered is exceeded."""
        states, terms = counts.states, self.terms
        return (
            states.get("idle", 0) > (0 if self.noted.note.drained else terms.max_idle)
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
            paused=0 if self.noted.open else 1,
            waited=self.waited,
            timeouts=self.timeouts,
            created_failed=self.created_failed,
            wait=self.waits.read(at_once=self.hits),
            create=self.creates.read(),
            lease=self.held.read(),
        )

    def _choose_ways(self) -> None:
        self.lends = self.lender if self.nothing_noted else None
        self.lays_by = self.lender if self.lie_ready and not self.wary else None

    def _adapt(self) -> None:
        terms = self.terms
        self.lie_ready = lie_ready(terms)
        self._choose_ways()
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
