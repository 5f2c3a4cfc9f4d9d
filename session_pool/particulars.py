"""A lease as it is read: what it is of, whose, since when, and where it was acquired.

The entry is that of its hand-out, or what its holder last wrote. What was lent is not copied before
somebody reads it: most leases are never asked for more than their RID. Nothing here changes what
becomes of a session, but that reading `rid` or `session` is remembered (B4).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import CodeType
from typing import cast

import anyio

from session_pool.desk import Desk
from session_pool.errors import ConfigError
from session_pool.model import FOREVER, Entry, Facts, Session
from session_pool.stores.lending import Loan
from session_pool.works import Works


class Particulars:
    """What a lease says of itself and of its session."""

    # What every hit sets has a slot of its own, whatever else is set later and in which order.
    __slots__ = (
        "__dict__", "__weakref__", "_code", "_desk", "_fence", "_lasti", "_loan", "_over",
        "_request", "_since", "_works",
    )  # fmt: skip

    _works: Works
    _desk: Desk
    _code: CodeType
    _lasti: int
    _since: float
    _over: bool  # it is not held: not any more, or not yet
    _loan: Loan | None  # the entry itself, while it is plain
    _fence: int  # of the loan
    _request: str  # of the loan
    # What most leases never change stands on the class: a hit makes only what somebody asked for.
    _lost: anyio.Event | None = None
    _plain = True  # nobody did anything with it that could change how it ends
    _copy: Entry | None = None  # of the entry, as last known
    _seen = False
    _place: int | None = None

    @property
    def _entry(self) -> Entry:
        """The entry as last known to its holder.

        Raises:
            ConfigError: the lease was asked for, and never awaited or entered.
        """
        if self._copy is None:
            if self._loan is None:
                raise ConfigError(
                    "this lease was asked for and is not held: await pool.acquire(...), or enter "
                    "it with `async with`"
                )
            self._copy = self._copied(self._loan)
        return self._copy

    @_entry.setter
    def _entry(self, entry: Entry) -> None:
        self._copy, loan = entry, self._loan
        if loan is not None:
            self._place, self._loan = loan.place, None

    def _copied(self, loan: Loan) -> Entry:
        entry, fence, request = loan.entry(), self._fence, self._request
        if (entry.fence, entry.lease) == (fence, request):
            return entry
        # It is over, and others may have it by now: what the session is, and what the lease was.
        return entry._replace(
            state="leased",
            fence=fence,
            conversation=None,
            holder=self._works.holder,
            lease=request,
            lapses=FOREVER,
            since=self._since,
        )

    def _not_plain(self) -> None:
        """How it ends depends on what was done with it, from now on."""
        self._plain = False
        if self._loan is not None:
            self._entry = self._entry  # a copy: what was lent is let go of

    @property
    def _facts(self) -> Facts:
        return self._entry.facts

    # ------------------------------------------------------------------ for the pool

    @property
    def desk(self) -> Desk:
        """The agent's desk."""
        return self._desk

    @property
    def pinned_version(self) -> str | None:
        """The version asked for by number, or None for the latest published."""
        return self._entry.agent_version if self._entry.pinned else None

    @property
    def place(self) -> int:
        """The number in line it was granted at; kept if its session has to be replaced (B6)."""
        if self._place is None:  # it was lent, and is held still
            self._place = cast("Loan", self._loan).place
        return self._place

    # ------------------------------------------------------------------ what it is

    @property
    def rid(self) -> str:
        """The session's RID. Reading it counts as possible use by another client (B4)."""
        self._seen = True
        self._not_plain()
        return self._entry.rid

    @property
    def session(self) -> Session:
        """The session as last seen. Reading it counts as possible use by another client (B4)."""
        self._seen = True
        self._not_plain()
        return cast("Session", self._facts.session)  # set at its creation, kept ever since

    @property
    def agent_rid(self) -> str:
        """The agent's RID."""
        return self._desk.rid

    @property
    def agent_version(self) -> str:
        """The version the session was created with, `major.minor`."""
        return self._entry.agent_version

    @property
    def conversation(self) -> str | None:
        """The conversation the session is bound to."""
        return self._entry.conversation

    @property
    def principal(self) -> str:
        """Whose token made and uses the session."""
        return self._desk.key.principal

    @property
    def lease_id(self) -> str:
        """An unguessable name of this lease (B29)."""
        return self._works.hidden(self._entry.lease)

    @property
    def fence(self) -> int:
        """A number that grows at each hand-out of this session (B1)."""
        return self._entry.fence

    @property
    def expires_at(self) -> datetime:
        """When the session ends, as estimated, by this machine's wall clock."""
        now = datetime.now(UTC)
        try:
            return now + timedelta(seconds=self.remaining_s())
        except OverflowError:  # the far future, by a clock that is ahead of the remote's
            return datetime.max.replace(tzinfo=UTC)

    def remaining_s(self) -> float:
        """Seconds until the session ends, as estimated; negative once it is past that (B16)."""
        return self._entry.expires - self._entry.since - (self._works.clock() - self._since)

    @property
    def is_new(self) -> bool:
        """The session has seen no exchange yet, as far as the pool knows (B5)."""
        return self._facts.exchanges == 0

    @property
    def generation(self) -> int:
        """1 for a conversation's first session, one more for each that followed."""
        return self._facts.generation

    @property
    def replaces(self) -> str | None:
        """RID of the session that this one followed in its conversation."""
        return self._facts.replaces

    @property
    def replace_reason(self) -> str | None:
        """Why that one was replaced: "gone", "context_size", "park_timeout", …"""
        return self._facts.replace_reason

    @property
    def context_is_lost(self) -> bool:
        """The conversation said something that this session does not know, unacknowledged."""
        return not self._facts.accepted

    @property
    def lost(self) -> anyio.Event:
        """Set when the lease has ended against the holder's will (B21)."""
        if self._lost is None:
            self._lost = anyio.Event()
        return self._lost

    @property
    def where(self) -> str:
        """The line that acquired it, as `file:line`."""
        positions = list(self._code.co_positions())
        at = self._lasti // 2
        line = positions[at][0] if at < len(positions) else self._code.co_firstlineno
        return f"{self._code.co_filename}:{line}"

    @property
    def held_s(self) -> float:
        """Seconds since it was acquired."""
        if self._loan is None:
            _ = self._entry  # or it was never held, and says so
        return self._works.clock() - self._since

    def __repr__(self) -> str:
        if self._copy is None and self._loan is None:
            return f"<Lease asked for of {self._desk.name}>"
        state = "over" if self._over else "held"
        if self._lost is not None and self._lost.is_set():
            state = "lost"
        return f"<Lease {state} of {self._entry.rid} for {self._desk.name}>"
