"""Recalls: sessions that live, and are not to be handed out any more (B25).

What a key's note says of a session: that the agent is drained, or was recycled since the session
was made. Pure like `rules`, which go by it: no I/O, no clock. A batch is counted, not dated, so no
two clocks are compared.
"""

from __future__ import annotations

from typing import Literal

from session_pool.model import Entry, Facts
from session_pool.space import Note

Recall = Literal["drained", "recycled"]


def recalled(facts: Facts, note: Note) -> Recall | None:
    """Why a session must not lie ready for anybody, or None.

    What a conversation has given back once is not concerned: it has that session for good.
    """
    if note.drained:
        return "drained"
    return "recycled" if outdated(facts, note) else None


def outdated(facts: Facts, note: Note) -> bool:
    """Whether it was made before the last recycle, and goes to nobody who has not had it."""
    return facts.batch < note.recycled and not facts.bound


def coming_back(entry: Entry, note: Note, since: float) -> bool:
    """Whether a session that is not free now may yet come to lie ready, though it is recalled.

    Args:
        entry: leased, in quarantine or being created.
        note: the key's.
        since: the store's clock when the recall was ordered.
    """
    if note.drained:
        return True
    if entry.state == "creating":  # its batch is not known yet
        return note.recycled > 0 and entry.since <= since
    return entry.conversation is None and outdated(entry.facts, note)
