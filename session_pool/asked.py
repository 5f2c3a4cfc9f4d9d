"""What a caller asks for, and how far the short way came with it. Pure data; knows no agent."""

from __future__ import annotations

from typing import NamedTuple

from session_pool.space import Grant, Refusal, Ticket, Want


class Asked(NamedTuple):
    """What a caller asked for, as far as it shapes the want."""

    conversation: str | None = None
    agent_version: str | None = None
    min_remaining_s: float | None = None


NOTHING_ASKED, AT_ONCE = Asked(), Asked()
"""Of who asks for nothing in particular; the other one does not wait either."""


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
