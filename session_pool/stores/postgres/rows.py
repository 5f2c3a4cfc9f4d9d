"""Questions as the rows that the database's functions take, and their rows as answers.

Knows the order of columns in `schema.sql`, and no connection.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final, Literal, cast, get_args

from session_pool.model import FOREVER, Counts, Entry, PoolKey, State
from session_pool.space import (
    Done,
    Due,
    Grant,
    Held,
    NotDone,
    Note,
    Noted,
    Put,
    Refusal,
    Ticket,
    Want,
)
from session_pool.stores.coding import facts_as_text, facts_of_text, note_as_text, note_of_text

Question = tuple[Any, ...]
"""A row of the type `question`."""

STATES: Final[tuple[State, ...]] = (
    "creating", "unsettled", "idle", "ageing", "leased", "parked", "quarantined", "retiring",
    "gone", "chore",
)  # fmt: skip
"""In the order of `nr(state)`."""

ALL_STATES: Final[tuple[State, ...]] = get_args(State)


# ------------------------------------------------------------------------------------- questions


def take(
    want: Want,
    request: str,
    patience_s: float,
    note_version: int,
    place: int | None,
    instead: Put | None,
) -> Question:
    """`Store.take`."""
    _, holder, talk, version, wish_s, ttl_s, cap, line, own_only = want
    change = None if instead is None else _change(instead)
    return (
        "take", request, holder, talk, version, wish_s, ttl_s, cap, line, own_only, patience_s,
        note_version, place, None, None, change,
    )  # fmt: skip


def put(change: Put) -> Question:
    """`Store.put`."""
    return ("put", *(None,) * 14, _change(change))


def withdraw(request: str) -> Question:
    """`Store.withdraw`."""
    return ("withdraw", request, *(None,) * 14)


def read() -> Question:
    """`Store.read`."""
    return ("read", *(None,) * 15)


def note(version: int, news: Note, *, open_: bool) -> Question:
    """`Store.note`."""
    return ("note", *(None,) * 10, version, None, note_as_text(news), open_, None)


def _change(put: Put) -> tuple[Any, ...]:
    # A guard without a bound always holds, and JSON has no infinity.
    guards = [(g.plus, g.minus, g.most) for g in put.guards if g.most != FOREVER]
    return (
        put.id, put.op, put.state, put.version, put.fence,
        None if put.facts is None else facts_as_text(put.facts),
        put.deadline_in_s, put.expires_in_s, put.fresh_in_s, put.rid, put.agent_version,
        put.pinned, put.unbind,
        json.dumps(guards) if guards else None,
        json.dumps(put.tally) if put.tally else None,
    )  # fmt: skip


def held(lease: Held) -> tuple[Any, ...]:
    """A lease that is registered: a row of the type `held`."""
    entry = lease.entry
    return (
        entry.id, entry.version, entry.fence, entry.rid, entry.agent_version, entry.pinned,
        entry.conversation, entry.lease, facts_as_text(entry.facts), lease.expires_in_s,
        lease.fresh_in_s,
    )  # fmt: skip


# --------------------------------------------------------------------------------------- answers


def entry_of(row: Any) -> Entry | None:
    """An entry as a row of the table; None where all of it is null."""
    if row is None or row[0] is None:
        return None
    return Entry._make((*row[:15], facts_of_text(row[15]), row[16]))


def counts_of(row: Any) -> Counts:
    """The counts in an answer."""
    states: dict[str, int] = {
        state: number for state, number in zip(STATES, row["counts"], strict=True) if number
    }
    tally = row["tally"]
    return Counts(states, row["waiting"], row["new"], {} if tally == "{}" else json.loads(tally))


def noted_of(row: Any) -> Noted:
    """The note in an answer."""
    return Noted(note_of_text(row["note"]), row["note_version"], row["note_age"], row["open"])


def taken(row: Any) -> Grant | Ticket | Refusal:
    """What `take` answered."""
    kind, counts = row["kind"], counts_of(row)
    if kind == "grant":
        entry = entry_of(row["entry"])
        assert entry is not None  # noqa: S101  # a grant without a session is a broken function
        before, version = entry_of(row["before"]), row["note_version"]
        return Grant(entry, row["place"], before, row["now"], counts, version)
    if kind == "ticket":
        return Ticket(row["place"], row["needs"], counts, row["note_version"])
    return Refusal(row["why"], counts, noted_of(row), row["needs"])


def changed(row: Any) -> Done | NotDone:
    """What `put` answered."""
    counts = counts_of(row)
    if row["kind"] == "done":
        return Done(entry_of(row["entry"]), counts)
    why = cast("Literal['changed', 'guard', 'lapsed', 'absent']", row["why"])
    return NotDone(why, counts)


def due_of(rows: Sequence[Any]) -> Due:
    """What `due` answered: the entries, and a last row with the time."""
    claimed = []
    for row in rows[:-1]:
        entry = entry_of(row["entry"])
        if entry is not None:
            claimed.append((PoolKey(row["host"], row["principal"], row["agent"]), entry))
    return Due(tuple(claimed), rows[-1]["now"], rows[-1]["next_in"])
