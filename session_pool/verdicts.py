"""What upkeep decides: of an entry whose deadline has passed, and of a session it has looked at.

Pure like `rules`, whose table of changes it obeys: no I/O, no clock, no randomness.
"""

from __future__ import annotations

import math
from typing import Final, Literal, NamedTuple

from session_pool.model import Entry, Facts, PoolKey, Session, Sighting, Sought, Terms
from session_pool.recalls import recalled
from session_pool.rules import (
    FIRST_LOOK_S,
    HELD_TOO_OLD,
    change,
    dead,
    exchanged,
    parked_for,
)
from session_pool.space import NO_NOTE, Note, Put

PAGE: Final = 100
"""Sessions on one page of `list` at most (API page, "List sessions")."""

SOON_S: Final = 0.001
"""The least time until a next look, so that rounding cannot make upkeep spin."""


def upkeep(
    key: PoolKey, entry: Entry, now: float, op: str, terms: Terms
) -> Put | Literal["verify", "verdict", "delete", "fill", "search", "recall"]:
    """What is to be done with an entry whose deadline has passed.

    Args:
        key: the entry's.
        entry: as the store handed it out for upkeep.
        now: the store's clock.
        op: id of the request, should it be a `Put`.
        terms: the agent's.
    """
    remaining_s, facts = entry.expires - now, entry.facts
    match entry.state:
        case "idle" if now >= entry.fresh_until:
            useless_s = remaining_s - terms.min_remaining_s
            return change(key, entry, op, "ageing", deadline_in_s=max(0.0, useless_s))
        case "idle":
            return "verify"
        case "ageing":
            left = facts._replace(reason="expiring")
            return change(key, entry, op, "retiring", facts=left, deadline_in_s=0.0)
        case "leased":
            lapsed = facts._replace(trouble="lapsed")
            return change(key, entry, op, "quarantined", facts=lapsed, deadline_in_s=FIRST_LOOK_S)
        case "parked" if remaining_s <= -HELD_TOO_OLD * facts.lifetime_s:
            return dead(key, entry, op, terms)
        case "parked":
            idled_s, timeout_s = now - entry.since, terms.park_timeout_s
            if timeout_s is not None and idled_s >= timeout_s:
                left = facts._replace(reason="park_timeout")
                return change(key, entry, op, "retiring", facts=left, deadline_in_s=0.0)
            again_s = parked_for(remaining_s, facts.lifetime_s, terms)
            if timeout_s is not None:
                again_s = min(again_s, timeout_s - idled_s)
            again_s = max(SOON_S, again_s)
            return change(key, entry, op, "parked", deadline_in_s=again_s)
        case "quarantined":
            return "verdict"
        case "retiring":
            return "delete"
        case "gone":
            return change(key, entry, op, None)
        case "creating":
            return unsettled(key, entry, now, op, terms)
        case "unsettled":
            return "search"
        case "chore" if entry.rid:
            return "recall"
        case "chore":
            return "fill"


def unsettled(key: PoolKey, entry: Entry, now: float, op: str, terms: Terms) -> Put:
    """What becomes of a creation whose creator has not been heard of: it may have been sent (B12).

    It was begun no earlier than it was claimed, and takes effect no later than a request does that
    was sent at the end of the claim.
    """
    sought = entry.facts.sought or Sought()
    lost = sought._replace(since_s=now - entry.since + sought.since_s)
    return change(
        key,
        entry,
        op,
        "unsettled",
        facts=entry.facts._replace(sought=lost),
        deadline_in_s=terms.doubt_s,
    )


def alive(key: PoolKey, entry: Entry, now: float, op: str, seen: Sighting, terms: Terms) -> Put:
    """A free session was seen alive: its end as now estimated, and the next look.

    One that ends earlier than it was believed to is replaced as much earlier (B14); estimates are
    off by `doubt_s` without meaning anything.
    """
    left_s = entry.expires - now
    if seen.said_s is not None:
        earlier_s, left_s = left_s - seen.said_s, seen.said_s
        if entry.state == "idle" and earlier_s > terms.doubt_s:
            fresh_in_s = max(0.0, entry.fresh_until - now - earlier_s)
            return change(
                key, entry, op, "idle", expires_in_s=left_s, fresh_in_s=fresh_in_s,
                deadline_in_s=terms.verify_after_s,
            )  # fmt: skip
    look_s = terms.verify_after_s
    if entry.state != "idle":
        look_s = max(0.0, left_s - terms.min_remaining_s)
    return change(key, entry, op, entry.state, expires_in_s=seen.said_s, deadline_in_s=look_s)


def unfit_as_seen(
    facts: Facts, seen: Sighting, asked_s: float | None, terms: Terms
) -> Literal["mislabelled", "expiring"] | None:
    """Why a session, looked at before it is handed out, is not for who would get it; None: it is.

    A conversation's own is, for as long as it lives (B2). What nobody is known to have had must be
    as it was made, or somebody would read in it (B4), and must live for as long as was asked.

    Args:
        facts: of the session.
        seen: what the look showed.
        asked_s: the least life that its taker wishes for, where that is more than the policy's.
        terms: the agent's.
    """
    if facts.bound:
        return None
    fresh = facts.exchanges == 0 and terms.reuse == "never"
    if fresh and touched(facts.session, seen.session):
        return "mislabelled"
    least_s = max(asked_s or 0.0, terms.min_remaining_s)
    return "expiring" if seen.said and seen.remaining_s < least_s else None


def verify_by_list(idle: int, sessions: int) -> bool:
    """Whether reading all pages of `list` costs fewer requests than one GET each (B13)."""
    return idle > math.ceil(sessions / PAGE)


class Evidence(NamedTuple):
    """What the remote showed of a session in quarantine; None where it was not asked.

    Attributes:
        trace: of the exchange in flight: finished, going on, or not known to the remote.
        seen: the session as a GET showed it.
        gone: the remote does not know the session.
    """

    trace: Literal["complete", "running", "unknown"] | None = None
    seen: Sighting | None = None
    gone: bool = False


def evicted(key: PoolKey, entry: Entry, op: str) -> Put:
    """What becomes of a session that is to go, whoever has it (B25).

    What nobody holds is retired now. What is held, or was until just now, may have an exchange
    going on: it is in quarantine until that is over, and retired then.
    """
    facts = entry.facts._replace(reason="evicted")
    if entry.state == "leased":
        facts = facts._replace(trouble="evicted")
    elif entry.state != "quarantined":
        return change(key, entry, op, "retiring", facts=facts, deadline_in_s=0.0)
    return change(key, entry, op, "quarantined", facts=facts, deadline_in_s=FIRST_LOOK_S)


def verdict(
    key: PoolKey, entry: Entry, now: float, op: str, evidence: Evidence, terms: Terms,
    note: Note = NO_NOTE,
) -> Put:  # fmt: skip
    """What becomes of a session in quarantine, given what the remote shows (B4, B22, B25)."""
    facts, seen, waited_s = entry.facts, evidence.seen, now - entry.since
    if evidence.gone:
        return dead(key, entry, op, terms)
    session = seen.session if seen is not None else None
    grown = session is not None and facts.session is not None and (
        session.message_count > facts.session.message_count
    )  # fmt: skip
    if facts.trouble == "unused":
        if session is not None and not touched(facts.session, session):
            why = facts.reason or recalled(facts, note)
            told = facts._replace(trouble=None, reason=why, seen=False)
            if told.reason is not None:
                return change(key, entry, op, "retiring", facts=told, deadline_in_s=0.0)
            return change(key, entry, op, "idle", facts=told, deadline_in_s=terms.verify_after_s)
        told = facts._replace(trouble=None, reason="mislabelled")
        return change(key, entry, op, "retiring", facts=told, deadline_in_s=0.0)
    over = (
        evidence.trace == "complete"
        or grown
        or (evidence.trace == "unknown" and waited_s >= terms.doubt_s)
        or waited_s >= terms.exchange_timeout_s
    )
    if not over:
        look_s = min(max(FIRST_LOOK_S, waited_s / 2), terms.exchange_timeout_s - waited_s)
        if evidence.trace == "unknown":
            look_s = min(look_s, terms.doubt_s - waited_s)
        return change(key, entry, op, "quarantined", deadline_in_s=max(SOON_S, look_s))
    made = 1 if grown or evidence.trace == "complete" else 0
    told = exchanged(facts, made, session) if made else facts._replace(trace_id=None)
    unused = session is not None and not touched(facts.session, session)
    doubtful = facts.seen or facts.trouble is not None
    told = told._replace(trouble=None, seen=doubtful and not unused)
    if facts.reason == "evicted":
        return change(key, entry, op, "retiring", facts=told, deadline_in_s=0.0)
    expires_in_s = seen.said_s if seen is not None else None
    if entry.conversation is not None:
        park_s = parked_for(facts.lifetime_s, facts.lifetime_s, terms)
        told = told._replace(bound=True)
        return change(
            key, entry, op, "parked", facts=told, expires_in_s=expires_in_s, deadline_in_s=park_s
        )
    if terms.reuse == "anyone" and recalled(facts, note) is None:
        return change(key, entry, op, "idle", facts=told, expires_in_s=expires_in_s)
    told = told._replace(reason="used")
    return change(key, entry, op, "retiring", facts=told, deadline_in_s=0.0)


def late(entry: Entry, put: Put, op: str) -> Put | None:
    """What a holder says of how its lease ended, once that had lapsed; None: nothing is settled.

    Only what it knows for certain ends a quarantine (B22), and only that of its own hand-out: what
    was evicted, forgotten or looked at with a result meanwhile is somebody else's matter.

    Args:
        entry: as it is by now.
        put: as the lease was to end, by its fence (`rules.ended`).
        op: id of the request.
    """
    facts, certain = entry.facts, put.state != "quarantined"
    lapsed = entry.state == "leased" or (entry.state == "quarantined" and facts.trouble == "lapsed")
    if not (certain and lapsed and entry.id == put.id and entry.fence == put.fence):
        return None
    if facts.reason is not None or (put.state == "parked" and entry.conversation is None):
        return None
    allowed = change(put.key, entry, op, put.state)
    return put._replace(op=op, version=allowed.version, fence=None)


def touched(born_as: Session | None, now: Session) -> bool:
    """Whether somebody has used a session that was as fresh as this when it was created (B4)."""
    # The count of a fresh session is what its creation answered; the API's example does not show 0.
    return born_as is None or (
        (now.message_count, now.updated_time) != (born_as.message_count, born_as.updated_time)
    )
