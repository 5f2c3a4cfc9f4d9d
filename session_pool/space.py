"""The questions and answers of the tuple space: what a store is asked, and what it says.

Values only, made of the nouns in `model`; `stores` carries the questions out, `rules` writes most
of them. Every duration is in seconds and relative: the store adds its own clock (B20).
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from session_pool.model import Counts, Entry, Facts, PoolKey, State


class Want(NamedTuple):
    """What a caller wants of a key: the same for all its requests, so it is made once.

    Attributes:
        holder: the process that asks.
        wish_s: least remaining life in seconds, one of few values.
        ttl_s: the lease's length in seconds; FOREVER for one without end.
        max_leased, max_waiting: the caps; the latest take's are the key's.
        own_only: take the conversation's own session or nothing (used by `forget`).
    """

    key: PoolKey
    holder: str
    conversation: str | None
    agent_version: str | None
    wish_s: float
    ttl_s: float
    max_leased: int
    max_waiting: int
    own_only: bool = False


# ------------------------------------------------------------------------- what a store is asked


class Guard(NamedTuple):
    """A condition under which alone a `Put` happens: a signed sum of counts <= a number (B8).

    Attributes:
        plus, minus: names of states, or "waiting" or "new".
    """

    plus: tuple[str, ...]
    minus: tuple[str, ...]
    most: float


class Put(NamedTuple):
    """One change of one entry, by compare-and-set. None leaves a field as it was.

    Attributes:
        op: id of this request; the same again is answered as the first time and not done twice.
        version: what a keeper believes it is. fence: what a holder shows. Neither: an insertion.
        state: the new one; None deletes the entry.
        unbind: the conversation is forgotten, rather than kept or remembered.
        fresh_in_s, expires_in_s, deadline_in_s: seconds from now, by the store's clock. An idle
            entry is looked at when it stops being fresh, at the latest.
        guards: all must hold, or nothing is done.
        tally: added to the running totals.
    """

    key: PoolKey
    id: str
    op: str
    state: State | None
    version: int | None = None
    fence: int | None = None
    facts: Facts | None = None
    deadline_in_s: float | None = None
    expires_in_s: float | None = None
    fresh_in_s: float | None = None
    rid: str | None = None
    agent_version: str | None = None
    pinned: bool | None = None
    unbind: bool = False
    guards: tuple[Guard, ...] = ()
    tally: tuple[tuple[str, int], ...] = ()


class Held(NamedTuple):
    """A lease as its holder knows it, to be told to a store that may have forgotten it (B27).

    Attributes:
        entry: as last known; its instants are by a clock that may be no more.
        expires_in_s, fresh_in_s: seconds from now; FOREVER where there is no end.
    """

    key: PoolKey
    entry: Entry
    expires_in_s: float
    fresh_in_s: float


# --------------------------------------------------------------------------- what a store answers


class Failure(NamedTuple):
    """Why sessions of a key cannot be created, in words that any process can raise again (B10)."""

    kind: Literal["agent", "auth"]
    message: str
    error_name: str | None = None
    error_instance_id: str | None = None
    status: int | None = None


class Refused(NamedTuple):
    """Why sessions of one version of the agent cannot be created, though others may be (B10).

    Attributes:
        agent_version: `major.minor`, as it was asked for.
        failure: what the remote said.
        age_s: seconds from that to when the note was written.
        probe: id of the entry of a creation that tries it again. An id is there once, so there is
            one such creation at a time, over all processes.
    """

    agent_version: str
    failure: Failure
    age_s: float = 0.0
    probe: str = ""


class Note(NamedTuple):
    """What every process should know of a key. Opaque to a store, but for its `open` bit.

    Attributes:
        failure: why no session can be created now; None when the last creation succeeded.
        early_death_s: a session died at this many seconds of inactivity, before its estimate; idle
            sessions older than this are confirmed before they are handed out (B16).
        drained: nothing is kept ready; a key that is drained is closed as well (B25).
        recycled: how often; sessions of an earlier batch go to nobody new (B25).
        doubted_before: by the store's clock; what was made before may have been used in writes that
            the store has lost, so it is looked at before anybody new has it (B4, B27).
        refused: versions asked for by number that cannot be had, the latest refusal last.
    """

    failure: Failure | None = None
    early_death_s: float | None = None
    drained: bool = False
    recycled: int = 0
    doubted_before: float | None = None
    refused: tuple[Refused, ...] = ()


NO_NOTE: Final = Note()


class Noted(NamedTuple):
    """A key's note as a store holds it: its version, and how long ago it was written."""

    note: Note
    version: int
    age_s: float
    open: bool


class Done(NamedTuple):
    """A `Put` happened, now or when it was first asked for."""

    entry: Entry | None
    counts: Counts


class NotDone(NamedTuple):
    """A `Put` did not happen: the entry is another by now, a guard does not hold, it has lapsed."""

    why: Literal["changed", "guard", "lapsed", "absent"]
    counts: Counts


class Grant(NamedTuple):
    """The want is met: `entry` is leased to the asker.

    Attributes:
        place: its number in line, to be shown again if the session is found dead.
        before: the memory of the session that the conversation had before this one.
        now: the store's clock at the grant.
    """

    entry: Entry
    place: int
    before: Entry | None
    now: float
    counts: Counts
    note_version: int


class Ticket(NamedTuple):
    """The asker stands in line.

    Attributes:
        needs: "new" waits for a session that is not made yet, "own" for the conversation's own,
            "room" for a free place under `max_leased`.
    """

    place: int
    needs: Literal["new", "own", "room"]
    counts: Counts
    note_version: int


class Refusal(NamedTuple):
    """The asker gets nothing.

    Attributes:
        why: "full" (max_waiting), "closed", "note" (a newer one is there; the place in line is
            kept), "version" (the conversation's session has another), "withdrawn", or "empty" (the
            last look found nothing; `needs` says what would have been waited for).
    """

    why: Literal["full", "closed", "note", "version", "withdrawn", "empty"]
    counts: Counts
    noted: Noted
    needs: Literal["new", "own", "room"] = "new"


class Due(NamedTuple):
    """Entries whose deadline has passed, each given to one asker only.

    Attributes:
        now: the store's clock.
        next_in_s: seconds until the next one falls due; FOREVER when there is none.
    """

    entries: tuple[tuple[PoolKey, Entry], ...]
    now: float
    next_in_s: float


class Share(NamedTuple):
    """What a process may use of a principal's limit (B13).

    Attributes:
        granted: how much; possibly 0.
        lacking: how much the others who ask lack of what they wish for, all together.
    """

    granted: float
    lacking: float
