"""`sqlite:///path`: the store of all processes of one machine, in one file; it survives restarts.

The operations as the pool awaits them. Each becomes a job for the writer thread (`calls`); what it
does there is in `asking`, `serving` and `across`.
"""

from __future__ import annotations

from collections.abc import Sequence

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
from session_pool.stores.sqlite import across
from session_pool.stores.sqlite.asking import Asking
from session_pool.stores.sqlite.calls import Calls
from session_pool.stores.sqlite.moment import Moment


class SqliteStore(Calls):
    """One process's door to the file; see `Calls` for what it is made with."""

    durable = True

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

        def work(moment: Moment) -> Grant | Ticket | Refusal:
            asking = Asking(moment, moment.key(want.key))
            return asking.take(want, request, patience_s, note_version, place, instead)

        try:
            answer: Grant | Ticket | Refusal = await self._do(work, want.ttl_s)
        except StoreUnavailable:
            self._wait(request)  # it may stand in line all the same
            raise
        if type(answer) is Ticket or (type(answer) is Refusal and answer.why == "note"):
            self._wait(request)
        else:
            self._waiting.discard(request)
        return answer

    async def put(self, put: Put) -> Done | NotDone:
        """See `Store.put`."""
        answer: Done | NotDone = await self._do(lambda moment: _at(moment, put.key).put(put))
        return answer

    async def withdraw(self, key: PoolKey, request: str) -> Counts:
        """See `Store.withdraw`."""
        self._waiting.discard(request)
        answer: Counts = await self._do(lambda moment: _at(moment, key).withdraw(request))
        return answer

    async def renew(
        self, holder: str, leases: Sequence[tuple[str, int]], ttl_s: float
    ) -> Sequence[bool]:
        """See `Store.renew`."""
        told = tuple(leases)
        answer: Sequence[bool] = await self._do(
            lambda moment: across.renew(moment, holder, told, ttl_s), ttl_s
        )
        return answer

    async def register(
        self, holder: str, leases: Sequence[Held], ttl_s: float
    ) -> Sequence[Entry | None]:
        """See `Store.register`."""
        told = tuple(leases)
        answer: Sequence[Entry | None] = await self._do(
            lambda moment: [_at(moment, held.key).register(holder, held, ttl_s) for held in told],
            ttl_s,
        )
        return answer

    async def due(
        self,
        holder: str,  # noqa: ARG002  # the protocol's; a claim is by its deadline, not by name
        *,
        limit: int,
        for_s: float,
    ) -> Due:
        """See `Store.due`."""
        answer: Due = await self._do(lambda moment: across.due(moment, limit, for_s))
        return answer

    async def note(self, key: PoolKey, version: int, note: Note, *, open_: bool) -> Noted:
        """See `Store.note`."""
        answer: Noted = await self._do(
            lambda moment: _at(moment, key).note(version, note, open_=open_)
        )
        return answer

    async def read(self, key: PoolKey) -> tuple[Counts, Noted]:
        """See `Store.read`."""
        answer: tuple[Counts, Noted] = await self._do(lambda moment: _at(moment, key).read())
        return answer

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
        wanted = tuple(states)
        answer: Sequence[Entry] = await self._do(
            lambda moment: _at(moment, key).find(wanted, conversation, rid, limit)
        )
        return answer

    async def share(
        self, principal: str, holder: str, *, limit: float, wish: float, for_s: float
    ) -> Share:
        """See `Store.share`."""
        answer: Share = await self._do(
            lambda moment: across.share(moment, principal, holder, limit, wish, for_s)
        )
        return answer

    async def identify(self, principal: str, identity: str) -> str:
        """See `Store.identify`."""
        answer: str = await self._do(lambda moment: across.identify(moment, principal, identity))
        return answer


def _at(moment: Moment, key: PoolKey) -> Asking:
    return Asking(moment, moment.key(key))
