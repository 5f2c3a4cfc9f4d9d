"""Handing out: from a caller's wish to a lease, the short way or the long one (B1 to B7).

The short way is for a store in this process that has the session ready: no task switch, nothing
made that nobody asked for. The long way is a `Request`.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import get_running_loop
from bisect import bisect_left
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Protocol, Self, cast
from weakref import ref

from session_pool.asked import AT_ONCE, NOTHING_ASKED, Asked, First
from session_pool.conversation import Key, conversation_key
from session_pool.desk import Desk
from session_pool.door import Door
from session_pool.errors import AlreadyHeld, ConfigError, RemoteUnavailable, SessionGone
from session_pool.events import SessionDeleted
from session_pool.foundry import Urgency
from session_pool.lease import Lease
from session_pool.model import FOREVER, Entry
from session_pool.patience import seconds
from session_pool.policy import AgentPolicy
from session_pool.request import Request
from session_pool.rules import confirm, forgotten, unremembered
from session_pool.space import Grant, NotDone, Put
from session_pool.stores.base import LocalStore
from session_pool.stores.lending import Lender, Standing
from session_pool.telemetry import BOUNDS_S, BRIEF_S
from session_pool.works import Works

new_lease: Final = object.__new__
# A lease is filled in where it is made: calling its `__init__` would cost more than all of that.


class Acquiring:
    """Hands out sessions of all agents of one pool.

    Args:
        works: the pool's means.
        door: the pool's.
    """

    def __init__(self, works: Works, door: Door) -> None:
        works.source, works.door = self, door
        self.works = works
        self.door = door

    def hit(self, lease: Lease, local: LocalStore, asked: Asked, patience_s: float) -> First | None:
        """The short way, for a store in this process: it is held at once, or how far it came."""
        desk = lease.desk
        works, conversation = self.works, asked.conversation
        if conversation is not None:
            self._refuse_own(desk, conversation)
        request, want, noted = works.next_id(), desk.want(asked), desk.noted
        answer = local.take_nowait(want, request, patience_s=patience_s, note_version=noted.version)
        if type(answer) is not Grant or answer.before is not None:
            return First(request, want, answer)
        if conversation is not None or not desk.nothing_noted:
            if confirm(answer, desk.terms, noted.note) != "ready":
                return First(request, want, answer)
            if conversation is not None:
                desk.talking[conversation] = asyncio.current_task()
        desk.hits += 1
        desk.asked_at = answer.now
        if cast("Lender", desk.lender).entries.idle < desk.min_idle:
            works.on_change(desk.key, answer.counts, None)
        lease.holds(answer)
        return None

    async def obtain(
        self, lease: Lease, asked: Asked, timeout_s: float | None, first: First | None = None
    ) -> None:
        """Have a live session, held exclusively; see `SessionPool.acquire` for errors.

        Args:
            lease: what is to hold it.
            asked: what the caller asked for.
            timeout_s: seconds for the whole; None waits for ever.
            first: how far the short way came.
        """
        desk, conversation = lease.desk, asked.conversation
        if conversation is not None:
            self._refuse_own(desk, conversation)
        request = Request(self.works, self.door.shut, desk, asked, timeout_s, first)
        grant = await request.run()
        _end_earlier(desk, grant)
        if conversation is not None:
            desk.talking[conversation] = asyncio.current_task()
        lease.holds(grant)
        if self.works.local is None:
            lease.begins(grant, request.asked_at)

    async def of_conversation(
        self, desk: Desk, conversation: str, timeout_s: float | None
    ) -> Lease:
        """A conversation's session, held, for a handle that has no caller's line to tell."""
        self.door.check()  # a handle may have come to another loop, or through a fork
        code = Acquiring.of_conversation.__code__
        patience_s = desk.policy.acquire_timeout_s if timeout_s is None else timeout_s
        lease = Lease(self.works, desk, code, 0)
        await self.obtain(lease, Asked(conversation), patience_s)
        return lease

    async def forget(self, desk: Desk, conversation: str, *, delete_remote: bool) -> None:
        """Drop what a conversation has and had, once its turn in progress is over (B29)."""
        self.door.check()
        self._refuse_own(desk, conversation)
        works = self.works
        asked, timeout_s = Asked(conversation), desk.policy.acquire_timeout_s
        until = FOREVER if timeout_s is None else works.loop.time() + timeout_s
        # What it had comes first: taking what it has would make its peace with that.
        if await self._forget_past(desk, conversation, until, delete_remote):
            request = Request(works, self.door.shut, desk, asked, timeout_s, None)
            with suppress(SessionGone):  # then there is only its memory to forget
                grant = await request.run(own_only=True)
                put = forgotten(desk.key, grant.entry, works.next_id(), delete_remote)
                await works.put(put, for_s=until - works.loop.time())
            await self._forget_past(desk, conversation, until, delete_remote)

    async def _forget_past(
        self, desk: Desk, conversation: str, until: float, delete_remote: bool
    ) -> bool:
        """Forget what a conversation had; whether it has something still."""
        works = self.works
        while True:
            found, changed = await self._found(desk, conversation, until), False
            past = [entry for entry in found if entry.state in ("retiring", "gone")]
            for entry in past:
                if delete_remote and entry.state == "gone" and entry.facts.remote:
                    await self._delete(desk, entry, until)
                put = unremembered(desk.key, entry, works.next_id(), delete_remote)
                answer = await works.put(put, for_s=until - works.loop.time())
                changed |= isinstance(answer, NotDone) and answer.why == "changed"
            if not changed:
                return len(past) < len(found)

    async def _delete(self, desk: Desk, entry: Entry, until: float) -> None:
        # It is off our hands, and may be there still: used ones are left to their expiry.
        works, timeout_s = self.works, desk.policy.create_timeout_s
        try:
            async with asyncio.timeout_at(until):
                await works.paced.call(
                    Urgency.VERIFY, works.api.delete_session, desk.rid, entry.rid,
                    timeout_s=timeout_s,
                )  # fmt: skip
        except SessionGone:
            return
        except TimeoutError as error:
            why = f"{entry.rid} was not deleted in time; forget it again"
            raise RemoteUnavailable(why, sent=False) from error
        works.bus.publish(
            SessionDeleted(agent_rid=desk.rid, session_rid=entry.rid, reason="forgotten")
        )

    async def _found(self, desk: Desk, conversation: str, until: float) -> Sequence[Entry]:
        store = self.works.store
        return await self.works.again(
            lambda: store.find(desk.key, conversation=conversation), until
        )

    async def instead(self, lease: Lease, give_up: Put, timeout_s: float | None) -> None:
        """Give up the session of a lease and take another, its place in line kept (B5, B6)."""
        desk = lease.desk
        asked = Asked(lease.conversation, lease.pinned_version)
        patience_s = desk.policy.acquire_timeout_s if timeout_s is None else timeout_s
        request = Request(self.works, self.door.shut, desk, asked, patience_s, None)
        grant = await request.run(lease.place, give_up)
        self.works.on_change(desk.key, desk.counts, give_up.deadline_in_s)  # it is to be deleted
        _end_earlier(desk, grant)
        if asked.conversation is not None:
            desk.talking[asked.conversation] = asyncio.current_task()
        lease.goes_on(grant, request.asked_at)

    def _refuse_own(self, desk: Desk, conversation: str) -> None:
        holder = desk.talking.get(conversation)
        if holder is not None and holder is asyncio.current_task():
            raise AlreadyHeld(
                "this task holds this conversation's lease already and would wait for itself for "
                "ever; use that lease, or release it first"
            )


class Acquisition(Protocol):
    """An acquire that was asked for: await it for the lease, or enter it as a block."""

    def __await__(self) -> Generator[Any, None, Lease]: ...

    async def __aenter__(self) -> Lease: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class AskedLease(Lease):
    """A lease from the moment when it is asked for: it is held once it is awaited, or entered.

    Made by `Acquires.acquire`, which fills in what is known by then.
    """

    __slots__ = ("_asked", "_timeout_s")

    _asked: Asked | None  # until it is awaited
    _timeout_s: float | None  # for the whole; None waits for ever

    def __await__(self) -> Generator[Any, None, Self]:
        return self.__aenter__().__await__()

    async def __aenter__(self) -> Self:
        asked, desk, works = self._asked, self._desk, self._works
        if asked is None:
            return self._had()
        self._asked = None
        door, lender = works.door, desk.lends
        if door.refusal is not None or get_running_loop() is not door.loop:
            door.check()
        if lender is None or asked is not NOTHING_ASKED:
            await self._go_the_long_way(asked, None)
            return self
        # Who asks for nothing in particular is lent what lies ready, or stands in line with a bell
        # that brings it. What `confirm` says of a free session that nobody suspects is known
        # without asking it.
        request, want = next(works.names), desk.plain
        loan: Any = lender.lend(want, request, desk.note_version, works.make_bell)
        if loan is None:
            await self._go_the_long_way(asked, None)
            return self
        if type(loan) is tuple:
            standing: Standing = loan
            _, place, bell, wanting = standing
            desk.waited += 1
            began = works.stand(bell, self._timeout_s)
            if wanting:
                works.on_change(desk.key, lender.counts, None)
            try:
                loan = await bell
            except BaseException:  # it waits no more: nobody has seen what it was lent (B23)
                lender.leave(standing)
                works.on_change(desk.key, lender.counts, None)
                raise
            # A bell that is rung for news brings None, and one whose time is up False.
            if not loan or loan.lease != request or desk.lends is None or door.refusal is not None:
                await self._go_the_long_way(asked, First(request, want, None, place, began))
                return self
            waits, waited_s = desk.waits, works.time() - began
            waits.counts[0 if waited_s <= BRIEF_S else bisect_left(BOUNDS_S, waited_s)] += 1
            waits.sum_s += waited_s
        else:
            desk.hits += 1
            if lender.entries.idle < desk.min_idle:
                works.on_change(desk.key, lender.counts, None)
        self._loan, self._fence, self._request = loan, loan.fence, request
        self._since = desk.asked_at = loan.since
        self._over = False
        desk.leases[loan.id] = ref(self)
        return self

    def _had(self) -> Self:
        if self._loan is None and self._copy is None:
            raise ConfigError("an acquire is awaited once; ask pool.acquire(...) again")
        return self  # a lease that is had already

    async def _go_the_long_way(self, asked: Asked, first: First | None) -> None:
        acquiring, timeout_s = cast("Acquiring", self._works.source), self._timeout_s
        if first is None and (local := self._works.local) is not None:
            first = acquiring.hit(self, local, asked, FOREVER if timeout_s != 0 else 0.0)
            if first is None:
                return
        await acquiring.obtain(self, asked, timeout_s, first)


class Acquires:
    """What a `SessionPool` is there for."""

    _works: Works
    _named: Mapping[str, Desk]
    _desk: Callable[[str], Desk]
    _warn_of_memory: Callable[[], None]

    def acquire(
        self,
        agent: str,
        *,
        conversation: Key | None = None,
        agent_version: str | None = None,
        min_remaining_s: float | None = None,
        timeout: float | None = None,
    ) -> Acquisition:
        """A live session, exclusively: `async with pool.acquire(…) as lease`, or await it.

        Args:
            agent: its name in `agents`, or its RID.
            conversation: the conversation's own name, a string or a tuple of strings; it gets its
                own session for as long as that lives. None is a never-used session.
            agent_version: `major.minor`; None is the policy's.
            min_remaining_s: least remaining life in seconds, where more than the policy's.
            timeout: seconds for the whole; 0 never waits; None is the policy's.

        Raises:
            ConfigError: an argument that cannot be meant.
            AcquireTimeout: nothing in time; it says where the time went and what was in the way.
            TooManyWaiting: the line is full.
            AgentUnavailable, AuthError: a session would have to be created, and cannot be.
            PoolPaused: the agent is paused or drained.
            StoreUnavailable: the store was away until the end of the timeout.
            AlreadyHeld: this task holds that conversation's lease already.
            VersionConflict: the conversation's session has another version.
            PoolClosed: the pool is not open, or belongs to another loop or process.

        Cancelling it loses nothing: a place in line is given up, and a session on its way goes to
        the next or becomes idle (B9, B23).
        """
        desk = self._named.get(agent) or self._desk(agent)
        if timeout is None:
            timeout = desk.timeout_s
        else:
            timeout = seconds(timeout, "timeout", "0 never waits")
        asked = NOTHING_ASKED if timeout or timeout is None else AT_ONCE
        if not (conversation is None and agent_version is None and min_remaining_s is None):
            asked = asking(conversation, agent_version, min_remaining_s)
            if conversation is not None:
                self._warn_of_memory()
        caller = sys._getframe(1)
        lease = new_lease(AskedLease)
        lease._works = self._works
        lease._desk = desk
        lease._asked = asked
        lease._timeout_s = timeout
        lease._code, lease._lasti = caller.f_code, caller.f_lasti
        lease._loan = None
        lease._over = True
        return lease


def _end_earlier(desk: Desk, grant: Grant) -> None:
    """Tell who held the session here before, and has not heard that it was taken away (B21)."""
    earlier = desk.leases.get(grant.entry.id)
    if earlier is not None and (lease := earlier()) is not None:
        lease.lose("its session was taken away, and handed out again")


def asking(
    conversation: Key | None, agent_version: str | None, min_remaining_s: float | None
) -> Asked:
    """What a caller asks for, checked.

    Raises:
        ConfigError: an argument that cannot be meant; it names it.
    """
    if min_remaining_s is not None:
        min_remaining_s = seconds(min_remaining_s, "min_remaining_s")
        if min_remaining_s == float("inf"):
            raise ConfigError("min_remaining_s: no session lives for ever; give seconds")
    if agent_version is not None:
        AgentPolicy(agent_version=agent_version)
    return Asked(conversation_key(conversation), agent_version, min_remaining_s)
