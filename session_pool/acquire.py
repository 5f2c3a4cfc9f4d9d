"""Handing out: from a caller's wish to a lease, the short way or the long one (B1 to B7).

The short way is for a store in this process that has the session ready: no task switch, nothing
made that nobody asked for. The long way is a `Request`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextlib import suppress
from types import CodeType, TracebackType
from typing import Any, cast

from session_pool.conversation import Key, conversation_key
from session_pool.desk import NOTHING_ASKED, Asked, Desk
from session_pool.errors import AlreadyHeld, ConfigError, PoolClosed, SessionGone
from session_pool.lease import Lease
from session_pool.model import FOREVER, Entry
from session_pool.policy import AgentPolicy
from session_pool.request import First, Request
from session_pool.rules import confirm, forgotten, unremembered
from session_pool.space import Grant, Put
from session_pool.stores.base import LocalStore
from session_pool.works import Works


class Acquiring:
    """Hands out sessions of all agents of one pool.

    Args:
        works: the pool's means.
        check: raises if the pool may not be used here and now.
        refusal: why nothing is handed out any more, or None.
    """

    def __init__(
        self,
        works: Works,
        check: Callable[[], None],
        refusal: Callable[[], PoolClosed | None],
    ) -> None:
        self.local = works.local
        works.source = self
        self.check = check
        self._works = works
        self._refusal = refusal

    def hit(
        self,
        local: LocalStore,
        desk: Desk,
        asked: Asked,
        patience_s: float,
        code: CodeType,
        lasti: int,
    ) -> Lease | First:
        """The short way, for a store in this process: a lease at once, or how far it came."""
        works, conversation = self._works, asked.conversation
        if conversation is not None:
            self._refuse_own(desk, conversation)
        request = works.next_id()
        want = desk.plain if asked is NOTHING_ASKED else desk.want(asked)
        noted = desk.noted
        answer = local.take_nowait(want, request, patience_s=patience_s, note_version=noted.version)
        if type(answer) is not Grant or answer.before is not None:
            return First(request, want, answer)
        # What `confirm` says of a free session that nobody suspects, without asking it.
        if conversation is not None or desk.wary:
            if confirm(answer, desk.terms, noted.note) != "ready":
                return First(request, want, answer)
            if conversation is not None:
                desk.talking[conversation] = asyncio.current_task()
        desk.hits += 1
        desk.asked_at = answer.now
        if answer.counts.states["idle"] < desk.terms.min_idle:
            works.on_change(desk.key, answer.counts, None)
        return Lease(works, desk, answer, code, lasti)

    async def lease(
        self,
        desk: Desk,
        asked: Asked,
        timeout_s: float | None,
        code: CodeType,
        lasti: int,
        first: First | None = None,
    ) -> Lease:
        """A live session, held exclusively; see `SessionPool.acquire` for errors.

        Args:
            desk: the agent's.
            asked: what the caller asked for.
            timeout_s: seconds for the whole; None waits for ever.
            code, lasti: where it was asked for.
            first: how far the short way came.
        """
        conversation = asked.conversation
        if conversation is not None:
            self._refuse_own(desk, conversation)
        request = Request(self._works, self._refusal, desk, asked, timeout_s, first)
        grant = await request.run()
        _end_earlier(desk, grant)
        if conversation is not None:
            desk.talking[conversation] = asyncio.current_task()
        lease = Lease(self._works, desk, grant, code, lasti)
        if self.local is None:
            lease.begins(grant, request.asked_at)
        return lease

    async def of_conversation(
        self, desk: Desk, conversation: str, timeout_s: float | None
    ) -> Lease:
        """A conversation's session, held, for a handle that has no caller's line to tell."""
        self.check()  # a handle may have come to another loop, or through a fork
        code = Acquiring.of_conversation.__code__
        patience_s = desk.policy.acquire_timeout_s if timeout_s is None else timeout_s
        return await self.lease(desk, Asked(conversation), patience_s, code, 0)

    async def forget(self, desk: Desk, conversation: str, *, delete_remote: bool) -> None:
        """Drop what a conversation has and had, once its turn in progress is over (B29)."""
        self.check()
        self._refuse_own(desk, conversation)
        works = self._works
        asked, timeout_s = Asked(conversation), desk.policy.acquire_timeout_s
        until = FOREVER if timeout_s is None else works.loop.time() + timeout_s
        found = await self._found(desk, conversation, until)
        if any(entry.state not in ("retiring", "gone") for entry in found):
            request = Request(works, self._refusal, desk, asked, timeout_s, None)
            with suppress(SessionGone):  # then there is only its memory to forget
                grant = await request.run(own_only=True)
                put = forgotten(desk.key, grant.entry, works.next_id(), delete_remote)
                await works.put(put, for_s=until - works.loop.time())
        for entry in await self._found(desk, conversation, until):
            put = unremembered(desk.key, entry, works.next_id())
            await works.put(put, for_s=until - works.loop.time())

    async def _found(self, desk: Desk, conversation: str, until: float) -> Sequence[Entry]:
        store = self._works.store
        return await self._works.again(
            lambda: store.find(desk.key, conversation=conversation), until
        )

    async def instead(self, lease: Lease, give_up: Put) -> None:
        """Give up the session of a lease and take another, its place in line kept (B5, B6)."""
        desk = lease.desk
        asked = Asked(lease.conversation, lease.pinned_version)
        timeout_s = desk.policy.acquire_timeout_s
        request = Request(self._works, self._refusal, desk, asked, timeout_s, None)
        grant = await request.run(lease.place, give_up)
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


class Acquisition:
    """An acquire that was asked for: await it for the lease, or enter it as a block."""

    _first: First | None = None

    def __init__(
        self,
        acquiring: Acquiring,
        desk: Desk,
        asked: Asked,
        timeout_s: float | None,
        code: CodeType,
        lasti: int,
    ) -> None:
        self._acquiring = acquiring
        self._desk = desk
        self._asked = asked
        self._timeout_s = timeout_s
        self._code = code
        self._lasti = lasti

    def __await__(self) -> Generator[Any, None, Lease]:
        return self._begin().__await__()

    async def __aenter__(self) -> Lease:
        self._lease = lease = self._hit() or await self._acquire()
        return lease

    def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> Coroutine[Any, Any, None]:
        return self._lease.__aexit__(kind, error, trace)

    def _hit(self) -> Lease | None:
        acquiring = self._acquiring
        acquiring.check()
        local = acquiring.local
        if local is None:
            return None
        patience_s = FOREVER if self._timeout_s != 0 else 0.0
        answer = acquiring.hit(local, self._desk, self._asked, patience_s, self._code, self._lasti)
        if type(answer) is Lease:
            return answer
        self._first = cast("First", answer)
        return None

    async def _begin(self) -> Lease:
        return self._hit() or await self._acquire()

    async def _acquire(self) -> Lease:
        return await self._acquiring.lease(
            self._desk, self._asked, self._timeout_s, self._code, self._lasti, self._first
        )


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
    if min_remaining_s is not None and not 0 <= min_remaining_s < float("inf"):
        raise ConfigError("min_remaining_s must be a number of seconds, 0 or more")
    if agent_version is not None:
        AgentPolicy(agent_version=agent_version)
    return Asked(conversation_key(conversation), agent_version, min_remaining_s)
