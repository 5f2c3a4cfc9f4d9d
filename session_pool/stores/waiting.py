"""Who waits for a key in the memory store, and in which line.

A waiter stands where it can be served, and in one such place only. The head of a conversation, and
everybody without one, stands in the line of its wish (it needs a free session that lives long
enough, of its version), or in the line `OWN` (its own session is there, and only room under the cap
is missing). Who comes behind the head of its conversation, or whose session is held or in
quarantine, stands in that conversation's line alone. So serving looks at one head per wish, never
along a line.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final

from session_pool.model import Entry
from session_pool.space import Grant, Want

Where = tuple[str | None, float]
OWN: Final[Where] = ("own", 0.0)


class Waiter:
    """One request that was not served at once.

    Attributes:
        place: its number; the lowest is the earliest.
        patience: until when it stays without asking again.
        where: the line in which it can be served; None while nothing it could take can exist.
        grant: what it was granted in line and has not fetched yet.
        former: that entry as it was before, should the grant have to be undone.
    """

    __slots__ = ("former", "grant", "patience", "place", "request", "want", "where")

    def __init__(self, want: Want, request: str, place: int, patience: float) -> None:
        self.want = want
        self.request = request
        self.place = place
        self.patience = patience
        self.where: Where | None = None
        self.grant: Grant | None = None
        self.former: Entry | None = None


class Line:
    """Waiters by their number, the lowest first."""

    __slots__ = ("_by_place",)

    def __init__(self) -> None:
        self._by_place: OrderedDict[int, Waiter] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_place)

    def add(self, waiter: Waiter) -> None:
        """Stand in line; at the end, unless the number is an earlier one that comes back."""
        line, place = self._by_place, waiter.place
        early = bool(line) and place < next(reversed(line))
        line[place] = waiter
        if early:
            # Its session was found dead at the hand-out, or it has become the first of its
            # conversation. All younger numbers go behind it.
            for younger in sorted(number for number in line if number > place):
                line.move_to_end(younger)

    def head(self) -> Waiter | None:
        """Whose turn is next."""
        for waiter in self._by_place.values():
            return waiter
        return None

    def remove(self, waiter: Waiter) -> None:
        """Leave the line."""
        del self._by_place[waiter.place]


class Waiting:
    """The lines of one key.

    Args:
        own: answers which session a conversation has.
    """

    def __init__(self, own: Callable[[str], Entry | None]) -> None:
        self.by_request: dict[str, Waiter] = {}
        self.standing = 0
        self._own = own
        self._lines: dict[Where, Line] = {}
        self._conversations: dict[str, Line] = {}
        self._promoted: dict[str, Waiter] = {}

    def behind(self, conversation: str) -> bool:
        """Whether somebody waits already for what this conversation has or will have."""
        return conversation in self._conversations

    def heads(self) -> Iterator[Waiter]:
        """Who could be served next: the first of each line."""
        for line in self._lines.values():
            head = line.head()
            if head is not None:
                yield head

    def wanting(self) -> int:
        """How many stand for a free session; those of one conversation count once (B8)."""
        return sum(len(line) for where, line in self._lines.items() if where != OWN)

    def stand(self, waiter: Waiter) -> None:
        """Join the line."""
        self.by_request[waiter.request] = waiter
        self.standing += 1
        conversation = waiter.want.conversation
        if conversation is None:
            self._join(waiter, (waiter.want.agent_version, waiter.want.wish_s))
            return
        line = self._conversations.get(conversation)
        if line is None:
            line = self._conversations[conversation] = Line()
        line.add(waiter)
        self.promote(conversation)

    def step_out(self, waiter: Waiter) -> None:
        """Leave the line, served or not; the next of its conversation moves up."""
        self.standing -= 1
        self._unjoin(waiter)
        conversation = waiter.want.conversation
        if conversation is not None:
            self._promoted.pop(conversation, None)
            self._conversations[conversation].remove(waiter)
            self.promote(conversation)

    def promote(self, conversation: str) -> None:
        """Let the first of a conversation, and nobody else of it, stand where it can be served."""
        line = self._conversations.get(conversation)
        if line is None:
            return
        head = line.head()
        promoted = self._promoted.get(conversation)
        if promoted is not None and promoted is not head:
            self._unjoin(promoted)
            del self._promoted[conversation]
        if head is None:
            del self._conversations[conversation]
            return
        own = self._own(conversation)
        where: Where | None = (head.want.agent_version, head.want.wish_s)
        if own is not None:
            where = OWN if own.state == "parked" else None
        if head.where != where:
            self._unjoin(head)
            self._promoted.pop(conversation, None)
            if where is not None:
                self._join(head, where)
                self._promoted[conversation] = head

    def _join(self, waiter: Waiter, where: Where) -> None:
        line = self._lines.get(where)
        if line is None:
            line = self._lines[where] = Line()
        line.add(waiter)
        waiter.where = where

    def _unjoin(self, waiter: Waiter) -> None:
        if waiter.where is not None:
            line = self._lines[waiter.where]
            line.remove(waiter)
            if not line:
                del self._lines[waiter.where]
            waiter.where = None
