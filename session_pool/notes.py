"""What goes on a key's note, and what a change of a session is called in the news.

Many parts find sessions dead, retire them or learn of failures; what is told of it, to other
processes and to subscribers, is decided here once.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial

from session_pool.desk import Desk
from session_pool.errors import StoreError, StoreUnavailable
from session_pool.events import SessionDied, SessionQuarantined, SessionRetired
from session_pool.model import FOREVER, Entry, Sighting
from session_pool.refusals import aged, of_version, with_failure, without_failure
from session_pool.space import Failure, Note, Put
from session_pool.works import TELL_S, Works


async def write_note(
    works: Works,
    desk: Desk,
    change: Callable[[Note], Note],
    *,
    open_: bool | None = None,
    for_s: float = FOREVER,
) -> None:
    """Change the note of a key, whatever others write to it meanwhile.

    Args:
        works: the pool's means.
        desk: the agent's.
        change: from the note as it stands to the new one; the same one means nothing to do.
        open_: whether anything is handed out from then on; None leaves that as it is.
        for_s: how long to ask a store that is away; to the pool's end if it is FOREVER.

    Raises:
        StoreUnavailable: it was away for that long.
    """
    noted, read_at = desk.noted, desk.noted_at
    while True:
        note, opens = change(noted.note), noted.open if open_ is None else open_
        if note == noted.note and note.failure is None and opens == noted.open:
            return
        note = aged(note, noted.note, noted.age_s + works.clock() - read_at)
        ask = partial(works.store.note, desk.key, noted.version, note, open_=opens)
        answer = await works.again(ask, works.loop.time() + for_s)
        desk.take_note(answer, works.clock())
        if answer.note == note and opens == answer.open:
            return
        noted, read_at = answer, desk.noted_at


async def tell_refused(works: Works, desk: Desk, failure: Failure, version: str | None) -> None:
    """Tell why a creation was refused, to all whom that concerns, in every process (B10).

    Args:
        works: the pool's means.
        desk: the agent's.
        failure: what the remote said.
        version: the one that alone it concerns; None: the agent.
    """
    probe, chore = works.next_id(), works.next_id()
    await write_note(works, desk, lambda note: with_failure(note, failure, version, probe))
    # The chore makes the warm target try again once newcomers may (one probe).
    await works.put(Put(desk.key, chore, chore, "chore", deadline_in_s=desk.terms.error_ttl_s))


async def tell_had(works: Works, desk: Desk, *versions: str | None) -> None:
    """Tell that there is a session of these versions, should they have been refused (B10)."""
    if any(of_version(desk.noted.note, version) for version in versions):
        with suppress(StoreUnavailable):  # the pool ends; whoever tries it next tells
            await write_note(works, desk, lambda note: without_failure(note, *versions))


async def found_dead(works: Works, desk: Desk, entry: Entry, early_s: float) -> None:
    """Tell that the remote knows a session no more, `early_s` before its estimate (B16).

    On return no session as old is handed out unseen, whatever this one's holder asks for next. A
    store that is away is not told; cancelling it does not stop the telling.
    """
    works.bus.publish(SessionDied(agent_rid=desk.rid, session_rid=entry.rid, early_s=early_s))
    if early_s > desk.terms.doubt_s:
        age_s = max(0.0, entry.facts.lifetime_s - early_s)
        with suppress(StoreError):
            telling = write_note(works, desk, lambda note: _suspect(note, age_s), for_s=TELL_S)
            await works.owned(telling, "note")


def outlived(works: Works, desk: Desk, seen: Sighting) -> None:
    """Tell that a session is alive after so long without an exchange, if that is known (B16)."""
    suspected_s = desk.noted.note.early_death_s
    age_s = seen.session.lifetime_s - seen.remaining_s
    if suspected_s is not None and seen.said and age_s > suspected_s:
        works.spawn(write_note(works, desk, lambda note: _clear(note, age_s)), "note")


def tell(works: Works, desk: Desk, put: Put, entry: Entry) -> None:
    """Publish what a change makes of a session, where that is news."""
    facts = put.facts or entry.facts
    if put.state == "retiring":
        reason = facts.reason or "retired"
        works.bus.publish(SessionRetired(agent_rid=desk.rid, session_rid=entry.rid, reason=reason))
    elif put.state == "quarantined" and entry.state != "quarantined":
        trouble = facts.trouble or "exchange"
        works.bus.publish(
            SessionQuarantined(agent_rid=desk.rid, session_rid=entry.rid, trouble=trouble)
        )


def _suspect(note: Note, age_s: float) -> Note:
    known = note.early_death_s
    return note._replace(early_death_s=age_s if known is None else min(known, age_s))


def _clear(note: Note, age_s: float) -> Note:
    known = note.early_death_s
    return note._replace(early_death_s=None) if known is not None and age_s > known else note
