"""What one key of a store in this process lends, the short ways: no answer is made or fetched.

Each does what `take` and `put` do for the commonest case, and says so where it has none: then
nothing is done, and the long way is asked. The short ways save what nobody reads: a request that
is never repeated since its answer cannot be lost, a copy of the entry, a second take by who has
waited. They know no policy, no more than the long ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, Literal, Protocol

from session_pool.model import Counts, Entry
from session_pool.space import Want


class Bell(Protocol):
    """What one waiter waits for; a future of the pool's loop is one."""

    def done(self) -> bool:
        """Whether it was rung, or its waiter is leaving."""

    def cancelled(self) -> bool:
        """Whether its waiter is leaving, and it was not rung before."""

    def set_result(self, loan: Any, /) -> None:
        """Ring it: with what was lent, or None for news, upon which the waiter asks again."""


class Loan(Protocol):
    """A leased entry as the store has it; it changes as that does.

    Who keeps it remembers `fence` and `lease`: while they are these, it is the same hand-out.
    """

    @property
    def id(self) -> str: ...
    @property
    def fence(self) -> int: ...
    @property
    def lease(self) -> str: ...
    @property
    def lapses(self) -> float: ...
    @property
    def since(self) -> float: ...
    @property
    def deadline(self) -> float: ...
    @property
    def place(self) -> int: ...

    def entry(self) -> Entry:
        """A copy of what it is now."""


Standing = tuple[str, int, Any, bool]
"""A request that stands in line, with a bell of its own: the request; its number in line; what
`make_bell` made, into which what it is granted is put; whether there is room under the cap, so that
a session for it could be made. (A plain tuple: a named one takes several times as long to make.)"""


TakenBack = Literal[0, 1, 2, 3]
NOT_DONE: Final = 0
PASSED_ON: Final = 1
LAID_BACK: Final = 2
MORE_WANTED: Final = 3
"""What became of a session that is given back: nothing, since the lease is over or it is bound by
now; the next in line has it; it lies ready, or somebody in line has it whom it fits; the same, and
who is still in line needs a session that is not made yet, for which there is room now."""


class Idle(Protocol):
    """What of the counts is read at each hand-out, and costs less this way."""

    @property
    def idle(self) -> int: ...


class Lender(Protocol):
    """One key of a store in this process.

    Attributes:
        counts: live, always the same object.
        entries: live too, and always the same.
    """

    @property
    def counts(self) -> Counts: ...
    @property
    def entries(self) -> Idle: ...

    def lend(
        self, want: Want, request: str, note_version: int, make_bell: Callable[[], Bell]
    ) -> Loan | Standing | None:
        """`LocalStore.take_nowait` of a new request that names no conversation, with all patience.

        A free session is leased as by a take. Where there is none, the request stands in line as
        by a take, but has a bell of its own: what it is granted in line is put into the bell at
        the hand-over, and counts as fetched then, but that the caps stay those of who asked last;
        `leave` undoes it like a hit's. On news the bell is rung with None, and from then on it is a
        request like any other: it asks again by a take, and is told by the doorbells. A bell that
        was done already, since its waiter's time is up or it is leaving, is left alone, and the
        request likewise.

        Args:
            want: what fits; without a conversation.
            request: an id that was never used before.
            note_version: the newest note the asker knows.
            make_bell: called if it has to wait.

        Returns:
            The entry; or who stands in line; or None where nothing was done, since it is not as
            plain as that (the key is closed, the line is full, a newer note is there, the caps are
            others than those in line were told).
        """

    def wants(self) -> Iterator[Want]:
        """What those in line want who need a session not yet made, the earliest first.

        Nothing may change while it is read.
        """

    def rouse(self) -> None:
        """News for all who stand by a bell of their own: ring it with None."""

    def leave(self, standing: Standing) -> None:
        """Who stands there waits no more: its bell was cancelled, or nobody saw what it brought."""

    def take_back(self, loan: Any, request: str, deadline_in_s: float) -> TakenBack:
        """`LocalStore.give_back_nowait` as idle, by who holds the loan itself.

        Args:
            loan: what was lent.
            request: to which it was.
            deadline_in_s: as there.

        Returns:
            What became of it.
        """
