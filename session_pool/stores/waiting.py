"""Who waits for a key in the memory store, and in which line.

A waiter stands where it can be served, and in one such place only. The head of a conversation, and
everybody without one, stands in the line of its wish (it needs a free session that lives long
enough, of its version), or in the line `OWN` (its own session is there, and only room under the cap
is missing). Who comes behind the head of its conversation, or whose session is held or in
quarantine, stands in that conversation's line alone. So serving looks at one head per wish, never
along a line. Knows no entries, but for what a conversation's own session is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from heapq import heapify, heappop, heappush, merge
from operator import attrgetter
from typing import Final, Literal

from session_pool.model import FOREVER
from session_pool.space import Want
from session_pool.stores.lending import Bell
from session_pool.stores.rows import Row

Where = tuple[str | None, float]
OWN: Final[Where] = (None, -1.0)

SLACK: Final = 64
"""Heap items of waiters that have left which are not worth a clearing."""


class Waiter:
    """One request that was not served at once.

    Attributes:
        place: its number; the lowest is the earliest.
        patience: until when it stays without asking again.
        timed: under which instant it is on the list of those whose patience may end.
        line: in which it can be served; None while nothing it could take can exist.
        row: what it was granted in line and has not fetched yet.
        verdict: why it stands in line no more, though it was granted nothing.
        bell: its own, into which what it is granted is put; None once that is spent.
    """

    __slots__ = ("bell", "line", "patience", "place", "request", "row", "timed", "verdict", "want")

    def __init__(self, want: Want, request: str, place: int, bell: Bell | None = None) -> None:
        self.bell = bell
        self.want = want
        self.request = request
        self.place = place
        self.patience = FOREVER
        self.timed = FOREVER
        self.line: Line | None = None
        self.row: Row | None = None
        self.verdict: Literal["version", "empty"] | None = None

    def comes_before(self, other: Waiter) -> bool:
        """Whether its turn is earlier; a number that came twice leaves it to the ids."""
        return (self.place, self.request) < (other.place, other.request)

    def __lt__(self, other: Waiter) -> bool:
        """Settles the order of two that came with the same number, or leave at the same instant."""
        return self.request < other.request


_turn: Final = attrgetter("place", "request")


class Line:
    """Waiters by their number, the lowest first.

    Most come in the order of their numbers and stand in `_late`; whose number is an earlier one
    that comes back stands in `_early`. One that left is dropped when its turn comes.

    Args:
        where: what those in it wait for; None for the line of one conversation.

    Attributes:
        promoted: of a conversation's line: who stands in another line too.
    """

    __slots__ = ("_early", "_late", "_members", "promoted", "where")

    def __init__(self, where: Where | None = None) -> None:
        self.where = where
        self._members: set[Waiter] = set()
        self._late: deque[Waiter] = deque()
        self._early: list[tuple[int, Waiter]] = []
        self.promoted: Waiter | None = None

    def __len__(self) -> int:
        return len(self._members)

    def add(self, waiter: Waiter) -> None:
        """Stand in line: at the end, unless the number is an earlier one that comes back."""
        late = self._late
        self._members.add(waiter)
        if not late or late[-1].place < waiter.place:
            late.append(waiter)
        else:
            heappush(self._early, (waiter.place, waiter))

    def head(self) -> Waiter | None:
        """Whose turn is next."""
        late, early, members = self._late, self._early, self._members
        while late and late[0] not in members:
            late.popleft()
        while early and early[0][1] not in members:
            heappop(early)
        if early and (not late or early[0][1].comes_before(late[0])):
            return early[0][1]
        return late[0] if late else None

    def __iter__(self) -> Iterator[Waiter]:
        """Those in it by their number; nobody may come or leave meanwhile."""
        every: Iterable[Waiter] = self._late
        if self._early:
            every = merge(self._late, (waiter for _, waiter in sorted(self._early)), key=_turn)
        last: Waiter | None = None
        for waiter in every:
            if waiter in self._members and waiter is not last:  # one that came back is there twice
                yield waiter
                last = waiter

    def remove(self, waiter: Waiter) -> None:
        """Leave the line."""
        members = self._members
        members.remove(waiter)
        if len(self._late) + len(self._early) > 2 * len(members) + SLACK:
            self._late = deque(sorted(members, key=lambda waiter: (waiter.place, waiter.request)))
            self._early = []


class Waiting:
    """The lines of one key, and how long those in them stay without a word.

    Args:
        own: answers what session a conversation has.
        ring: told of each waiter that should ask again.

    Attributes:
        by_request: those in line, and those who have not fetched what became of them.
        lines: by wish; none of them is empty.
        standing: how many are in line.
        wanting: how many stand for a free session; those of one conversation count once (B8).
        ends: somebody's patience may end then, and nobody's before.
        vain: conversations whose first waiter can never be served, unless that passes.
    """

    def __init__(
        self, own: Callable[[str | None], Row | None], ring: Callable[[Waiter], None]
    ) -> None:
        self.by_request: dict[str, Waiter] = {}
        self.lines: dict[Where, Line] = {}
        self.standing = 0
        self.wanting = 0
        self.ends = FOREVER
        self.vain: set[str] = set()
        self._own = own
        self._ring = ring
        self._conversations: dict[str, Line] = {}
        self._patience: list[tuple[float, Waiter]] = []

    def behind(self, conversation: str) -> bool:
        """Whether somebody waits already for what this conversation has or will have."""
        return conversation in self._conversations

    def in_want(self) -> Iterator[Waiter]:
        """Who stands for a free session, the earliest first; nothing may change meanwhile."""
        lines = [line for line in self.lines.values() if line.where is not OWN]
        return iter(lines[0]) if len(lines) == 1 else merge(*lines, key=_turn)

    # ------------------------------------------------------------------ in and out of line

    def stand(self, waiter: Waiter) -> None:
        """Join the line."""
        want = waiter.want
        conversation = want.conversation
        self.by_request[waiter.request] = waiter
        self.standing += 1
        if conversation is None:
            self._join(waiter, (want.agent_version, want.wish_s))
            return
        line = self._conversations.get(conversation)
        if line is None:
            line = self._conversations[conversation] = Line()
        line.add(waiter)
        self.promote(conversation)

    def step_out(self, waiter: Waiter) -> None:
        """Leave the line, served or not; the next of its conversation moves up."""
        self.standing -= 1
        line = waiter.line
        if line is not None:
            self._unjoin(waiter, line)
        conversation = waiter.want.conversation
        if conversation is not None:
            self._conversations[conversation].remove(waiter)
            self.promote(conversation)

    def promote(self, conversation: str | None) -> None:
        """Let the first of a conversation, and nobody else of it, stand where it can be served.

        To be called when what the conversation has is another, or in another state.
        """
        line = self._conversations.get(conversation) if conversation is not None else None
        if line is None or conversation is None:
            return
        row, head = self._own(conversation), line.head()
        where: Where | None = None
        if head is not None:
            if refusal(head.want, row) is not None:
                self.vain.add(conversation)
            elif row is None:
                where = (head.want.agent_version, head.want.wish_s)
            elif row.state == "parked":
                where = OWN
        promoted = line.promoted
        stands = promoted.line if promoted is not None else None
        if promoted is not None and stands is not None:
            if promoted is head and stands.where == where:
                return
            self._unjoin(promoted, stands)
        line.promoted = head
        if head is None:
            del self._conversations[conversation]
        elif where is not None and head.line is None:
            self._join(head, where)

    def dismiss(self) -> None:
        """Tell those who wait in vain, so that they hold nobody up."""
        while self.vain:
            conversation = self.vain.pop()
            line = self._conversations.get(conversation)
            head = line.head() if line is not None else None
            if head is not None:
                head.verdict = refusal(head.want, self._own(conversation))
                if head.verdict is not None:
                    self.step_out(head)
                    self._ring(head)

    def _join(self, waiter: Waiter, where: Where) -> None:
        line = self.lines.get(where)
        if line is None:
            line = self.lines[where] = Line(where)
        line.add(waiter)
        waiter.line = line
        if where is not OWN:
            self.wanting += 1

    def _unjoin(self, waiter: Waiter, line: Line) -> None:
        waiter.line = None
        line.remove(waiter)
        if line.where is not OWN:
            self.wanting -= 1
        if not line._members and line.where is not None:
            del self.lines[line.where]

    # ------------------------------------------------------------------ patience

    def be_patient(self, waiter: Waiter, until: float) -> None:
        """Let a waiter stay until then without asking again."""
        waiter.patience = until
        if until < waiter.timed:
            waiter.timed = until
            heappush(self._patience, (until, waiter))
            if len(self._patience) > 2 * len(self.by_request) + SLACK:
                timed = [waiter for waiter in self.by_request.values() if waiter.timed != FOREVER]
                self._patience = [(waiter.timed, waiter) for waiter in timed]
                heapify(self._patience)
            self.ends = self._patience[0][0]

    def silent(self, now: float) -> list[Waiter]:
        """Those whose patience has ended."""
        found = []
        while self._patience and self._patience[0][0] <= now:
            at, waiter = heappop(self._patience)
            if waiter.timed != at or self.by_request.get(waiter.request) is not waiter:
                continue
            waiter.timed = FOREVER
            if waiter.patience <= now:
                found.append(waiter)
            else:
                self.be_patient(waiter, waiter.patience)
        self.ends = self._patience[0][0] if self._patience else FOREVER
        return found


def refusal(want: Want, own: Row | None) -> Literal["version", "empty"] | None:
    """Why the session that its conversation has, or has not, can never serve a want."""
    if own is None:
        return "empty" if want.own_only else None
    return "version" if want.agent_version not in (None, own.agent_version) else None
