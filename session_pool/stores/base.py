"""What a store is: a small tuple space of sessions, requests and one note per key (B26).

Every operation is atomic, one round trip, safe to repeat with its request id, takes durations (the
store adds its own clock) and answers with the counts. Every one that names a key first settles it
(silent waiters leave, grants that nobody came for are undone) and ends by serving: while the key is
open and fewer than `max_leased` are leased, the earliest request in line that some entry fits gets
it. A store knows six words about states and no policy.

`Store` is what the pool awaits. `LocalStore` adds the same without awaiting, for an engine that
lives in this process: a hit then costs no task switch, and a release cannot be cancelled half-way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal, Protocol, runtime_checkable

from session_pool.errors import ConfigError
from session_pool.model import Counts, Entry, PoolKey, State
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
    Share,
    Ticket,
    Want,
)
from session_pool.stores.lending import Lender

Ring = Callable[[str], None]
"""A doorbell: called with the id of a request that should ask again (a grant, or news)."""

EPOCH: Final = "epoch"
"""Rung, in the place of a request's id, when the store is found to be another than it was (B27)."""


def within(namespace: str, realm: str) -> str:
    """The part of a store that is one realm's, of all that share the namespace."""
    return f"{namespace}@{realm}" if realm else namespace


def unbegun(where: str, what: str) -> ConfigError:
    """What somebody is told who looks at a store that no pool has begun.

    Args:
        where: the place, as it may be told to anybody.
        what: of what there is none.
    """
    return ConfigError(
        f"store: no pool has used {where} yet: there is no {what}; check the store's URL and the "
        "stack's, or start a pool there first"
    )


class Store(Protocol):
    """The shared state of a pool. All of it may raise `StoreUnavailable`.

    A store that was wiped, replaced, or restarted from an older state begins another *epoch*. For
    one lease's length (the longest finite one that it was asked for) whatever stood in it before
    may be held by somebody who has not said so yet: until then what came into its state before the
    epoch is handed to nobody, and a conversation that has nothing there stands in line as if it
    had. What is inserted meanwhile is handed out at once; a store that is new to everybody waits
    for nothing. Who finds another epoch than it knew registers its leases.
    """

    durable: bool
    """Idle and parked sessions outlive this process (B28)."""

    epoch: str
    """Names the state that this store has had since it was made, or last lost something."""

    async def open(self) -> None:
        """Connect, check that the store is usable, and start what it needs.

        Raises:
            ConfigError: it can never be used like this; the message says what to change.
            StoreMismatch: its schema is of another version; the message names the command.
            StoreUnavailable: it cannot be reached.
        """

    async def aclose(self) -> None:
        """Let go of every connection, thread and task."""

    async def take(
        self,
        want: Want,
        request: str,
        *,
        patience_s: float,
        note_version: int,
        place: int | None = None,
        instead: Put | None = None,
    ) -> Grant | Ticket | Refusal:
        """Ask for a session; asked again with the same `request` it says "I am here".

        A conversation that has a session gets that one, whatever life is left in it, or a place in
        that conversation's line, which is strict. Otherwise the free entry that expires first of
        those that fit is leased, and bound to the conversation. Repeating confirms a grant that
        was made in line.

        Args:
            want: what fits.
            request: id of this request; it names the lease it may become.
            patience_s: seconds until the request leaves the line unless it is repeated; 0 is the
                last look.
            note_version: the newest note the asker knows; a newer one is answered instead.
            place: the number in line it had before, when what it got then was found dead.
            instead: done first, in the same step: gives up what was found dead, so that nobody
                passes between the two.
        """

    async def put(self, put: Put) -> Done | NotDone:
        """Change one entry, by compare-and-set, if all guards hold."""

    async def withdraw(self, key: PoolKey, request: str) -> Counts:
        """Leave the line, or undo the grant; only while nobody outside has seen the RID.

        A later `take` of the same request is refused, for a minute.
        """

    async def renew(
        self, holder: str, leases: Sequence[tuple[str, int]], ttl_s: float
    ) -> Sequence[bool]:
        """Prolong a process's leases, given as (entry id, fence), in one batch.

        Returns:
            Which of them are prolonged; False for one that has lapsed or is another's.
        """

    async def register(
        self, holder: str, leases: Sequence[Held], ttl_s: float
    ) -> Sequence[Entry | None]:
        """Tell another epoch which leases a process holds (B27).

        One that the store does not know is inserted as leased, with its facts, under its old lease
        id and a greater fence; it counts as adopted (tally), and is bound to its conversation
        unless that has another session by now. One that it has as free, parked, quarantined or
        otherwise in nobody's hands is leased to the holder again; it counts as adopted too if the
        store has it without a session (no RID), as an older state may. One that another holds, or
        that is retiring or gone, stays as it is. Doing it twice is harmless: the lease is
        prolonged.

        Returns:
            Each as it is held now; None for one that is lost.
        """

    async def due(self, holder: str, *, limit: int, for_s: float) -> Due:
        """Claim entries whose deadline has passed, by moving the deadline `for_s` ahead."""

    async def note(self, key: PoolKey, version: int, note: Note, *, open_: bool) -> Noted:
        """Write the key's note if `version` is still its version; answers the one that stands."""

    async def read(self, key: PoolKey) -> tuple[Counts, Noted]:
        """The counts and the note of a key, in one snapshot."""

    async def find(
        self,
        key: PoolKey,
        *,
        states: Sequence[State] = (),
        conversation: str | None = None,
        rid: str | None = None,
        limit: int = 100,
    ) -> Sequence[Entry]:
        """Entries of a key, those longest in their state first.

        Args:
            key: whose.
            states: in which states; empty for all.
            conversation: only what is bound to it, or remembers it, the latest first.
            rid: only the session of this RID.
            limit: how many at most.
        """

    async def share(
        self, principal: str, holder: str, *, limit: float, wish: float, for_s: float
    ) -> Share:
        """Lease a part of a principal's limit; live shares never sum above it (B13).

        The limit is the least that any live asker named. Who asks again keeps what it has, as far
        as it still wishes for it and the limit allows it; more comes from what is free, less what
        those lack who have been lacking for longer. Who gets less than its wish stands in that
        line until it gets it, wishes for less, or falls silent.

        Args:
            principal: whose limit; any text that names one.
            holder: the process; asking again replaces its share, a wish of 0 gives it back.
            limit: the whole, as the asker knows it.
            wish: how much it would like.
            for_s: how long it may keep it without asking again.
        """

    async def identify(self, principal: str, identity: str) -> str:
        """Record whose token a principal uses, if nothing is recorded; answers what is."""

    def watch(self, ring: Ring) -> Callable[[], None]:
        """Hear of this process's requests that should ask again; the answer ends the watch.

        A doorbell may be lost: grants are state, so a waiter also asks again from time to time.
        """


@runtime_checkable
class LocalStore(Protocol):
    """The operations of the hit path and of giving back, without awaiting."""

    clock: Callable[[], float]
    """Seconds; the pool goes by the same, so instants of one hold for the other."""

    def take_nowait(
        self,
        want: Want,
        request: str,
        *,
        patience_s: float,
        note_version: int,
        place: int | None = None,
        instead: Put | None = None,
    ) -> Grant | Ticket | Refusal:
        """`Store.take` at once. Its counts are live: read them before the next await."""

    def put_nowait(self, put: Put) -> Done | NotDone:
        """`Store.put` at once. Its counts are live."""

    def give_back_nowait(
        self,
        key: PoolKey,
        entry_id: str,
        fence: int,
        op: str,
        state: Literal["idle", "parked"],
        deadline_in_s: float,
    ) -> Counts | None:
        """`put_nowait` for what most leases end with, at half its price: nothing has changed.

        The same as a `Put` of these fields alone, but for its answer: the counts, live; or None,
        with nothing done, where the lease is over or this request was done before. Then ask
        `put_nowait`, which says why.
        """

    def lender(self, key: PoolKey) -> Lender:
        """The short ways of one key, for as long as the store is there."""

    def withdraw_nowait(self, key: PoolKey, request: str) -> Counts:
        """`Store.withdraw` at once. Its counts are live."""

    def read_nowait(self, key: PoolKey) -> tuple[Counts, Noted]:
        """`Store.read` at once. Its counts are live."""
