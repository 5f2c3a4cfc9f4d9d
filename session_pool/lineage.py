"""Whose a session is that a list shows and nobody knows: what may be inferred of lost creations.

Pure like `rules`. A creation whose answer was lost stands in the store as `unsettled`, with what
its session would look like. Nothing but that likeness tells that the two belong together, so it is
taken strictly, and what a creation under way could have made is left to that one (B12). Instants
are by the store's clock; the remote's became durations at the door (B20).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from session_pool.model import Counts, Entry, PoolKey, Session, Sighting, Sought, Terms
from session_pool.rules import born
from session_pool.space import Put

SLACK_S: Final = 2.0
"""What the two ends of a comparison are off at most: `Date` is cut to seconds, and an answer of the
store is as old as its way."""


KEPT_S: Final = 300.0
"""How long a RID is kept before it is asked again whether it can pass for a lost one: whatever was
under way as it was retired is over by then, or unsettled."""


class Listed(NamedTuple):
    """A session as a page of `list` showed it.

    Attributes:
        remaining_s: of its life, as the page was read.
        earliest, latest: between these it was created.
        touched: it has not been used after this.
        read_at: when the page was.
    """

    session: Session
    remaining_s: float
    earliest: float
    latest: float
    touched: float
    read_at: float


def listed(seen: Sighting, date: datetime, sent_at: float, read_at: float) -> Listed:
    """Place a session on the store's clock.

    Args:
        seen: as the page has it.
        date: the answer's own.
        sent_at, read_at: the request and its answer.
    """
    age_s = (date - seen.session.created_time).total_seconds()  # up to a second more
    idle_s = (date - seen.session.updated_time).total_seconds()
    return Listed(
        seen.session, seen.remaining_s, sent_at - age_s - 1.0, read_at - age_s, read_at - idle_s,
        read_at,
    )  # fmt: skip


def begins(creation: Entry) -> float:
    """From when on a creation, lost or under way, can have made its session."""
    return creation.since - _sought(creation).since_s - SLACK_S


def closes(lost: Entry) -> float:
    """From when on it can make no session any more."""
    return lost.since + _sought(lost).until_s + SLACK_S


def alike(lost: Entry, one: Listed, fresh: int | None) -> bool:
    """Whether a creation can have made this very session, untouched since.

    Args:
        lost: the creation.
        one: the session.
        fresh: messages of a new session, where the creation knew of none.
    """
    sought, session = _sought(lost), one.session
    messages = sought.messages if sought.messages is not None else fresh or 0
    return (
        session.message_count == messages
        and _version_fits(sought, session.agent_version)
        and one.latest >= begins(lost)
        and one.earliest <= closes(lost)
    )


class Matches(NamedTuple):
    """What belongs together.

    Attributes:
        pairs: a creation and its session; each stands in one pair at most.
        again: ids of creations that may have made what one under way may have made as well.
    """

    pairs: list[tuple[Entry, Listed]]
    again: set[str]


def matches(
    lost: Sequence[Entry], found: Iterable[Listed], creating: Sequence[Entry], fresh: int | None
) -> Matches:
    """Find for each lost creation the session it made.

    Args:
        lost: unsettled ones.
        found: sessions that nobody knows.
        creating: creations under way, read after the sessions were listed.
        fresh: see `alike`.
    """
    left = {one.session.rid: one for one in sorted(found, key=lambda one: one.earliest)}
    pairs: list[tuple[Entry, Listed]] = []
    again: set[str] = set()
    for entry in sorted(lost, key=lambda entry: (_sought(entry).rid is None, entry.since)):
        like = [one for one in left.values() if alike(entry, one, fresh)]
        like.sort(key=lambda one: one.session.rid != _sought(entry).rid)  # what it was found to be
        sure = [one for one in like if not any(_may_have_made(it, one) for it in creating)]
        if sure:
            pairs.append((entry, sure[0]))
            del left[sure[0].session.rid]
        elif like:
            again.add(entry.id)
    return Matches(pairs, again)


def wanted(counts: Counts, target: int) -> bool:
    """Whether an idle session is of use to somebody now, whatever is under way."""
    return counts.new > 0 or counts.of("idle") < target


def adopted(key: PoolKey, lost: Entry, one: Listed, op: str, terms: Terms, chance: float) -> Put:
    """What a found session becomes.

    The entry has the RID for its id: whoever else comes with the same session finds it there.
    """
    pinned = _sought(lost).agent_version is not None
    seen = Sighting(one.session, one.remaining_s)
    put = born(key, one.session.rid, None, op, seen, pinned=pinned, terms=terms, chance=chance)
    return put._replace(tally=(("adopted", 1),))


def recalled(put: Put, entry: Entry, counts: Counts) -> Put:
    """What becomes of a retired session that is left at the remote, unused: as a lost one looks.

    Its RID is kept while a creation is under way or unsettled, so that a search knows it as ours.

    Args:
        put: what it would become.
        entry: the session.
        counts: of the key, from before.
    """
    facts, doubt = entry.facts, counts.of("creating", "unsettled")
    if put.state is not None or not doubt or facts.exchanges or not facts.remote:
        return put
    return put._replace(state="chore", unbind=True, deadline_in_s=KEPT_S)


def returned(put: Put, op: str, terms: Terms, *, doubtful: bool) -> Put:
    """What a session becomes whose creation is on record no more.

    Args:
        put: what it would have become.
        op: id of the request.
        terms: the agent's.
        doubtful: the creation was given up for lost, so its session may have been found, handed
            out and retired meanwhile: nobody gets it before any exchange in it would be over, and
            a look has shown that there was none (B4, B22).
    """
    put = put._replace(id=put.rid or put.id, op=op, version=None)
    if not doubtful or put.state != "idle" or put.facts is None:
        return put
    facts = put.facts._replace(trouble="unused")
    look_s = terms.exchange_timeout_s
    return put._replace(state="quarantined", facts=facts, deadline_in_s=look_s)


def _sought(lost: Entry) -> Sought:
    return lost.facts.sought or Sought()


def _may_have_made(creating: Entry, one: Listed) -> bool:
    fits = _version_fits(_sought(creating), one.session.agent_version)
    return fits and begins(creating) <= one.latest


def _version_fits(sought: Sought, version: str) -> bool:
    if sought.agent_version is not None:
        return version == sought.agent_version
    return sought.newest is None or _number(version) >= _number(sought.newest)


def _number(version: str) -> tuple[int, ...]:
    parts = version.split(".")
    return tuple(int(part) for part in parts) if all(map(str.isdecimal, parts)) else ()
