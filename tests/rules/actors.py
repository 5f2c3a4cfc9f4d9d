"""Who acts in the smallest world: a session as it really is, a creation, a process at work.

And how they ask a store that keeps nobody waiting.
"""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from session_pool.model import (
    NO_FACTS,
    Facts,
    Session,
)
from session_pool.space import Grant

T = TypeVar("T")

BORN: Final = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Remote:
    """A session as it really is.

    Attributes:
        owners: who has said something in it.
        messages: complete ones; two for each exchange.
        speaking: exchanges under way now.
    """

    session: Session
    alive: bool = True
    owners: set[str] = field(default_factory=set)
    messages: int = 0
    speaking: int = 0

    def seen(self) -> Session:
        """The session as a GET shows it."""
        updated = BORN + timedelta(seconds=self.messages)
        return replace(self.session, message_count=self.messages, updated_time=updated)


@dataclass
class Creation:
    """A creation that its creator is at.

    Attributes:
        id: of its entry.
        until: when its creator fences itself; it sends nothing any more then.
        rid: of the session it made, once it was sent; its creator does not know that yet.
    """

    id: str
    until: float
    rid: str = ""


@dataclass
class Worker:
    """A process that acquires, speaks, and gives back, or stops anywhere.

    Attributes:
        conversation: for which it works; None: a new caller each time.
        grant: what it holds, as it was told; `until` is when it fences itself.
        request: under which it stands in line.
        sent: its exchange is under way, as far as it knows.
        batch: how often there had been a recycle when it got its session.
    """

    name: str
    conversation: str | None
    grant: Grant | None = None
    facts: Facts = NO_FACTS
    until: float = 0.0
    request: str = ""
    sent: bool = False
    used: bool = False
    seen: bool = False
    batch: int = 0

    @property
    def owner(self) -> str:
        """In whose name it speaks."""
        if self.conversation is not None:
            return self.conversation
        assert self.grant is not None
        return self.grant.entry.lease


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """The answer of a coroutine that never waits."""
    try:
        work.send(None)
    except StopIteration as stop:
        answer: T = stop.value
        return answer
    raise AssertionError("it waits")
