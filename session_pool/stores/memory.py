"""The store of one process, and the model that every other store is compared with (B26).

Plain dictionaries and an injected clock. Nothing here awaits: the awaitable operations wrap the
immediate ones. It knows no policy; what an entry's state means to the pool is the rules' matter.
What belongs to one key is in `counter` (asking and serving), `loans` (the short ways), `entries`
(what there is) and `waiting` (who stands in line); here are the operations, and what goes across
keys.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Literal, TypeVar, cast

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
    Share,
    Ticket,
    Want,
)
from session_pool.stores.deadlines import Deadlines
from session_pool.stores.loans import Loans
from session_pool.stores.rows import Row
from session_pool.stores.shares import Shares

_Answer = TypeVar("_Answer", bound=Grant | Ticket | Refusal | Done | NotDone)

DEFAULT_CLOCK: Final[Callable[[], float]] = (
    partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    if hasattr(time, "CLOCK_BOOTTIME")
    else time.monotonic
)
"""The machine's clock that counts sleep (B20); the monotonic one where none does."""


class MemoryStore:
    """`memory://`: the state of one pool in one process; it ends with the process.

    Args:
        clock: seconds; only differences matter.
    """

    durable = False
    epoch = "memory"  # it ends with the process, so it is never another than it was

    def __init__(self, *, clock: Callable[[], float] = DEFAULT_CLOCK) -> None:
        self.clock = self._clock = clock
        self._counters: dict[PoolKey, Loans] = {}
        self._rows: dict[str, Row] = {}
        self._deadlines = Deadlines()
        self._shares: dict[str, Shares] = {}
        self._identities: dict[str, str] = {}
        self._bells: list[Callable[[str], None]] = []

    async def open(self) -> None:
        """Nothing to connect."""

    async def aclose(self) -> None:
        """Nothing to let go of."""

    # ------------------------------------------------------------------ the operations, at once

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
        """See `Store.take`."""
        counter = self._counters.get(want.key) or self._counter(want.key)
        return counter.take(want, request, self._clock(), patience_s, note_version, place, instead)

    def put_nowait(self, put: Put) -> Done | NotDone:
        """See `Store.put`."""
        counter = self._counters.get(put.key) or self._counter(put.key)
        return counter.put(put, self._clock())

    def give_back_nowait(
        self,
        key: PoolKey,
        entry_id: str,
        fence: int,
        op: str,
        state: Literal["idle", "parked"],
        deadline_in_s: float,
    ) -> Counts | None:
        """See `LocalStore.give_back_nowait`."""
        counter = self._counters.get(key) or self._counter(key)
        return counter.give_back(entry_id, fence, op, state, deadline_in_s, self._clock())

    def lender(self, key: PoolKey) -> Loans:
        """See `LocalStore.lender`."""
        return self._counter(key)

    def withdraw_nowait(self, key: PoolKey, request: str) -> Counts:
        """See `Store.withdraw`."""
        return self._counter(key).withdraw(request, self._clock())

    def read_nowait(self, key: PoolKey) -> tuple[Counts, Noted]:
        """See `Store.read`."""
        counter, now = self._counter(key), self._clock()
        counter.settle(now)
        return counter.counts, counter.noted(now)

    # ------------------------------------------------------------------ the operations, awaitable

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
        """See `Store.take`."""
        return _still(
            self.take_nowait(
                want,
                request,
                patience_s=patience_s,
                note_version=note_version,
                place=place,
                instead=instead,
            )
        )

    async def put(self, put: Put) -> Done | NotDone:
        """See `Store.put`."""
        return _still(self.put_nowait(put))

    async def withdraw(self, key: PoolKey, request: str) -> Counts:
        """See `Store.withdraw`."""
        return _copied(self.withdraw_nowait(key, request))

    async def read(self, key: PoolKey) -> tuple[Counts, Noted]:
        """See `Store.read`."""
        counts, noted = self.read_nowait(key)
        return _copied(counts), noted

    async def renew(
        self, holder: str, leases: Sequence[tuple[str, int]], ttl_s: float
    ) -> Sequence[bool]:
        """See `Store.renew`."""
        now = self._clock()
        lapses = now + ttl_s
        answers = []
        for entry_id, fence in leases:
            row = self._rows.get(entry_id)
            held = row is not None and _holds(row, holder, fence, now)
            if row is not None and held:
                row.lapses = row.deadline = lapses
                if lapses < row.queued:
                    self._deadlines.queue(row, lapses)
            answers.append(held)
        return answers

    async def register(
        self, holder: str, leases: Sequence[Held], ttl_s: float
    ) -> Sequence[Entry | None]:
        """See `Store.register`."""
        now = self._clock()
        return [self._counter(held.key).register(holder, held, ttl_s, now) for held in leases]

    async def due(
        self,
        holder: str,  # noqa: ARG002  # the protocol's; in one process it matters not who asks
        *,
        limit: int,
        for_s: float,
    ) -> Due:
        """See `Store.due`."""
        now, claimed = self._clock(), list[tuple[PoolKey, Entry]]()
        row = self._deadlines.next()
        while row is not None and row.deadline <= now and len(claimed) < limit:
            claimed.append((row.key, row.entry()))
            row.deadline = now + for_s
            row = self._deadlines.next()
        next_in_s = FOREVER if row is None else max(0.0, row.deadline - now)
        return Due(tuple(claimed), now, next_in_s)

    async def note(self, key: PoolKey, version: int, note: Note, *, open_: bool) -> Noted:
        """See `Store.note`."""
        return self._counter(key).note(version, note, self._clock(), open_=open_)

    async def find(
        self,
        key: PoolKey,
        *,
        states: Sequence[State] = (),
        conversation: str | None = None,
        rid: str | None = None,
        limit: int = 100,
    ) -> Sequence[Entry]:
        """See `Store.find`."""
        counter = self._counter(key)
        counter.settle(self._clock())
        return counter.entries.find(states, conversation, rid, limit)

    async def share(
        self, principal: str, holder: str, *, limit: float, wish: float, for_s: float
    ) -> Share:
        """See `Store.share`."""
        shares = self._shares.get(principal)
        if shares is None:
            shares = self._shares[principal] = Shares()
        return shares.ask(holder, limit, wish, for_s, self._clock())

    async def identify(self, principal: str, identity: str) -> str:
        """See `Store.identify`."""
        return self._identities.setdefault(principal, identity)

    def watch(self, ring: Callable[[str], None]) -> Callable[[], None]:
        """See `Store.watch`."""
        self._bells.append(ring)

        def end() -> None:
            if ring in self._bells:
                self._bells.remove(ring)

        return end

    # ------------------------------------------------------------------ across keys

    def _counter(self, key: PoolKey) -> Loans:
        counter = self._counters.get(key)
        if counter is None:
            counter = Loans(key, self._rows, self._deadlines, self._bells, self._clock)
            self._counters[key] = counter
        return counter


def _holds(row: Row, holder: str, fence: int, now: float) -> bool:
    alive = row.state == "leased" and row.lapses > now
    return alive and row.holder == holder and row.fence == fence


def _still(answer: _Answer) -> _Answer:
    # What is awaited keeps the counts of its moment; what is had at once is read at once.
    return cast("_Answer", answer._replace(counts=_copied(answer.counts)))


def _copied(counts: Counts) -> Counts:
    return Counts(dict(counts.states), counts.waiting, counts.new, dict(counts.tally))
