"""The PostgreSQL store: the operations, and which epoch of the state they are meant for.

Translates calls into questions and hands them to the lanes. When the database says that the epoch
is another, it comes in anew and asks once more (B27).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from secrets import token_hex
from typing import Any, Final

from session_pool.errors import ConfigError, PoolClosed, StoreUnavailable
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
from session_pool.stores.base import EPOCH
from session_pool.stores.postgres import rows
from session_pool.stores.postgres.address import Address
from session_pool.stores.postgres.bell import Bell
from session_pool.stores.postgres.lanes import ANSWER_S, Carry, Lanes
from session_pool.stores.postgres.schema import check, connected
from session_pool.stores.postgres.troubles import (
    ANY,
    OURS,
    AnotherEpochError,
    SchemaGoneError,
    translated,
)
from session_pool.stores.postgres.wire import Wire

RUN: Final = "SELECT * FROM session_pool.run($1, $2, $3, $4, $5, $6, $7, $8)"
FIND: Final = "SELECT * FROM session_pool.find($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
REGISTER: Final = "SELECT * FROM session_pool.register($1, $2, $3, $4, $5, $6, $7, $8, $9)"
RENEW: Final = "SELECT session_pool.renew($1, $2, $3, $4, $5, $6, $7)"
DUE: Final = "SELECT * FROM session_pool.due($1, $2, $3, $4, $5)"
SHARE: Final = "SELECT * FROM session_pool.share($1, $2, $3, $4, $5, $6, $7, $8)"
IDENTIFY: Final = "SELECT session_pool.identify($1, $2, $3, $4)"
ENTER: Final = "SELECT * FROM session_pool.enter($1, $2, $3, $4, $5)"


class PostgresStore:
    """`postgresql://`: the state of pools in many processes, in a database.

    Args:
        address: where.
        clock: seconds; the server's clock where none is given (B20). For tests, as is the next.
        answer_s: how long an answer may take.
    """

    durable = True

    def __init__(
        self,
        address: Address,
        *,
        clock: Callable[[], float] | None = None,
        answer_s: float = ANSWER_S,
    ) -> None:
        self.epoch = ""
        self._address = address
        self._clock = clock
        self._answer_s = answer_s
        self._bells: list[Callable[[str], None]] = []
        self._waiting: set[str] = set()
        self._space = 0
        self._longest_ttl = 0.0
        self._entering: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0

    def __repr__(self) -> str:
        return f"PostgresStore({self._address.where}, namespace={self._address.namespace})"

    async def open(self) -> None:
        """See `Store.open`."""
        self._loop, self._pid = asyncio.get_running_loop(), os.getpid()
        self._lanes = Lanes(self._connect, self._address.where, self._answer_s)
        self._bell = Bell(self._connect, self._ring, self._hear_again)
        wire = await connected(self._address, "bell")
        try:
            await check(wire, self._address)
            await self._bell.open(wire)
            await self._come_in(wire)
        except BaseException as error:
            await self._bell.aclose()
            wire.terminate()
            await self._lanes.aclose()
            self._loop = None
            if isinstance(error, OURS):
                raise translated(error, "open", self._address.where) from error
            raise

    async def aclose(self) -> None:
        """See `Store.aclose`."""
        if self._loop is None:
            return
        self._here()
        self._loop = None
        if self._entering is not None:
            self._entering.cancel()
            await asyncio.gather(self._entering, return_exceptions=True)
        await self._bell.aclose()
        await self._lanes.aclose()

    # ------------------------------------------------------------------ about one key

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
        if self._longest_ttl < want.ttl_s < FOREVER:
            self._longest_ttl = want.ttl_s
        question = rows.take(want, request, patience_s, note_version, place, instead)
        answer = rows.taken(await self._ask(want.key, "take", self._run, question))
        if isinstance(answer, Ticket) or (isinstance(answer, Refusal) and answer.why == "note"):
            self._waiting.add(request)
        else:
            self._waiting.discard(request)
        return answer

    async def put(self, put: Put) -> Done | NotDone:
        """See `Store.put`."""
        return rows.changed(await self._ask(put.key, "put", self._run, rows.put(put)))

    async def withdraw(self, key: PoolKey, request: str) -> Counts:
        """See `Store.withdraw`."""
        self._waiting.discard(request)
        return rows.counts_of(await self._ask(key, "withdraw", self._run, rows.withdraw(request)))

    async def note(self, key: PoolKey, version: int, note: Note, *, open_: bool) -> Noted:
        """See `Store.note`."""
        question = rows.note(version, note, open_=open_)
        return rows.noted_of(await self._ask(key, "note", self._run, question))

    async def read(self, key: PoolKey) -> tuple[Counts, Noted]:
        """See `Store.read`."""
        row = await self._ask(key, "read", self._run, rows.read())
        return rows.counts_of(row), rows.noted_of(row)

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
        listed = states or (() if conversation is not None or rid is not None else rows.ALL_STATES)
        asked = (*key, list(listed), conversation, rid, limit)
        found = await self._ask("find", "find", self._find, asked, together=1)
        return [entry for row in found if (entry := rows.entry_of(row)) is not None]

    # ------------------------------------------------------------------ across keys

    async def renew(
        self, holder: str, leases: Sequence[tuple[str, int]], ttl_s: float
    ) -> Sequence[bool]:
        """See `Store.renew`."""
        if not leases:
            return []
        if self._longest_ttl < ttl_s < FOREVER:
            self._longest_ttl = ttl_s
        asked = (holder, [name for name, _ in leases], [fence for _, fence in leases], ttl_s)
        answer = await self._ask("renew", "renew", self._call(RENEW), asked, together=1)
        return list(answer[0][0])

    async def register(
        self, holder: str, leases: Sequence[Held], ttl_s: float
    ) -> Sequence[Entry | None]:
        """See `Store.register`. One trip per key: nothing is promised of several together."""
        if self._longest_ttl < ttl_s < FOREVER:
            self._longest_ttl = ttl_s
        now: dict[int, Entry | None] = {}
        for key in dict.fromkeys(held.key for held in leases):
            numbers = [number for number, held in enumerate(leases) if held.key == key]
            told = [rows.held(leases[number]) for number in numbers]
            asked = (*key, holder, told, ttl_s)
            found = await self._ask("register", "register", self._call(REGISTER), asked, together=1)
            now.update(zip(numbers, map(rows.entry_of, found), strict=True))
        return [now[number] for number in range(len(leases))]

    async def due(self, holder: str, *, limit: int, for_s: float) -> Due:  # noqa: ARG002  # the protocol's
        """See `Store.due`."""
        asked = (limit, for_s)
        return rows.due_of(await self._ask("due", "due", self._call(DUE), asked, together=1))

    async def share(
        self, principal: str, holder: str, *, limit: float, wish: float, for_s: float
    ) -> Share:
        """See `Store.share`."""
        asked = (principal, holder, limit, wish, for_s)
        (row,) = await self._ask("share", "share", self._call(SHARE), asked, together=1)
        return Share(row[0], row[1])

    async def identify(self, principal: str, identity: str) -> str:
        """See `Store.identify`."""
        (row,) = await self._ask(
            "identify", "identify", self._identify, (principal, identity), together=1
        )
        return str(row[0])

    def watch(self, ring: Callable[[str], None]) -> Callable[[], None]:
        """See `Store.watch`."""
        self._bells.append(ring)

        def end() -> None:
            if ring in self._bells:
                self._bells.remove(ring)

        return end

    def _ring(self, request: str) -> None:
        for ring in self._bells:
            ring(request)

    # ------------------------------------------------------------------ how it is asked

    async def _run(self, wire: Wire, key: PoolKey, questions: list[Any]) -> Sequence[Any]:
        return await wire.fetch(
            RUN, self._space, self.epoch, self._now(), *key, self._bell.channel, questions
        )

    async def _find(self, wire: Wire, _: object, asked: list[Any]) -> Sequence[Any]:
        return [await wire.fetch(FIND, self._space, self.epoch, self._now(), *asked[0])]

    async def _identify(self, wire: Wire, _: object, asked: list[Any]) -> Sequence[Any]:
        return [await wire.fetch(IDENTIFY, self._space, self.epoch, *asked[0])]

    def _call(self, text: str) -> Carry:
        async def carry(wire: Wire, _: object, asked: list[Any]) -> Sequence[Any]:
            return [await wire.fetch(text, self._space, self.epoch, self._now(), *asked[0])]

        return carry

    def _now(self) -> float | None:
        return None if self._clock is None else self._clock()

    async def _ask(
        self, lane: object, doing: str, carry: Carry, question: Any, *, together: int = 32
    ) -> Any:
        self._here()
        try:
            return await self._lanes.ask(lane, doing, carry, question, together=together)
        except (AnotherEpochError, SchemaGoneError) as error:
            await self._enter()
            try:
                return await self._lanes.ask(lane, doing, carry, question, together=together)
            except AnotherEpochError:
                raise StoreUnavailable(
                    f"store: {doing}: the state at {self._address.where} changes all the time"
                ) from error

    def _here(self) -> None:
        if self._loop is None:
            raise PoolClosed("this store is not open; await store.open() first")
        if self._pid != os.getpid():
            raise PoolClosed(
                "this store was opened before a fork; open one after it, in each process"
            )
        if asyncio.get_running_loop() is not self._loop:
            raise PoolClosed(
                "this store was opened in another event loop; open one in each loop that uses it"
            )

    # ------------------------------------------------------------------ epochs

    async def _connect(self) -> Wire:
        try:
            return await connected(self._address, "store")
        except ConfigError as error:  # it was usable when it was opened
            raise StoreUnavailable(str(error)) from error

    async def _hear_again(self) -> None:
        # The server was away, or the way to it: it may be another state, and rings were lost.
        await self._enter()
        for request in tuple(self._waiting):
            self._ring(request)

    async def _enter(self) -> None:
        """Learn which epoch it is; one at a time, and nobody's cancellation ends it."""
        if self._entering is None or self._entering.done():
            loop = asyncio.get_running_loop()
            self._entering = loop.create_task(self._enter_anew(), name="session_pool epoch")
            # Whoever wanted to know may have gone.
            self._entering.add_done_callback(lambda task: task.cancelled() or task.exception())
        entering = self._entering
        await asyncio.wait((entering,))
        if entering.cancelled():
            raise StoreUnavailable("store: the store was closed")
        entering.result()

    async def _enter_anew(self) -> None:
        wire = await self._connect()
        try:
            try:
                await self._come_in(wire)
            except SchemaGoneError:
                await self._make_again(wire)
                await self._come_in(wire)
        finally:
            wire.terminate()

    async def _make_again(self, wire: Wire) -> None:
        try:
            await check(wire, self._address)
        except ANY as error:
            trouble = translated(error, "making the schema again", self._address.where)
            raise StoreUnavailable(str(trouble)) from error
        self._lanes.hang_up()

    async def _come_in(self, wire: Wire) -> None:
        known = self.epoch or None
        asked = (self._address.namespace, known, self._longest_ttl, self._now(), token_hex(8))
        try:
            row = await wire.fetchrow(ENTER, *asked, timeout=self._answer_s)
        except OURS as error:
            raise translated(error, "coming in", self._address.where) from error
        assert row is not None  # noqa: S101  # a function with OUT arguments gives one row
        self._space, self.epoch = row[0], row[1]
        if known not in (None, self.epoch):
            waiting, self._waiting = self._waiting, set()
            for request in (EPOCH, *waiting):
                self._ring(request)
