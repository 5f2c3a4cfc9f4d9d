"""Creations: how many run, who learns of a failure, and that no session is lost (B8 to B12).

Each runs in a task of the pool, so nobody's cancellation touches it. What is wanted is decided by
the rules and, atomically, by the store's guards; this room carries it out and tells the news.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from session_pool.desk import Desk, failure_of
from session_pool.errors import (
    AgentUnavailable,
    AuthError,
    ConfigError,
    PoolClosed,
    RemoteMalformed,
    RemoteThrottled,
    RemoteUnavailable,
    SessionPoolError,
)
from session_pool.events import CreationFailed, CreationUnsettled, SessionCreated
from session_pool.foundry import Turn, Urgency
from session_pool.model import FOREVER, Counts, Sighting
from session_pool.notes import write_note
from session_pool.rules import born, creations, unwanted
from session_pool.space import Done, Failure, NotDone, Put
from session_pool.works import Works


class Creator:
    """Creates sessions as they are needed.

    Args:
        works: the pool's means.
        desks: all agents of the pool, who share one set of credentials.
        changed: told of an agent whose waiters may wish for something else now.
    """

    def __init__(
        self,
        works: Works,
        desks: Callable[[], list[Desk]],
        changed: Callable[[Desk], None],
    ) -> None:
        self._works = works
        self._desks = desks
        self._changed = changed
        self._claiming: set[Desk] = set()
        self._missed: set[Desk] = set()
        self._full: set[Desk] = set()
        self._unsent = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    def attend(self, desk: Desk, counts: Counts) -> None:
        """Start what is missing, given the counts of this moment. Cheap when nothing is."""
        if self._closing or desk in self._full:
            return
        if desk in self._claiming:
            self._missed.add(desk)
            return
        local = self._works.local
        if self._claim(desk, counts) is None:
            if local is not None and 0 < counts.states.get("creating", 0) < counts.new:
                self._full.add(desk)  # until one of its creations ends, there is no room for more
            return
        if local is None:
            self._claiming.add(desk)
            self._keep(self._works.spawn(self._claim_all(desk, counts), "claim"))
            return
        while (put := self._claim(desk, counts)) is not None:
            answer = local.put_nowait(put)
            if not isinstance(answer, Done):
                return
            counts = answer.counts
            self._start(desk, put)

    async def aclose(self, timeout_s: float) -> None:
        """Start nothing more; let creations in flight end, and record those that do not (B12)."""
        self._closing = True
        tasks = set(self._tasks)
        if tasks and timeout_s > 0:
            await asyncio.wait(tasks, timeout=timeout_s)
        await self._works.cancel({task for task in self._tasks if not task.done()})

    # ------------------------------------------------------------------ starting

    def _target(self, desk: Desk) -> int:
        return desk.target(self._works.clock())

    def _most(self, desk: Desk, counts: Counts) -> int:
        if desk.noted.note.failure is not None:  # one probe at a time, and not at once (B10)
            return 0 if desk.failing(self._works.clock()) is not None else 1
        room = self._works.paced.budget.room(Urgency.CREATE) - self._unsent
        return max(1, counts.states.get("creating", 0) + room)

    def _claim(self, desk: Desk, counts: Counts) -> Put | None:
        target = self._target(desk)
        guards = creations(counts, desk.terms, target, self._most(desk, counts))
        if guards is None:
            return None
        entry_id = self._works.next_id()
        return Put(desk.key, entry_id, entry_id, "creating", guards=guards)

    async def _claim_all(self, desk: Desk, counts: Counts) -> None:
        try:
            while True:
                self._missed.discard(desk)
                while (put := self._claim(desk, counts)) is not None:
                    answer = await self._works.again(partial(self._works.store.put, put), FOREVER)
                    counts = answer.counts
                    if not isinstance(answer, Done):
                        continue
                    if self._closing:
                        await self._drop(desk, put.id)
                        return
                    self._start(desk, put)
                if desk not in self._missed:
                    return
                # Somebody asked meanwhile, whose need the last answer may not have known.
                counts = await self._read(desk)
        finally:
            self._claiming.discard(desk)

    async def _read(self, desk: Desk) -> Counts:
        read = partial(self._works.store.read, desk.key)
        return (await self._works.again(read, FOREVER))[0]

    def _start(self, desk: Desk, put: Put) -> None:
        version, epoch = desk.version_to_create(), self._works.store.epoch
        desk.creating[put.id] = version
        self._unsent += 1
        self._keep(self._works.spawn(self._create(desk, put.id, version, epoch), "creation"))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ------------------------------------------------------------------ one creation

    async def _create(self, desk: Desk, entry_id: str, version: str | None, epoch: str) -> None:
        started = self._works.loop.time()
        attempt, sent, in_line = 0, False, True

        async def send() -> Sighting:
            nonlocal sent, in_line
            sent = True
            self._unsent -= in_line
            in_line = False
            return await self._works.api.create_session(
                desk.rid, agent_version=version, timeout_s=desk.policy.create_timeout_s
            )

        try:
            while True:
                try:
                    turn = Turn(_urgency(desk.counts), started)
                    seen = await self._works.paced.call(turn, send)
                    break
                except PoolClosed:
                    await self._drop(desk, entry_id)
                    return
                except (AgentUnavailable, AuthError) as error:
                    sent = False
                    await self._failed(desk, entry_id, error)
                    return
                except ConfigError as error:  # a secret's file that cannot be read any more
                    sent = False
                    await self._failed(desk, entry_id, AuthError(str(error)))
                    return
                except (RemoteThrottled, RemoteUnavailable, RemoteMalformed) as error:
                    sent = False
                    retry_in_s = await self._stumbled(desk, error, attempt)
                    if retry_in_s is None:
                        await self._drop(desk, entry_id)
                        return
                    await asyncio.sleep(retry_in_s)
                    attempt += 1
            sent = False
            await self._born(desk, entry_id, version, seen, started, epoch)
        except asyncio.CancelledError:
            # Only the pool's own end cancels a creation.
            if sent:
                await self._unsettled(desk, "the pool was closed before the answer came")
            await self._drop(desk, entry_id)
            raise
        finally:
            self._unsent -= in_line
            desk.creating.pop(entry_id, None)

    async def _born(
        self,
        desk: Desk,
        entry_id: str,
        version: str | None,
        seen: Sighting,
        started: float,
        epoch: str,
    ) -> None:
        self._full.discard(desk)
        if desk.learn(seen):
            self._changed(desk)
        works, session = self._works, seen.session
        took_s = works.loop.time() - started
        desk.creates.observe(took_s)
        desk.creating.pop(entry_id, None)
        if seen.remaining_s <= 0:  # first the note, or the change below would start the next one
            await self._note_failure(desk, _BORN_EXPIRED)
        put = born(
            desk.key,
            entry_id,
            1,
            works.next_id(),
            seen,
            pinned=version is not None,
            terms=desk.terms,
            chance=works.spacing(),
        )
        await self._record(put, epoch)
        works.bus.publish(
            SessionCreated(
                agent_rid=desk.rid,
                session_rid=session.rid,
                agent_version=session.agent_version,
                took_s=took_s,
            )
        )
        if seen.remaining_s <= 0:
            return
        if desk.noted.note.failure is not None:
            await write_note(works, desk, lambda note: note._replace(failure=None))
        else:
            desk.last_error = None

    async def _record(self, put: Put, epoch: str) -> None:
        """Put a new session on record, in place of the claim that was made in this epoch."""
        works = self._works
        while isinstance(answer := await works.put(put), NotDone) and answer.why == "absent":
            if (now := works.store.epoch) == epoch:
                # It was done, and its answer was lost; whoever got the session has used it, and it
                # is gone by now. Put there again it would be taken for a fresh one (B4).
                return
            # The store has forgotten that it was under way; that is no reason to lose it (B27).
            # Claimed anew, so that this too is done once however often it is asked for.
            epoch = now
            await works.put(Put(put.key, put.id, works.next_id(), "creating"))
            put = put._replace(op=works.next_id())

    async def _failed(self, desk: Desk, entry_id: str, error: AgentUnavailable | AuthError) -> None:
        """A permanent error: all who wait for a creation learn of it, in every process (B10)."""
        desk.last_error = error
        desk.created_failed += 1
        self._publish(desk, error, None)
        failure = failure_of(error)
        concerned = self._desks() if isinstance(error, AuthError) else [desk]
        for other in concerned:
            await self._note_failure(other, failure)
        await self._drop(desk, entry_id)

    async def _stumbled(
        self,
        desk: Desk,
        error: RemoteThrottled | RemoteUnavailable | RemoteMalformed,
        attempt: int,
    ) -> float | None:
        """A passing error: seconds until the next attempt, or None when nobody wants it (B11)."""
        desk.last_error = error
        desk.created_failed += 1
        if isinstance(error, RemoteMalformed) or (
            isinstance(error, RemoteUnavailable) and error.sent
        ):
            await self._unsettled(desk, str(error))
        counts = await self._read(desk)
        if self._closing or unwanted(counts, self._target(desk)):
            self._publish(desk, error, None)
            return None
        hint_s = error.retry_after_s if isinstance(error, RemoteThrottled) else None
        if not error.retryable:  # asked not to: by itself it is tried again late at the earliest
            hint_s = max(hint_s or 0.0, desk.terms.error_ttl_s)
        retry_in_s = self._works.backoff_s(attempt, hint_s or 0.0)
        self._publish(desk, error, retry_in_s)
        return retry_in_s

    async def _unsettled(self, desk: Desk, why: str) -> None:
        """Record that a session may exist that nobody knows the RID of (B12)."""
        entry_id = self._works.next_id()
        await self._works.put(
            Put(desk.key, entry_id, entry_id, "unsettled", deadline_in_s=desk.terms.remember_s)
        )
        self._works.bus.publish(CreationUnsettled(agent_rid=desk.rid, error=why))

    async def _drop(self, desk: Desk, entry_id: str) -> None:
        self._full.discard(desk)
        desk.creating.pop(entry_id, None)
        await self._works.put(Put(desk.key, entry_id, self._works.next_id(), None, version=1))

    async def _note_failure(self, desk: Desk, failure: Failure | None) -> None:
        # The chore makes the warm target try again once newcomers may (one probe).
        await write_note(self._works, desk, lambda note: note._replace(failure=failure))
        chore = self._works.next_id()
        again_s = desk.terms.error_ttl_s
        await self._works.put(Put(desk.key, chore, chore, "chore", deadline_in_s=again_s))

    def _publish(self, desk: Desk, error: SessionPoolError, retry_in_s: float | None) -> None:
        self._works.bus.publish(
            CreationFailed(
                agent_rid=desk.rid,
                error=str(error),
                error_name=getattr(error, "error_name", None),
                retry_in_s=retry_in_s,
            )
        )


def _urgency(counts: Counts) -> Urgency:
    if counts.new:
        return Urgency.CREATE
    return Urgency.REPLACE if counts.of("ageing") else Urgency.WARM


_BORN_EXPIRED = Failure(
    "agent",
    "sessions of this agent are born expired: their estimatedExpiresTime is missing or not after "
    "their updatedTime; check the agent's retention, or report it to the stack's operators",
)
