"""The verbs: pure decisions, and the table of every change of state that may happen.

Each rule is a function of what is, how long ago, who asks, the agent's `Terms` and a number for
chance; its value says what to do, as a `Put` for the store or a plain word. No I/O, no clock, no
randomness, no event loop. Whoever carries a decision out stands further up; what upkeep decides of
a session that it looks at is next door, in `verdicts`. Rule numbers are those of docs/design.md.
"""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple

from session_pool.model import Counts, Entry, Facts, PoolKey, Session, Sighting, State, Terms
from session_pool.recalls import outdated, recalled
from session_pool.space import NO_NOTE, Grant, Guard, Note, Put

CHANGES: Final[dict[tuple[State | None, State | None], str]] = {
    (None, "creating"): "a creation is claimed, before it is sent",
    (None, "unsettled"): "a creation's answer was lost",
    (None, "chore"): "upkeep of a key is put on the calendar",
    (None, "idle"): "a lost session is found and wanted",
    (None, "quarantined"): "a creation that was given up for lost has come back",
    ("creating", "creating"): "its creator is still at it",
    ("creating", "idle"): "the session is there",
    ("creating", "retiring"): "it was born expired, or recalled meanwhile",
    ("creating", None): "the creation failed, or nobody wants it any more",
    ("creating", "unsettled"): "its creator is gone, and may have sent it",
    ("unsettled", "unsettled"): "looked for, and to be looked for again",
    ("unsettled", None): "found, or it cannot be there",
    ("idle", "leased"): "handed out",
    ("idle", "idle"): "seen alive",
    ("idle", "ageing"): "due for replacement",
    ("idle", "retiring"): "surplus, recalled or evicted, or the pool closes",
    ("idle", None): "found dead",
    ("ageing", "leased"): "handed out",
    ("ageing", "ageing"): "seen alive",
    ("ageing", "retiring"): "its replacement is ready, or it is too old, recalled or evicted",
    ("ageing", None): "found dead",
    ("leased", "leased"): "an exchange begins or ends",
    ("leased", "idle"): "given back unused, or reuse by anyone",
    ("leased", "parked"): "given back by its conversation",
    (
        "leased",
        "quarantined",
    ): "it ended while an exchange may be going on, or as unused; or evicted",
    ("leased", "retiring"): "used up, discarded, worn or recalled",
    ("leased", "gone"): "found dead; its conversation remembers it",
    ("leased", None): "found dead",
    ("parked", "leased"): "its conversation goes on",
    ("parked", "parked"): "looked at, and left",
    ("parked", "retiring"): "park_timeout_s, max_parked, forgotten or evicted",
    ("parked", "gone"): "presumed dead, two lifetimes past its estimate",
    ("quarantined", "quarantined"): "the exchange may still be going on",
    ("quarantined", "parked"): "the exchange is over",
    ("quarantined", "idle"): "it was unused indeed, or reuse by anyone",
    ("quarantined", "retiring"): "the exchange is over and nobody may have it; or mislabelled",
    ("quarantined", "gone"): "found dead; its conversation remembers it",
    ("quarantined", None): "found dead",
    ("retiring", "retiring"): "its conversation is forgotten",
    ("retiring", "gone"): "it is off our hands; its conversation remembers it",
    ("retiring", "chore"): "it is off our hands; it could pass for a lost one",
    ("retiring", None): "it is off our hands",
    ("gone", None): "forgotten, after remember_s",
    ("chore", "chore"): "not yet, or left to others",
    ("chore", None): "done",
}
"""Every change of state, and why it happens. Nothing else changes a state; None is not being."""

HELD_TOO_OLD: Final = 2.0
"""Lifetimes past its estimate after which a parked session counts as gone (B2)."""

FIRST_LOOK_S: Final = 0.25
"""The first verdict on a quarantined session; later looks come at half its time in quarantine."""


def change(key: PoolKey, entry: Entry, op: str, to: State | None, **fields: Any) -> Put:
    """A change of an entry that a keeper knows by version; only what the table allows.

    Raises:
        ValueError: the table has no such change; a fault of the rules.
    """
    if (entry.state, to) not in CHANGES:
        raise ValueError(f"no rule leads from {entry.state} to {to}")
    return Put(key, entry.id, op, to, version=entry.version, **fields)


# --------------------------------------------------------------------------------------- creating


def creations(counts: Counts, terms: Terms, target: int, most: int) -> tuple[Guard, ...] | None:
    """The guards under which one more creation may start, or None where none is needed (B8).

    After it, creating <= min(max_creating, what the budget allows, new + max(0, target - fresh)).

    Args:
        counts: of the key.
        terms: the agent's.
        target: idle sessions wanted.
        most: what the budget allows at once, or one while a failure is being probed (B10).
    """
    creating, fresh = counts.states.get("creating", 0), counts.states.get("idle", 0)
    ceiling = min(terms.max_creating, most)
    if creating >= ceiling or creating >= counts.new + max(0, target - fresh):
        return None
    if fresh < target:
        needed = Guard(("creating", "idle"), ("new",), target - 1)
    else:
        needed = Guard(("creating",), ("new",), -1)
    return (Guard(("creating",), (), ceiling - 1), needed)


def unwanted(counts: Counts, target: int) -> bool:
    """Whether a creation that failed need not be tried again (B11)."""
    return counts.of("creating") > counts.new + max(0, target - counts.of("idle"))


def born(
    key: PoolKey, entry_id: str, version: int | None, op: str, seen: Sighting, *, pinned: bool,
    terms: Terms, chance: float, batch: int = 0, note: Note = NO_NOTE,
) -> Put:  # fmt: skip
    """What a session becomes that was just created: idle, with its end and its replacement set.

    One that was recalled while it was being created leaves at once, unused (B25).
    """
    session, remaining_s, _ = seen
    facts = Facts(session=session, lifetime_s=session.lifetime_s, batch=batch)
    leaves = "born expired" if remaining_s <= 0 else recalled(facts, note)
    return Put(
        key,
        entry_id,
        op,
        "retiring" if leaves else "idle",
        version=version,
        rid=session.rid,
        agent_version=session.agent_version,
        pinned=pinned,
        expires_in_s=remaining_s,
        fresh_in_s=fresh_for(remaining_s, terms, chance),
        deadline_in_s=0.0 if leaves else terms.verify_after_s,
        facts=facts._replace(reason=leaves),
        tally=(("created", 1),),
    )


def fresh_for(remaining_s: float, terms: Terms, chance: float) -> float:
    """Seconds until an idle session is due for replacement (B14).

    From `refresh_ahead_s` before its end, spread by chance over most of the time that is left
    until nobody could be given it any more, so that what was made together is not renewed together.
    """
    spread_s = 0.9 * (terms.refresh_ahead_s - terms.min_remaining_s)
    return max(0.0, remaining_s - terms.refresh_ahead_s + chance * spread_s)


def replaced(counts: Counts, target: int) -> int:
    """How many ageing sessions may retire, since their replacements are ready (B14)."""
    return max(0, min(counts.of("ageing"), counts.of("idle", "ageing") - target))


def surplus(counts: Counts, terms: Terms) -> int:
    """How many idle sessions are above `max_idle` (B14)."""
    return max(0, counts.of("idle", "ageing") - terms.max_idle)


# ------------------------------------------------------------------------------------ handing out


def confirm(
    grant: Grant, terms: Terms, note: Note, *, burnt: bool = False
) -> Literal["ready", "look", "dead", "park_timeout", "recycled"]:
    """Whether a session may be handed out as it is, must be looked at, is dead, or why it may not.

    Decided at the hand-out itself, whether or not upkeep ran in time (B2, B16, B25).

    Only a conversation's own session can come with little life left: a free one has its wish. Who
    was `burnt` by one found dead just now is not given another unseen (B30).
    """
    entry = grant.entry
    remaining_s, lifetime_s = entry.expires - grant.now, entry.facts.lifetime_s
    if remaining_s <= -HELD_TOO_OLD * lifetime_s:
        return "dead"
    if outdated(entry.facts, note):
        return "recycled"
    idled_s = lifetime_s - remaining_s
    timeout_s = terms.park_timeout_s
    own = entry.facts.bound and entry.facts.exchanges > 0  # it lives on with each exchange (B2)
    if own and timeout_s is not None and idled_s >= timeout_s:
        return "park_timeout"  # counted from its last exchange, about when it was given back
    if remaining_s < terms.doubt_s and entry.conversation is not None:
        return "look"
    suspect = note.early_death_s is not None and idled_s >= note.early_death_s
    made = entry.expires - lifetime_s  # while nothing is known to have been said in it
    suspect |= note.doubted_before is not None and made < note.doubted_before
    suspect |= burnt and idled_s >= terms.doubt_s
    return "look" if suspect and not own else "ready"


def following(grant: Grant) -> Facts | None:
    """What a session becomes to a conversation that had another before it; None: it had none (B5).

    A loss that was never taken note of stays one, through however many sessions.
    """
    before = grant.before
    if before is None or grant.entry.facts.replaces == before.rid:
        return None
    had = before.facts
    return grant.entry.facts._replace(
        generation=had.generation + 1,
        replaces=before.rid,
        replace_reason=had.reason,
        accepted=had.reason == "start_over" or (had.exchanges == 0 and had.accepted),
    )


def exchanged(facts: Facts, exchanges: int, seen: Session | None = None) -> Facts:
    """The facts after exchanges were made: two messages each (B15)."""
    session = seen or facts.session
    if session is not None:
        session = Session(
            rid=session.rid,
            agent_rid=session.agent_rid,
            agent_version=session.agent_version,
            created_time=session.created_time,
            updated_time=session.updated_time,
            estimated_expires_time=session.estimated_expires_time,
            message_count=session.message_count + (0 if seen else 2 * exchanges),
        )
    return facts._replace(
        session=session, exchanges=facts.exchanges + exchanges, accepted=True, trace_id=None
    )


# ------------------------------------------------------------------------------------ giving back


class Ending(NamedTuple):
    """How a lease ended, as its holder knows it.

    Attributes:
        said: what the caller says of it; checked, not believed (B4).
        broken: the block ended with an error or a cancellation, or the lease was dropped.
        seen: the RID was read, so any client may have used it.
        used: the lease's own exchange calls were used, or it was touched.
        in_flight: an exchange was sent whose end is not known.
        gone: the remote does not know the session any more.
        worn: why the session must not be used again; None if it may.
    """

    said: Literal["used", "unused", "discard"] = "used"
    broken: bool = False
    seen: bool = False
    used: bool = False
    in_flight: bool = False
    gone: bool = False
    worn: str | None = None


def lie_ready(terms: Terms) -> bool:
    """Whether sessions of no conversation, with which nobody did anything, end in `idle`.

    The one case of `ended` that is worth a short way of its own: nothing of the entry changes. It
    is looked at as verified (`verify_after_s`).
    """
    return terms.reuse == "anyone"


def ended(
    key: PoolKey, entry: Entry, facts: Facts, how: Ending, terms: Terms, op: str,
    note: Note = NO_NOTE,
) -> Put:  # fmt: skip
    """What becomes of a session as its lease ends (B4, B5, B18, B22, B25).

    Args:
        key: the entry's.
        entry: as it was handed out; its fence is the holder's.
        facts: as the holder knows them now.
        how: the ending.
        terms: the agent's.
        op: id of the request.
        note: the key's: where it would lie ready, it must not have been recalled.
    """

    def to(state: State, why: str | None = None, in_s: float | None = None) -> Put:
        told = facts if why is None else facts._replace(reason=why)
        return Put(key, entry.id, op, state, fence=entry.fence, facts=told, deadline_in_s=in_s)

    def doubt(why: str, in_s: float) -> Put:
        return to("quarantined", None, in_s)._replace(facts=facts._replace(trouble=why))

    if how.used or how.seen:
        facts = facts._replace(seen=True)
    talks = entry.conversation is not None
    if how.gone:
        return _dead(to("gone", "gone", terms.remember_s), talks)
    if how.in_flight and how.said != "discard":  # nobody gets what is discarded
        return doubt("exchange", FIRST_LOOK_S)
    if how.broken and how.seen and not how.used:
        return doubt("foreign", FIRST_LOOK_S)
    if how.worn is not None or how.said == "discard":
        return to("retiring", how.worn or "discarded", 0.0)
    if talks:
        facts = facts if facts.bound else facts._replace(bound=True)
        return to("parked", None, parked_for(facts.lifetime_s, facts.lifetime_s, terms))
    why: str | None = recalled(facts, note)
    if why and (how.used or how.seen):
        why = "used"
    if terms.reuse == "anyone":
        return to("retiring", why, 0.0) if why else to("idle", None, terms.verify_after_s)
    if how.used or (how.said == "used" and not how.broken):
        return to("retiring", "used", 0.0)
    if how.seen:
        return doubt("unused", terms.settle_s)
    return to("retiring", why, 0.0) if why else to("idle", None, terms.verify_after_s)


def parked_for(remaining_s: float, lifetime_s: float, terms: Terms) -> float:
    """Seconds until a parked session is looked at again: its timeout, or when it counts as gone."""
    gone_s = max(0.0, remaining_s) + HELD_TOO_OLD * lifetime_s
    return gone_s if terms.park_timeout_s is None else min(terms.park_timeout_s, gone_s)


def refused(
    key: PoolKey, entry: Entry, op: str,
    why: Literal["park_timeout", "recycled", "mislabelled", "expiring"],
) -> Put:  # fmt: skip
    """What becomes of a session, just handed out, that its taker may not have.

    Its conversation left it alone for too long, and remembers it; or it was made before a recycle,
    or shows that somebody used it, and whoever was to have it knows nothing of it.
    """
    facts = entry.facts._replace(reason=why)
    put = Put(key, entry.id, op, "retiring", None, entry.fence, facts, 0.0)
    return put._replace(unbind=why != "park_timeout")


def dead(key: PoolKey, entry: Entry, op: str, terms: Terms, *, holder: bool = False) -> Put:
    """What becomes of a session that the remote does not know any more (B16).

    Args:
        key: the entry's.
        entry: which.
        op: id of the request.
        terms: the agent's.
        holder: the asker holds its lease, and shows the fence.
    """
    put = Put(
        key,
        entry.id,
        op,
        "gone",
        version=None if holder else entry.version,
        fence=entry.fence if holder else None,
        facts=entry.facts._replace(reason=entry.facts.reason or "gone", remote=False),
        deadline_in_s=terms.remember_s,
    )
    return _dead(put, entry.conversation is not None and entry.state != "retiring")


def _dead(put: Put, talks: bool) -> Put:
    # Only a conversation remembers; any other dead session is simply not there any more.
    state: State | None = "gone" if talks and (put.deadline_in_s or 0) > 0 else None
    return put._replace(state=state, tally=(("retired", 1),))


def buried(key: PoolKey, entry: Entry, op: str, terms: Terms) -> Put:
    """What becomes of a retired session once it is off our hands."""
    remembered = entry.conversation is not None and terms.remember_s > 0
    return change(
        key, entry, op, "gone" if remembered else None, deadline_in_s=terms.remember_s,
        tally=(("retired", 1),),
    )  # fmt: skip


def forgotten(key: PoolKey, entry: Entry, op: str, delete_remote: bool) -> Put:
    """What becomes of a conversation's session that its holder is to forget (B29)."""
    facts = entry.facts._replace(reason="forgotten", forced=delete_remote)
    return Put(
        key, entry.id, op, "retiring", fence=entry.fence, unbind=True, facts=facts,
        deadline_in_s=0.0,
    )  # fmt: skip


def unremembered(key: PoolKey, entry: Entry, op: str, delete_remote: bool) -> Put:
    """What becomes of the memory of a session that is to be forgotten (B29)."""
    if entry.state == "gone":
        return change(key, entry, op, None)
    facts = entry.facts._replace(forced=delete_remote or entry.facts.forced)
    return Put(key, entry.id, op, entry.state, version=entry.version, unbind=True, facts=facts)


def deletes(facts: Facts, terms: Terms) -> bool:
    """Whether a retired session is deleted at the remote (B25, `delete_retired`)."""
    if not facts.remote:
        return False
    if facts.forced or terms.delete_retired == "all":
        return True
    unused = facts.exchanges == 0 and facts.reason not in ("used", "mislabelled", "discarded")
    unused = unused and facts.trouble is None and not facts.seen
    return terms.delete_retired == "unused" and unused
