"""A memory store as one behind a network looks: every answer is awaited, and may be lost.

It has the awaitable operations alone, so the pool cannot tell it from a server's. The answers are
snapshots, since those of a server are. Which calls fail, and when, is a script; what the operations
mean is the memory store's business.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Literal, NamedTuple, TypeVar

from session_pool.errors import StoreUnavailable
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
from session_pool.stores.base import EPOCH, Store
from session_pool.stores.memory import MemoryStore

T = TypeVar("T")

When = Literal["before", "after"]

OPERATIONS: Final = frozenset(
    (
        "take",
        "put",
        "withdraw",
        "renew",
        "due",
        "note",
        "read",
        "find",
        "share",
        "register",
        "identify",
    )
)


class Mishap(NamedTuple):
    """A call that fails: before it is done, or after, with its answer lost; and with what error."""

    operation: str
    when: When
    error: BaseException | None


class AwaitingStore:
    """A store that is awaited.

    Args:
        clock: seconds.
        latency_s: on the way there, and the same on the way back; 0 is a turn of the loop.
        shared: the store that another of these leads to, as another process would have it.

    Attributes:
        calls: how often each operation was asked for.
        away: nothing gets through, for as long as it is true.
        deaf: doorbells are lost, for as long as it is true.
        durable: as of `Store`; it stays when the pool closes.
    """

    durable = False
    epoch = ""  # it is learnt from the other side

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        latency_s: float = 0.0,
        shared: AwaitingStore | None = None,
    ) -> None:
        self.inner: MemoryStore = MemoryStore(clock=clock) if shared is None else shared.inner
        self.latency_s = latency_s
        self.calls: Counter[str] = Counter()
        self.away = False
        self.deaf = False
        self._clock = clock
        self._mishaps: list[Mishap] = []
        self._bells: list[tuple[Callable[[str], None], Callable[[], None]]] = []
        self._silent: asyncio.Event | None = None

    def fail(
        self,
        operation: str,
        when: When,
        times: int = 1,
        error: BaseException | None = None,
    ) -> None:
        """Let the next calls of an operation fail; scripts of one operation follow each other.

        Args:
            operation: which.
            when: before it is done, or after.
            times: how many of its calls.
            error: instead of a `StoreUnavailable`.
        """
        assert operation in OPERATIONS, operation
        self._mishaps.extend([Mishap(operation, when, error)] * times)

    def forgive(self) -> None:
        """Let no call fail any more."""
        self._mishaps.clear()

    def hang(self) -> None:
        """Let no call be answered, nor fail, until `answer()`."""
        self._silent = asyncio.Event()

    def answer(self) -> None:
        """Let the calls go on that have hung so far, and answer again."""
        if self._silent is not None:
            self._silent.set()
        self._silent = None

    def wipe(self, inner: MemoryStore | None = None) -> MemoryStore:
        """Begin another epoch: forget everything, or know what another store knows instead."""
        self.inner = MemoryStore(clock=self._clock) if inner is None else inner
        self.epoch += "'"
        rings = [ring for ring, end in self._bells if end() is None]
        self._bells = [(ring, self.inner.watch(ring)) for ring in rings]
        for ring in rings:
            ring(EPOCH)
        return self.inner

    @property
    def mishaps_left(self) -> int:
        """How many scripted failures have not come to pass."""
        return len(self._mishaps)

    async def open(self) -> None:
        """Connect."""
        await self._way()
        self.epoch = self.epoch or "memory"

    async def aclose(self) -> None:
        """Let go."""
        await self._way()

    # ------------------------------------------------------------------ the operations

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

        async def work() -> Grant | Ticket | Refusal:
            answer = await self.inner.take(
                want,
                request,
                patience_s=patience_s,
                note_version=note_version,
                place=place,
                instead=instead,
            )
            return answer._replace(counts=_snapshot(answer.counts))

        return await self._do("take", work)

    async def put(self, put: Put) -> Done | NotDone:
        """See `Store.put`."""

        async def work() -> Done | NotDone:
            answer = await self.inner.put(put)
            return answer._replace(counts=_snapshot(answer.counts))

        return await self._do("put", work)

    async def withdraw(self, key: PoolKey, request: str) -> Counts:
        """See `Store.withdraw`."""

        async def work() -> Counts:
            return _snapshot(await self.inner.withdraw(key, request))

        return await self._do("withdraw", work)

    async def renew(
        self, holder: str, leases: Sequence[tuple[str, int]], ttl_s: float
    ) -> Sequence[bool]:
        """See `Store.renew`."""
        asked = tuple(leases)
        return await self._do("renew", lambda: self.inner.renew(holder, asked, ttl_s))

    async def register(
        self, holder: str, leases: Sequence[Held], ttl_s: float
    ) -> Sequence[Entry | None]:
        """See `Store.register`."""
        asked = tuple(leases)
        return await self._do("register", lambda: self.inner.register(holder, asked, ttl_s))

    async def identify(self, principal: str, identity: str) -> str:
        """See `Store.identify`."""
        return await self._do("identify", lambda: self.inner.identify(principal, identity))

    async def due(self, holder: str, *, limit: int, for_s: float) -> Due:
        """See `Store.due`."""
        return await self._do("due", lambda: self.inner.due(holder, limit=limit, for_s=for_s))

    async def note(self, key: PoolKey, version: int, note: Note, *, open_: bool) -> Noted:
        """See `Store.note`."""
        return await self._do("note", lambda: self.inner.note(key, version, note, open_=open_))

    async def read(self, key: PoolKey) -> tuple[Counts, Noted]:
        """See `Store.read`."""

        async def work() -> tuple[Counts, Noted]:
            counts, noted = await self.inner.read(key)
            return _snapshot(counts), noted

        return await self._do("read", work)

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
        return await self._do(
            "find",
            lambda: self.inner.find(
                key, states=states, conversation=conversation, rid=rid, limit=limit
            ),
        )

    async def share(
        self, principal: str, holder: str, *, limit: float, wish: float, for_s: float
    ) -> Share:
        """See `Store.share`."""
        return await self._do(
            "share",
            lambda: self.inner.share(principal, holder, limit=limit, wish=wish, for_s=for_s),
        )

    def watch(self, ring: Callable[[str], None]) -> Callable[[], None]:
        """See `Store.watch`: the bell rings a turn of the loop later, or not at all."""
        loop = asyncio.get_running_loop()

        def later(request: str) -> None:
            if not (self.deaf or self.away):
                loop.call_soon(ring, request)

        self._bells.append((later, self.inner.watch(later)))

        def end() -> None:
            for bell in [bell for bell in self._bells if bell[0] is later]:
                self._bells.remove(bell)
                bell[1]()

        return end

    # ------------------------------------------------------------------ the way there and back

    async def _do(self, operation: str, work: Callable[[], Awaitable[T]]) -> T:
        self.calls[operation] += 1
        mishap = self._fate(operation)
        when = mishap.when if mishap is not None else None
        error = mishap.error if mishap is not None else None
        await self._way()
        if when == "before" or self.away:
            raise error or StoreUnavailable(f"{operation}: not done, as scripted")
        answer = await work()
        await self._way()
        if when == "after" or self.away:
            raise error or StoreUnavailable(f"{operation}: done, and its answer lost, as scripted")
        return answer

    async def _way(self) -> None:
        if self._silent is not None:
            await self._silent.wait()
        await asyncio.sleep(self.latency_s)

    def _fate(self, operation: str) -> Mishap | None:
        for at, mishap in enumerate(self._mishaps):
            if mishap.operation == operation:
                del self._mishaps[at]
                return mishap
        return None


def _snapshot(counts: Counts) -> Counts:
    return Counts(dict(counts.states), counts.waiting, counts.new, dict(counts.tally))


def as_store(store: AwaitingStore) -> Store:
    """The same, for the type checker to see that it is one."""
    return store
