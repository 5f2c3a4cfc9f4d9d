"""Facts and notes as text, for engines that keep them where no Python is.

They are opaque to a store. What was written by a newer version may have fields that this one does
not know: they are left out as it is read, so that versions can work side by side.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from session_pool.model import NO_FACTS, Facts, Session, Sought
from session_pool.space import NO_NOTE, Failure, Note, Refused


def facts_as_text(facts: Facts) -> str:
    """Facts as JSON; those that are as they always begin are left out."""
    told: dict[str, Any] = {
        name: value
        for name, value, usual in zip(Facts._fields, facts, NO_FACTS, strict=True)
        if value != usual
    }
    session = facts.session
    if session is not None:
        told["session"] = [
            session.rid,
            session.agent_rid,
            session.agent_version,
            session.created_time.isoformat(),
            session.updated_time.isoformat(),
            session.estimated_expires_time.isoformat(),
            session.message_count,
        ]  # without its title, which is made of what was said (B29)
    return json.dumps(told, separators=(",", ":")) if told else ""


def facts_of_text(text: str) -> Facts:
    """What `facts_as_text` wrote."""
    if not text:
        return NO_FACTS
    told: dict[str, Any] = json.loads(text)
    session = told.get("session")
    if session is not None:
        rid, agent_rid, version, created, updated, expires, messages = session
        told["session"] = Session(
            rid=rid,
            agent_rid=agent_rid,
            agent_version=version,
            created_time=datetime.fromisoformat(created),
            updated_time=datetime.fromisoformat(updated),
            estimated_expires_time=datetime.fromisoformat(expires),
            message_count=messages,
        )
    sought = told.get("sought")
    if sought is not None:
        told["sought"] = Sought(*sought[: len(Sought._fields)])
    return Facts(**{name: told[name] for name in Facts._fields if name in told})


def note_as_text(note: Note) -> str:
    """A note as JSON; fields that are as they always begin are left out."""
    told: dict[str, Any] = {
        name: value
        for name, value, usual in zip(Note._fields, note, NO_NOTE, strict=True)
        if value != usual
    }
    if note.failure is not None:
        told["failure"] = note.failure._asdict()
    if note.refused:
        told["refused"] = [
            {**one._asdict(), "failure": one.failure._asdict()} for one in note.refused
        ]
    return json.dumps(told, separators=(",", ":")) if told else ""


def note_of_text(text: str) -> Note:
    """What `note_as_text` wrote."""
    if not text:
        return NO_NOTE
    told: dict[str, Any] = json.loads(text)
    failure = told.get("failure")
    if failure is not None:
        told["failure"] = _failure(failure)
    told["refused"] = tuple(
        Refused(
            **{n: one[n] for n in Refused._fields if n in one}
            | {"failure": _failure(one["failure"])}
        )
        for one in told.get("refused", ())
    )
    return Note(**{name: told[name] for name in Note._fields if name in told})


def _failure(told: dict[str, Any]) -> Failure:
    return Failure(**{name: told[name] for name in Failure._fields if name in told})
