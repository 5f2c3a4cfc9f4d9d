"""Creations: how many run, who learns of a failure, and that no session is lost (B8 to B12).

Each runs in a task of the pool, so nobody's cancellation touches it. What is wanted is decided by
the rules and, atomically, by the store's guards; this room carries it out and tells the news.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

from session_pool.claims import Claim, Claims
from session_pool.desk import Desk
from session_pool.errors import (
    AgentUnavailable,
    AuthError,
    ConfigError,
    PoolClosed,
    PoolPaused,
    RemoteMalformed,
    RemoteThrottled,
    RemoteUnavailable,
    SessionPoolError,
    StoreUnavailable,
)
from session_pool.events import (
    CreationFailed,
    CreationUnsettled,
    SessionCreated,
    SessionRetired,
)
from session_pool.foundry import Turn, Urgency
from session_pool.lineage import returned
from session_pool.model import FOREVER, Counts, Facts, Sighting
from session_pool.notes import tell_had, tell_refused, write_note
from session_pool.refusals import BORN_EXPIRED, concerned, failure_of
from session_pool.rules import born, unwanted
from session_pool.space import Done, Put
from session_pool.works import Works

HEARSAY_S: Final = 5.0
"""How long a process goes by what it heard of a pause before it looks whether that is over."""


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
        self._claims = Claims(works)
        self._claiming: set[Desk] = set()
        self._missed: set[Desk] = set()
        self._full: set[Desk] = set()
        self._short: set[Desk] = set()  # those that may lack something, of however many agents
        self._unsent = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = works.loop.create_future()

    def attend(self, desk: Desk, counts: Counts) -> None:
        """Start what is missing, given the counts of this moment. Cheap when nothing is."""
        works, noted = self._works, desk.noted
        self._short.add(desk)
        if self._closing.done() or desk in self._full:
            return
        if not noted.open and (works.local or works.clock() < desk.noted_at + HEARSAY_S):
            return
        if desk in self._claiming:
            self._missed.add(desk)
            return
        local = self._works.local
        if self._claim(desk, counts) is None:
            creating = counts.states.get("creating", 0)
            if local is not None and 0 < creating < counts.new and not noted.note.refused:
                self._full.add(desk)  # until one of its creations ends, there is no room for more
            return
        if local is None:
            self._claiming.add(desk)
            self._keep(self._works.spawn(self._claim_all(desk), "claim"))
            return
        while (put := self._claim(desk, counts)) is not None:
            answer = local.put_nowait(put)
            if not isinstance(answer, Done):
                self._claims.denied(desk, put, answer)
                return
            counts = answer.counts
            self._start(desk, self._claims.begin(desk, put, self._works.clock()))

    def missing(self) -> tuple[int, int]:
        """How many creations there was no room to start (B13): for callers here, for warmth."""
        missing = lacking = 0
        for desk in () if self._closing.done() else tuple(self._short):
            callers, warmth = desk.missing(), desk.lacking(self._target(desk))
            missing, lacking = missing + callers, lacking + warmth
            if not (callers or warmth):
                self._short.discard(desk)
        return missing, lacking

    def look(self) -> None:
        """There is more room than before: start what is missing."""
        for desk in self._desks():
            self.attend(desk, desk.counts)

    async def aclose(self, timeout_s: float) -> None:
        """Start nothing more; let creations in flight end, and record those that do not (B12)."""
        if not self._closing.done():
            self._closing.set_result(None)
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
        budget = self._works.paced.budget
        room = budget.room(Urgency.CREATE) - self._unsent
        if room <= 0:
            budget.lack()
        return max(1, counts.states.get("creating", 0) + room)

    def _claim(self, desk: Desk, counts: Counts) -> Put | None:
        return self._claims.asked(desk, counts, self._target(desk), self._most(desk, counts))

    async def _claim_all(self, desk: Desk) -> None:
        try:
            counts = await self._read(desk)  # whether it is open, and of which batch they will be
            while desk.noted.open:
                self._missed.discard(desk)
                while (put := self._claim(desk, counts)) is not None:
                    asked_at = self._works.clock()
                    try:
                        answer = await self._works.again(
                            partial(self._works.store.put, put), FOREVER
                        )
                    except BaseException:
                        # Whether it is claimed is not known: it may not stay, as nobody starts it.
                        self._works.write(self._claims.undo(desk, put, asked_at), "drop")
                        raise
                    counts = answer.counts
                    if not isinstance(answer, Done):
                        self._claims.denied(desk, put, answer)
                        continue
                    claim = self._claims.begin(desk, put, asked_at)
                    if self._closing.done():
                        await self._drop(claim)
                        return
                    self._start(desk, claim)
                desk.counts = counts
                if desk not in self._missed:
                    return
                # Somebody asked meanwhile, whose need the last answer may not have known.
                counts = await self._read(desk)
        finally:
            self._claiming.discard(desk)

    async def _read(self, desk: Desk) -> Counts:
        counts, noted = await self._works.again(partial(self._works.store.read, desk.key), FOREVER)
        desk.take_note(noted, self._works.clock())
        return counts

    def _start(self, desk: Desk, claim: Claim) -> None:
        desk.creating[claim.id] = claim.sought.agent_version
        self._unsent += 1
        self._keep(self._works.spawn(self._create(desk, claim), "creation"))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ------------------------------------------------------------------ one creation

    async def _create(self, desk: Desk, claim: Claim) -> None:
        works, version = self._works, claim.sought.agent_version
        started = works.loop.time()
        attempt, in_line, batch = 0, True, 0
        sent_at: float | None = None

        async def send() -> Sighting:
            nonlocal sent_at, in_line, batch
            if not await self._claims.holds(claim):
                raise _GivenUpError
            # Since it stood in line, or tried again:
            if not desk.noted.open or desk.barred(works.clock(), version):
                raise PoolPaused(f"{desk.name} is paused, or its version {version} refused")
            sent_at, batch = works.clock(), desk.noted.note.recycled
            claim.sending = True
            if in_line:
                in_line, self._unsent = False, self._unsent - 1
                self.attend(desk, desk.counts)  # its place in line was in the way of others
            try:
                return await works.api.create_session(
                    desk.rid, agent_version=version, timeout_s=desk.policy.create_timeout_s
                )
            except SessionPoolError:
                raise
            except Exception as error:  # of an api of the user's own; it must not keep its place
                raise RemoteMalformed(f"create_session: {type(error).__name__}") from error

        try:
            while True:
                try:
                    turn = Turn(desk.urgency(), started)
                    seen = await works.paced.call(turn, send)
                    await self._claims.check_new(claim, seen.session.rid)
                    if seen.remaining_s > 0:
                        await tell_had(works, desk, version, seen.session.agent_version)
                    break
                except (PoolClosed, PoolPaused, _GivenUpError, StoreUnavailable):
                    sent_at = None
                    return await self._drop(claim)
                except (AgentUnavailable, AuthError) as error:
                    sent_at = None
                    return await self._failed(claim, error)
                except ConfigError as error:  # a secret's file that cannot be read any more
                    sent_at = None
                    return await self._failed(claim, AuthError(str(error)))
                except (RemoteThrottled, RemoteUnavailable, RemoteMalformed) as error:
                    lost_s, sent_at = works.clock() - (sent_at or works.clock()), None
                    claim.sending = False
                    retry_in_s = await self._stumbled(claim, error, attempt, lost_s)
                    if retry_in_s is not None:
                        await asyncio.wait((self._closing,), timeout=retry_in_s)
                    if retry_in_s is None or self._closing.done():
                        await self._drop(claim)
                        return None
                    attempt += 1
            sent_at = None
            await self._born(claim, seen, started, batch)
        except asyncio.CancelledError:
            # Only the pool's own end cancels a creation.
            if sent_at is None:
                await self._drop(claim)
            else:
                await self._abandoned(claim, works.clock() - sent_at)
            raise
        finally:
            self._unsent -= in_line
            desk.creating.pop(claim.id, None)

    async def _born(self, claim: Claim, seen: Sighting, started: float, batch: int) -> None:
        desk, works, session = claim.desk, self._works, seen.session
        pinned = claim.sought.agent_version is not None
        self._full.discard(desk)
        if desk.learn(seen, pinned=pinned):
            self._changed(desk)
        took_s = works.loop.time() - started
        desk.creates.observe(took_s)
        desk.creating.pop(claim.id, None)
        if seen.remaining_s <= 0:  # first the note, or the change below would start the next one
            asked = concerned(BORN_EXPIRED, claim.sought.agent_version, desk.policy.agent_version)
            await tell_refused(works, desk, BORN_EXPIRED, asked)
        put = born(
            desk.key,
            claim.id,
            claim.version,
            works.next_id(),
            seen,
            pinned=pinned,
            terms=desk.terms,
            chance=works.spacing(),
            batch=batch,
            note=desk.noted.note,
        )
        record = await self._claims.end(claim, put)
        if record != "done":
            # The store has forgotten that it was under way, or it was given up for lost; that is
            # no reason to lose it (B12, B27). Somebody may have found it meanwhile.
            doubtful = record == "taken" or works.clock() >= claim.ends
            put = returned(put, works.next_id(), desk.terms, doubtful=doubtful)
            answer = await works.put(put)
            if record == "taken":
                await self._claims.drop(claim)
            if not isinstance(answer, Done):
                return
        works.bus.publish(
            SessionCreated(
                agent_rid=desk.rid,
                session_rid=session.rid,
                agent_version=session.agent_version,
                took_s=took_s,
            )
        )
        if put.state == "retiring":
            why = (put.facts or Facts()).reason or "retired"
            gone = SessionRetired(agent_rid=desk.rid, session_rid=session.rid, reason=why)
            works.bus.publish(gone)
        if seen.remaining_s <= 0:
            return
        if desk.noted.note.failure is not None:
            await write_note(works, desk, lambda note: note._replace(failure=None))
        else:
            desk.last_error = None

    async def _failed(self, claim: Claim, error: AgentUnavailable | AuthError) -> None:
        """A permanent error: all who wait for a creation learn of it, in every process (B10)."""
        desk, asked, failure = claim.desk, claim.sought.agent_version, failure_of(error)
        version = concerned(failure, asked, desk.policy.agent_version)
        desk.met(error, version)
        desk.created_failed += 1
        self._publish(desk, error, None)
        for other in self._desks() if isinstance(error, AuthError) else [desk]:
            await tell_refused(self._works, other, failure, version)
        await self._drop(claim)

    async def _stumbled(
        self,
        claim: Claim,
        error: RemoteThrottled | RemoteUnavailable | RemoteMalformed,
        attempt: int,
        lost_s: float,
    ) -> float | None:
        """A passing error: seconds until the next attempt, or None when nobody wants it (B11)."""
        desk = claim.desk
        desk.met(error)
        desk.created_failed += 1
        if isinstance(error, RemoteMalformed) or (
            isinstance(error, RemoteUnavailable) and error.sent
        ):
            await self._unsettled(claim, str(error), lost_s)
        elif claim.doubtful:
            await self._claims.afresh(claim)
        counts = await self._read(desk)
        if self._closing.done() or not desk.noted.open or unwanted(counts, self._target(desk)):
            self._publish(desk, error, None)
            return None
        hint_s = error.retry_after_s if isinstance(error, RemoteThrottled) else None
        if not error.retryable:  # asked not to: by itself it is tried again late at the earliest
            hint_s = max(hint_s or 0.0, desk.terms.error_ttl_s)
        retry_in_s = self._works.backoff_s(attempt, hint_s or 0.0)
        self._publish(desk, error, retry_in_s)
        return retry_in_s

    async def _unsettled(self, claim: Claim, why: str, lost_s: float) -> None:
        """Record that a session may exist that nobody knows the RID of (B12).

        Args:
            claim: of the creation, which goes on.
            why: its answer was lost.
            lost_s: how long ago it was sent.
        """
        desk, entry_id = claim.desk, self._works.next_id()
        await self._works.put(self._lost(claim, lost_s)._replace(id=entry_id, op=entry_id))
        await self._claims.afresh(claim)
        self._works.bus.publish(CreationUnsettled(agent_rid=desk.rid, error=why))

    async def _abandoned(self, claim: Claim, lost_s: float) -> None:
        """The pool's end cuts a creation off: what became of it others find out (B12)."""
        desk = claim.desk
        self._full.discard(desk)
        desk.creating.pop(claim.id, None)
        if await self._claims.end(claim, self._lost(claim, lost_s)) == "absent":
            await self._works.put(self._lost(claim, lost_s)._replace(version=None))
        why = "the pool was closed before the answer came"
        self._works.bus.publish(CreationUnsettled(agent_rid=desk.rid, error=why))

    def _lost(self, claim: Claim, lost_s: float) -> Put:
        facts = Facts(sought=claim.sought._replace(since_s=lost_s), batch=claim.batch)
        look_s = claim.desk.policy.create_timeout_s + claim.desk.terms.doubt_s
        put = Put(claim.desk.key, claim.id, self._works.next_id(), "unsettled", facts=facts)
        return put._replace(deadline_in_s=look_s)

    async def _drop(self, claim: Claim) -> None:
        self._full.discard(claim.desk)
        claim.desk.creating.pop(claim.id, None)
        await self._claims.drop(claim)

    def _publish(self, desk: Desk, error: SessionPoolError, retry_in_s: float | None) -> None:
        name, told = getattr(error, "error_name", None), str(error)
        failed = CreationFailed(
            agent_rid=desk.rid, error=told, error_name=name, retry_in_s=retry_in_s
        )
        self._works.bus.publish(failed)


class _GivenUpError(Exception):
    """This process was silent for so long that others have given the creation up for lost."""
