"""What an operator orders is carried out here: pause, drain, resume, recycle, evict, warm (B25).

An order is a note that every process learns of; what it means for a session is the rules' matter.
Each is carried to its end by a task of the pool, whoever is cancelled, and given twice it is
harmless. Who may give orders, and when, is the pool's matter.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from session_pool.desk import Desk
from session_pool.desks import Desks
from session_pool.errors import AcquireTimeout, ConfigError, PoolPaused, StoreUnavailable
from session_pool.keeper import LATER_S, Keeper
from session_pool.lease import Lease
from session_pool.model import FOREVER, Counts, Entry
from session_pool.notes import tell, write_note
from session_pool.refusals import error_of
from session_pool.space import Done, Note, Put
from session_pool.verdicts import evicted
from session_pool.works import TELL_S, Works

PATIENCE_S: Final = 60.0
"""For a store that is away, where the agent's policy lets its callers wait for ever."""

Cold = Callable[[float], Awaitable[tuple[Desk, int] | None]]
"""Finds an agent that has fewer ready than so many, asking the store until a time at most."""

TRIES: Final = 100
"""Changes of one session by others while it is being evicted; more is another fault."""


class Operator:
    """Carries out what is ordered of agents and sessions.

    Args:
        works, desks, keeper: the pool's parts.
        attend: told of an agent whose counts call for a creation.
        check: raises if the pool may not be used here and now.
    """

    def __init__(
        self,
        works: Works,
        desks: Desks,
        keeper: Keeper,
        attend: Callable[[Desk, Counts], None],
        check: Callable[[], None],
    ) -> None:
        self._works = works
        self._desks = desks
        self._keeper = keeper
        self._attend = attend
        self._check = check

    # ------------------------------------------------------------------ agents

    async def pause(self, desk: Desk) -> None:
        """Hand out and create nothing."""
        await self._works.owned(
            self._write(desk, _as_it_is, open_=False, until=self._until(desk)), "pause"
        )

    async def drain(self, desk: Desk) -> None:
        """Hand out and create nothing, and keep nothing ready."""
        await self._works.owned(self._recall(desk, _drained, open_=False), "drain")

    async def resume(self, desk: Desk) -> None:
        """Hand out and create again, and refill what is kept ready."""
        await self._works.owned(self._resume(desk), "resume")

    async def recycle(self, desk: Desk) -> None:
        """Hand out nothing that was made so far, but to a conversation that has it."""
        await self._works.owned(self._recall(desk, _recycled, open_=None), "recycle")

    async def _write(
        self, desk: Desk, change: Callable[[Note], Note], *, open_: bool | None, until: float
    ) -> None:
        # What is written must be new to all that was made before the call, so it is read first.
        await self._read(desk, until)
        for_s = until - self._works.loop.time()
        await write_note(self._works, desk, change, open_=open_, for_s=for_s)
        for bell in (*desk.waiting, *self._works.watchers):
            self._works.ring(bell)

    async def _resume(self, desk: Desk) -> None:
        until = self._until(desk)
        await self._write(desk, _resumed, open_=True, until=until)
        counts = await self._read(desk, until)
        self._works.on_change(desk.key, counts, None)

    async def _recall(
        self, desk: Desk, change: Callable[[Note], Note], *, open_: bool | None
    ) -> None:
        # The chore comes first: if this process ends here, another sees the rest of it through.
        works, chore, until = self._works, self._works.next_id(), self._until(desk)
        for_s = until - works.loop.time()
        await works.put(Put(desk.key, chore, chore, "chore", deadline_in_s=LATER_S), for_s=for_s)
        await self._write(desk, change, open_=open_, until=until)
        await works.limits.within(until, self._keeper.recall(desk))

    # ------------------------------------------------------------------ one session

    async def evict(self, rid: str, *, force: bool) -> None:
        """Take a session out of use, whoever has it."""
        await self._works.owned(self._evict(rid, force), "evict")

    async def _evict(self, rid: str, force: bool) -> None:
        works = self._works
        for desk in self._desks.all():
            until = self._until(desk)
            for _ in range(TRIES):
                entry = await self._find(desk, rid, until)
                if entry is None:
                    break
                if entry.state in ("retiring", "gone"):
                    return
                _check_force(entry, force)
                put = evicted(desk.key, self._as_held(desk, entry), works.next_id())
                answer = await works.put(put, for_s=until - works.loop.time())
                if isinstance(answer, Done):
                    lease = _held(desk, entry)
                    if lease is not None:
                        lease.lose("its session was evicted")
                    tell(works, desk, put, entry)
                    return
            else:
                raise StoreUnavailable(f"{rid} changes too fast to be evicted; try again")
        raise ConfigError(
            f"rid: {rid!r} is no session of an agent that this pool knows; it may be gone already"
        )

    async def _find(self, desk: Desk, rid: str, until: float) -> Entry | None:
        find = partial(self._works.store.find, desk.key, rid=rid, limit=1)
        found = await self._works.again(find, until)
        return found[0] if found else None

    def _as_held(self, desk: Desk, entry: Entry) -> Entry:
        """What its holder did with it, if that is this process: it knows it before the store."""
        lease = _held(desk, entry)
        if lease is None:
            return entry
        return entry._replace(facts=lease.known_as().entry.facts)

    # ------------------------------------------------------------------ warmth

    async def ready(self, timeout_s: float | None) -> None:
        """Wait until every listed agent has its `min_idle` sessions ready."""

        async def cold(until: float) -> tuple[Desk, int] | None:
            desk = await self._desks.cold(until)
            return None if desk is None else (desk, desk.terms.min_idle)

        await self._until_warm(cold, self._works.next_id(), timeout_s)

    async def warm(self, desk: Desk, n: int, timeout_s: float | None) -> None:
        """See that an agent has so many sessions ready, once."""

        async def cold(until: float) -> tuple[Desk, int] | None:
            counts = await self._read(desk, until)
            missing = n - counts.of("idle", "ageing")
            if missing > 0:
                self._attend(desk, counts)  # as the target is raised meanwhile
            elif desk.noted.open:
                return None
            return desk, n

        call = self._works.next_id()
        desk.warming[call] = n
        try:
            await self._until_warm(cold, call, timeout_s)
        finally:
            del desk.warming[call]

    async def _until_warm(self, cold: Cold, bell: str, timeout_s: float | None) -> None:
        works = self._works
        began = works.loop.time()
        until = FOREVER if timeout_s is None else began + timeout_s
        works.watchers.add(bell)
        try:
            while True:
                self._check()
                works.listen(bell)  # it may ring while the answer is on its way
                try:
                    # The last look is had in full: who is short of time has not lost the store.
                    lacking = await cold(max(until, works.loop.time() + TELL_S))
                finally:
                    rung = works.heard(bell)
                if lacking is None:
                    return
                _give_up(*lacking, works, began, until)
                if not rung:
                    await works.wait(bell, until)
        finally:
            works.watchers.discard(bell)

    # ------------------------------------------------------------------ inside

    async def _read(self, desk: Desk, until: float) -> Counts:
        works = self._works
        counts, noted = await works.again(partial(works.store.read, desk.key), until)
        desk.take_note(noted, works.clock())
        return counts

    def _until(self, desk: Desk) -> float:
        patience_s = desk.policy.acquire_timeout_s
        return self._works.loop.time() + (PATIENCE_S if patience_s is None else patience_s)


def _give_up(desk: Desk, wanted: int, works: Works, began: float, until: float) -> None:
    """Raise what keeps an agent from being warm, if it will not pass, or not in time."""
    if not desk.noted.open:
        raise PoolPaused(f"{desk.name} is paused; resume it first")
    version = desk.terms.agent_version
    failure = desk.failing(works.clock(), version)
    if failure is not None:
        raise error_of(failure) from desk.cause(failure, version)
    now = works.loop.time()
    if now >= until:
        raise AcquireTimeout(
            f"{desk.name} has not {wanted} sessions ready after {now - began:.1f} s",
            phase="creation",
            capped_by=None,
            waited_s=now - began,
            stats=desk.stats(),
        ) from desk.last_error


def _check_force(entry: Entry, force: bool) -> None:
    if entry.conversation is not None and entry.state != "leased" and not force:
        raise ConfigError(
            f"force: {entry.rid} is kept for a conversation, which would lose what was said in it; "
            "evict it all the same with force=True"
        )


def _held(desk: Desk, entry: Entry) -> Lease | None:
    """The lease that this process holds of it, if it does."""
    ref = desk.leases.get(entry.id)
    lease: Lease | None = ref() if ref is not None else None
    return lease if lease is not None and lease.fence == entry.fence else None


def _as_it_is(note: Note) -> Note:
    return note


def _resumed(note: Note) -> Note:
    return note._replace(drained=False)


def _drained(note: Note) -> Note:
    return note._replace(drained=True)


def _recycled(note: Note) -> Note:
    return note._replace(recycled=note.recycled + 1)
