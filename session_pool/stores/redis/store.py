"""`redis://`: the state of a pool in Redis or Valkey, for processes on many machines.

Each operation is one script, so it is atomic and one round trip; the scripts say what happens, and
this room carries the question there and the answer back. Knows no policy. What was asked may happen
though nobody waits for the answer any more: the pool takes it back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Final, Literal, cast

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
from session_pool.stores.coding import note_as_text
from session_pool.stores.redis.asking import Asking
from session_pool.stores.redis.packing import (
    counts_of,
    doubles,
    entry_of,
    held_args,
    keyed_entry_of,
    noted_of,
    one_of,
    put_arg,
    text_of,
    two_of,
    want_arg,
)
from session_pool.stores.redis.scripts import SCRIPTS
from session_pool.stores.redis.wire import bulk

BATCH: Final = 500
"""Leases renewed by one script: it holds up everybody else for a few milliseconds."""

_TAKE, _PUT = SCRIPTS["take"], SCRIPTS["put"]
_one, _four = doubles[1], doubles[4]


class RedisStore(Asking):
    """The store at an address; see `Store` for what its operations mean."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._wants: dict[int, tuple[Want, bytes]] = {}

    # ------------------------------------------------------------------ asking for sessions

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
        scope = self._scopes.get(want.key) or self.scope_of(want.key)
        known = self._wants.get(id(want))
        wanted = known[1] if known is not None and known[0] is want else self._packed(want)
        numbers = _four(self.now(), patience_s, note_version, -1.0 if place is None else place)
        asked = request.encode()
        body = b"$%d\r\n%b%b\0\r\n%b" % (len(asked) + 33, numbers, asked, wanted)
        count = 2
        if instead is not None:
            body, count = body + bulk(put_arg(instead, scope.text)), 3
        head, what, *told = await self.run(_TAKE, scope, count, body)
        counts, version, _ = counts_of(head)
        if what == b"grant":
            if self._waiting:
                self._waiting.pop(request, None)
            row, before, numbers = told
            at, now = two_of(numbers)
            memory = entry_of(before) if before else None
            return Grant(entry_of(row), int(at), memory, now, counts, version)
        needs = cast(
            "Literal['new', 'own', 'room']", told[-3 if what == b"refusal" else 0].decode()
        )
        if what == b"ticket":
            self._waiting[request] = scope.digest
            return Ticket(int(one_of(told[1])), needs, counts, version)
        why = told[0].decode()
        if why != "note":
            self._waiting.pop(request, None)
        return Refusal(why, counts, noted_of(head, told[2], told[3])[1], needs)

    def _packed(self, want: Want) -> bytes:
        # The pool makes its wants once: the same object comes again and again.
        self.remember_length(want.ttl_s)
        packed = bulk(want_arg(want, self._bell))
        if len(self._wants) >= 4096:
            self._wants.clear()
        self._wants[id(want)] = (want, packed)
        return packed

    async def withdraw(self, key: PoolKey, request: str) -> Counts:
        """See `Store.withdraw`."""
        answer = await self._key("withdraw", key, _one(self.now()), request.encode())
        self._waiting.pop(request, None)
        return counts_of(answer[0])[0]

    # ------------------------------------------------------------------ changing

    async def put(self, put: Put) -> Done | NotDone:
        """See `Store.put`."""
        scope = self._scopes.get(put.key) or self.scope_of(put.key)
        body = bulk(_one(self.now()) + put_arg(put, scope.text))
        head, what, told = await self.run(_PUT, scope, 1, body)
        counts, _, _ = counts_of(head)
        if what == b"done":
            return Done(entry_of(told) if told else None, counts)
        return NotDone(told.decode(), counts)

    async def renew(
        self, holder: str, leases: Sequence[tuple[str, int]], ttl_s: float
    ) -> Sequence[bool]:
        """See `Store.renew`; a batch of more than `BATCH` is done in several steps."""
        self.remember_length(ttl_s)
        held: list[bool] = []
        for start in range(0, len(leases), BATCH):
            some = leases[start : start + BATCH]
            args = (
                doubles[2](self.now(), ttl_s),
                b"".join(_one(fence) for _, fence in some),
                text_of(holder),
                *(text_of(entry_id) for entry_id, _ in some),
            )
            answer = await self.run(SCRIPTS["renew"], self._common, len(args), _bulks(*args))
            held += [mark == ord("1") for mark in answer[1]]
        return held

    async def register(
        self, holder: str, leases: Sequence[Held], ttl_s: float
    ) -> Sequence[Entry | None]:
        """See `Store.register`; each lease is a step of its own, and all go out together."""
        self.remember_length(ttl_s)

        async def tell(held: Held) -> Entry | None:
            key = self.scope_of(held.key).text
            args = held_args(held, holder, self.now(), ttl_s, key)
            answer = await self._key("register", held.key, *args)
            return entry_of(answer[2]) if answer[2] else None

        return await asyncio.gather(*map(tell, leases))

    async def note(self, key: PoolKey, version: int, note: Note, *, open_: bool) -> Noted:
        """See `Store.note`."""
        digest = self.scope_of(key).digest
        numbers = doubles[3](self.now(), version, open_)
        text = note_as_text(note).encode()
        answer = await self._key("note", key, numbers, text, self._everybody, digest)
        return noted_of(answer[0], answer[4], answer[5])[1]

    # ------------------------------------------------------------------ looking

    async def read(self, key: PoolKey) -> tuple[Counts, Noted]:
        """See `Store.read`."""
        answer = await self._key("read", key, _one(self.now()))
        return noted_of(answer[0], answer[4], answer[5])

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
        numbers = doubles[2](self.now(), limit)
        looked_for = (text_of(rid or ""), text_of(conversation or ""))
        named = (state.encode() for state in states)
        answer = await self._key("find", key, numbers, *looked_for, *named)
        return [entry_of(row) for row in answer[2]]

    # ------------------------------------------------------------------ across keys

    async def due(
        self,
        holder: str,  # noqa: ARG002  # the protocol's; who asks is who gets it
        *,
        limit: int,
        for_s: float,
    ) -> Due:
        """See `Store.due`."""
        numbers = bulk(doubles[3](self.now(), limit, for_s))
        answer = await self.run(SCRIPTS["due"], self._common, 1, numbers)
        now, next_in_s = two_of(answer[2])
        return Due(tuple(map(keyed_entry_of, answer[1])), now, next_in_s)

    async def share(
        self, principal: str, holder: str, *, limit: float, wish: float, for_s: float
    ) -> Share:
        """See `Store.share`."""
        digest = blake2b(principal.encode(), digest_size=10).hexdigest()
        scope = self.scope("entries", "due", f"shares:{digest}")
        args = (_four(self.now(), limit, wish, for_s), text_of(holder))
        answer = await self.run(SCRIPTS["share"], scope, len(args), _bulks(*args))
        return Share(*two_of(answer[1]))

    async def identify(self, principal: str, identity: str) -> str:
        """See `Store.identify`."""
        scope = self.scope("entries", "due", "identities")
        args = (_one(self.now()), text_of(principal), text_of(identity))
        answer = await self.run(SCRIPTS["identify"], scope, len(args), _bulks(*args))
        return cast("str", answer[1].decode("utf-8", "surrogatepass"))

    async def _key(self, name: str, key: PoolKey, *args: bytes) -> list[Any]:
        return await self.run(SCRIPTS[name], self.scope_of(key), len(args), _bulks(*args))


def _bulks(*parts: bytes) -> bytes:
    return b"".join(map(bulk, parts))
