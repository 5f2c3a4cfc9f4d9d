"""The store of one process, and the model that every other store is compared with (B26).

Plain dictionaries and an injected clock. Nothing here awaits: the awaitable operations wrap the
immediate ones. It knows no policy; what an entry's state means to the pool is the rules' matter.
What belongs to one key is in `counter` (serving), `entries` (what there is) and `waiting` (who
stands in line); here are the operations, and what goes across keys: deadlines, shares, the bell.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from heapq import heappop, heappush

from session_pool.model import FOREVER, Counts, Entry, PoolKey, State
from session_pool.space import (
    Done,
    Due,
    Grant,
    NotDone,
    Note,
    Noted,
    Put,
    Refusal,
    Ticket,
    Want,
)
from session_pool.stores.counter import Counter
from session_pool.stores.waiting import Waiter

TOMBSTONE_S = 60.0
"""How long a withdrawn request stays refused: longer than any take can be on its way."""


def boot_clock() -> float:
    """Seconds by the machine's clock that counts sleep (B20); the monotonic one where none does."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


DEFAULT_CLOCK: Callable[[], float] = (
    boot_clock if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
)


class MemoryStore:
    """`memory://`: the state of one pool in one process; it ends with the process.

    Args:
        clock: seconds; only differences matter.
    """

    durable = False

    def __init__(self, *, clock: Callable[[], float] = DEFAULT_CLOCK) -> None:
        self._clock = clock
        self._counters: dict[PoolKey, Counter] = {}
        self._where: dict[str, Counter] = {}
        self._deadlines: list[tuple[float, str]] = []
        self._queued: dict[str, float] = {}
        self._shares: dict[str, dict[str, tuple[float, float]]] = {}
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
        now = self._clock()
        counter = self._counters.get(want.key) or self._counter(want.key)
        if counter.troubled:
            self._settle(counter, now)
        if instead is not None:
            counter.put(instead, now)
            self._file(counter, instead.id)
        counter.cap, counter.max_waiting = want.max_leased, want.max_waiting
        waiter = counter.waiting.by_request.get(request)
        if waiter is None:
            answer = counter.arrive(want, request, now, patience_s, note_version, place)
        else:
            answer = counter.ask_again(waiter, now, patience_s, note_version)
        if type(answer) is Grant:
            entry = answer.entry
            if entry.lapses != FOREVER:
                self._queue(entry)
            if not counter.waiting.by_request and instead is None:
                return answer
        counter.serve(now)
        return answer

    def put_nowait(self, put: Put) -> Done | NotDone:
        """See `Store.put`."""
        now = self._clock()
        counter = self._counters.get(put.key) or self._counter(put.key)
        if counter.troubled:
            self._settle(counter, now)
        answer = counter.put(put, now)
        self._file(counter, put.id)
        if counter.waiting.by_request:
            counter.serve(now)
        return answer

    def withdraw_nowait(self, key: PoolKey, request: str) -> Counts:
        """See `Store.withdraw`."""
        now = self._clock()
        counter = self._counter(key)
        self._settle(counter, now)
        counter.withdraw(request, now + TOMBSTONE_S, now)
        counter.serve(now)
        return counter.counts

    def read_nowait(self, key: PoolKey) -> tuple[Counts, Noted]:
        """See `Store.read`."""
        now = self._clock()
        counter = self._counter(key)
        self._settle(counter, now)
        counter.serve(now)
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
        return self.take_nowait(
            want,
            request,
            patience_s=patience_s,
            note_version=note_version,
            place=place,
            instead=instead,
        )

    async def put(self, put: Put) -> Done | NotDone:
        """See `Store.put`."""
        return self.put_nowait(put)

    async def withdraw(self, key: PoolKey, request: str) -> Counts:
        """See `Store.withdraw`."""
        return self.withdraw_nowait(key, request)

    async def read(self, key: PoolKey) -> tuple[Counts, Noted]:
        """See `Store.read`."""
        return self.read_nowait(key)

    async def renew(
        self, holder: str, leases: Sequence[tuple[str, int]], ttl_s: float
    ) -> Sequence[bool]:
        """See `Store.renew`."""
        now = self._clock()
        answers = []
        for entry_id, fence in leases:
            counter = self._where.get(entry_id)
            prolonged = counter is not None and counter.renew(
                entry_id, holder, fence, now, now + ttl_s
            )
            answers.append(prolonged)
        return answers

    async def due(
        self,
        holder: str,  # noqa: ARG002  # the protocol's
        *,
        limit: int,
        for_s: float,
    ) -> Due:
        """See `Store.due`; in one process it does not matter who asks."""
        now = self._clock()
        claimed: list[tuple[PoolKey, Entry]] = []
        while self._deadlines and self._deadlines[0][0] <= now and len(claimed) < limit:
            at, entry_id = heappop(self._deadlines)
            if self._queued.get(entry_id) != at:
                continue
            del self._queued[entry_id]
            counter = self._where.get(entry_id)
            entry = counter.entries.by_id.get(entry_id) if counter is not None else None
            if counter is None or entry is None:
                continue
            if entry.deadline <= now:
                claimed.append((counter.key, entry))
                entry = entry._replace(deadline=now + for_s)
                counter.entries.retime(entry)
            # A deadline may have moved while its entry was queued under an earlier one.
            self._queue(entry)
        next_in_s = self._deadlines[0][0] - now if self._deadlines else FOREVER
        return Due(tuple(claimed), now, max(0.0, next_in_s))

    async def note(self, key: PoolKey, version: int, note: Note, *, open_: bool) -> Noted:
        """See `Store.note`."""
        now = self._clock()
        counter = self._counter(key)
        self._settle(counter, now)
        if counter.note_version == version:
            counter.write_note(note, open_=open_, now=now)
        counter.serve(now)
        return counter.noted(now)

    async def find(
        self,
        key: PoolKey,
        *,
        states: Sequence[State] = (),
        conversation: str | None = None,
        limit: int = 100,
    ) -> Sequence[Entry]:
        """See `Store.find`."""
        return self._counter(key).entries.find(states, conversation, limit)

    async def share(
        self, principal: str, holder: str, *, limit: float, wish: float, for_s: float
    ) -> float:
        """See `Store.share`."""
        now = self._clock()
        shares = self._shares.setdefault(principal, {})
        for other in [who for who, (_, ends) in shares.items() if ends <= now or who == holder]:
            del shares[other]
        granted = max(0.0, min(wish, limit - sum(part for part, _ in shares.values())))
        if granted > 0:
            shares[holder] = (granted, now + for_s)
        return granted

    def watch(self, ring: Callable[[str], None]) -> Callable[[], None]:
        """See `Store.watch`."""
        self._bells.append(ring)
        return lambda: self._bells.remove(ring)

    # ------------------------------------------------------------------ across keys

    def _counter(self, key: PoolKey) -> Counter:
        counter = self._counters.get(key)
        if counter is None:
            counter = self._counters[key] = Counter(key, self._granted)
        return counter

    def _granted(self, waiter: Waiter) -> None:
        grant = waiter.grant
        if grant is not None and grant.entry.lapses != FOREVER:
            self._queue(grant.entry)
        for ring in self._bells:
            ring(waiter.request)

    def _settle(self, counter: Counter, now: float) -> None:
        if counter.settle(now):
            counter.serve(now)

    def _file(self, counter: Counter, entry_id: str) -> None:
        entry = counter.entries.by_id.get(entry_id)
        if entry is None:
            self._where.pop(entry_id, None)
            return
        self._where[entry_id] = counter
        queued = self._queued.get(entry_id)
        if queued is None or entry.deadline < queued:
            self._queue(entry)

    def _queue(self, entry: Entry) -> None:
        # One item per entry in the heap, the earliest that was ever asked for; `due` re-queues an
        # entry whose deadline has moved on. So a hot entry does not grow the heap.
        queued = self._queued.get(entry.id)
        if entry.deadline != FOREVER and (queued is None or entry.deadline < queued):
            self._queued[entry.id] = entry.deadline
            heappush(self._deadlines, (entry.deadline, entry.id))
