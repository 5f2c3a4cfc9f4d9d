"""One acquire on its way: ask the store, wait in line, make sure that the session lives (B1 to B7).

Decisions are the rules', exclusivity and order the store's. This room waits, looks at the remote
where the rules say so, and gives back whatever its caller does not live to see (B23).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from session_pool.asked import Asked, First
from session_pool.bells import ASK_AGAIN_S, TICK_S
from session_pool.confirming import look
from session_pool.desk import Desk
from session_pool.endings import give_back
from session_pool.errors import (
    AcquireTimeout,
    PoolClosed,
    PoolPaused,
    SessionGone,
    StoreUnavailable,
    TooManyWaiting,
    VersionConflict,
)
from session_pool.events import ConversationReplaced
from session_pool.model import FOREVER, Sighting
from session_pool.notes import found_dead, outlived, tell
from session_pool.refusals import error_of
from session_pool.rules import change, confirm, dead, following, refused
from session_pool.space import Done, Grant, NotDone, Put, Refusal, Ticket, Want
from session_pool.timeouts import time_went_into, timed_out
from session_pool.verdicts import unfit_as_seen
from session_pool.works import Works

PATIENCE_S: Final = 3 * ASK_AGAIN_S
"""How long a store keeps a place for a process that does not ask again."""

ONE_LOOK_S: Final = 1.0
"""For the answer to who does not wait at all: asking is no waiting, a silent store would be."""

LAST_LOOK_S: Final = 0.005
"""The least time kept for the last look, which has to be over when the time is up (B7)."""


class Request:
    """One acquire on its way.

    Args:
        works: the pool's means.
        refusal: why nothing is handed out any more, or None.
        desk: the agent's.
        asked: what the caller asked for.
        timeout_s: seconds for the whole; None waits for ever, 0 not at all.
        first: how far the short way came.

    Attributes:
        asked_at: the pool's clock before the request was sent that was granted (B21).
    """

    _ticket: Ticket | None = None
    _rung = _burnt = False
    _took_s = asked_at = 0.0  # the store's last answer: the last look begins that much earlier

    def __init__(
        self,
        works: Works,
        refusal: Callable[[], PoolClosed | None],
        desk: Desk,
        asked: Asked,
        timeout_s: float | None,
        first: First | None,
    ) -> None:
        self._works = works
        self._refusal = refusal
        self._desk = desk
        self._asked = asked
        now, began = works.loop.time(), None if first is None else first.began
        self._began = now if began is None else began
        self._deadline = FOREVER if timeout_s is None else self._began + timeout_s
        late = began is not None and now >= self._deadline - TICK_S
        self._waited, self._last_look = began is not None, late or timeout_s == 0
        self._first = first
        self._id = first.request if first is not None else ""

    async def run(
        self, place: int | None = None, instead: Put | None = None, *, own_only: bool = False
    ) -> Grant:
        """Ask, wait and confirm until there is a session, or a reason why not.

        Args:
            place: the number in line that it had before.
            instead: what becomes of the session that it had before.
            own_only: take what the conversation has, or nothing.
        """
        works, desk, first = self._works, self._desk, self._first
        answer, place = (None, place) if first is None else (first.answer, first.place)
        self._burnt = instead is not None and instead.state != "retiring"
        desk.asking.add(self)
        try:
            desk.asked_at = works.clock()
            want = self._want(own_only) if first is None else first.want
            if first is not None and answer is None:
                want = self._wish_again(want, own_only)
            while True:
                if answer is None:
                    self._check_open()
                    self._id = self._id or works.next_id()
                    answer = await self._take(want, place, instead)
                    instead = None
                if type(answer) is Grant:
                    confirmed = await self._confirmed(answer)
                    if isinstance(confirmed, Put):
                        place, instead, self._id = answer.place, confirmed, ""
                    elif works.local is None and self._lapsed(answer):
                        works.withdraw(desk.key, self._id, for_s=PATIENCE_S)
                        place, self._id = answer.place, ""
                    else:
                        self._check_open()
                        desk.waits.observe(works.loop.time() - self._began)
                        return confirmed
                elif type(answer) is Refusal:
                    self._refused(answer)
                elif type(answer) is Ticket:
                    await self._wait(answer, own_only)
                    want = self._wish_again(want, own_only)
                    place = place if self._id else answer.place
                if not self._id:
                    want = self._want(own_only)
                answer = None
        except BaseException:
            # Nobody has seen its RID: out of the line, or back with what it was granted. What a
            # store that is away is not told ends by itself, the place or the lease.
            lapses_in_s = max(PATIENCE_S, desk.policy.lease_ttl_s)
            if self._id:
                works.withdraw(desk.key, self._id, for_s=lapses_in_s)
            if instead is not None:
                given_back = give_back(works, instead, lapses_in_s)
                if given_back is not None:
                    works.write(given_back, "give up")
            raise
        finally:
            desk.asking.discard(self)

    def give_up(self) -> None:
        """The pool closes: take it back while the store can be told; `run` raises next (B25)."""
        if self._id:
            self._works.withdraw(self._desk.key, self._id, for_s=PATIENCE_S)
        self._works.ring(self._id)
        self._id = ""

    def _want(self, own_only: bool) -> Want:
        want = self._desk.want(self._asked)
        return want._replace(own_only=True) if own_only else want

    def _wish_again(self, want: Want, own_only: bool) -> Want:
        # Where what it may wish for has changed meanwhile, it asks anew, at its place.
        wanted = self._want(own_only)
        if wanted != want:
            self._works.withdraw(self._desk.key, self._id, for_s=PATIENCE_S)
            self._id = ""
        return wanted

    async def _take(
        self, want: Want, place: int | None, instead: Put | None
    ) -> Grant | Ticket | Refusal:
        works, version = self._works, self._desk.noted.version
        if works.local is not None:
            patience_s = 0.0 if self._last_look else FOREVER
            answer = works.local.take_nowait(
                want, self._id, patience_s=patience_s, note_version=version, place=place,
                instead=instead,
            )  # fmt: skip
        else:
            answer = await self._taken(want, place, instead)
        self._check_open()
        self._desk.counts, counts, terms = answer.counts, answer.counts, self._desk.terms
        if counts.of("idle") < terms.min_idle and type(answer) is not Ticket:
            works.on_change(self._desk.key, counts, None)
        return answer

    async def _taken(
        self, want: Want, place: int | None, instead: Put | None
    ) -> Grant | Ticket | Refusal:
        """Ask a store that is awaited, again and again if it is away, until the time is up (B27).

        A lost answer is asked for again under the same id, and so is the same.
        """
        works, request, attempt = self._works, self._id, 0
        clock, time = works.clock, works.loop.time
        while True:
            self._check_open()
            began = time()
            until = began + ONE_LOOK_S if self._deadline <= self._began else self._deadline
            works.listen(request)  # the bell may ring while the answer is still on its way
            self.asked_at = clock()
            try:
                answer = await works.limits.within(
                    until,
                    works.store.take(
                        want,
                        request,
                        patience_s=0.0 if self._last_look else PATIENCE_S,
                        note_version=self._desk.noted.version,
                        place=place,
                        instead=instead,
                    ),
                )
            except StoreUnavailable as error:
                self._check_open()
                self._give_up_if_late(error)
                await works.back(attempt, self._deadline, request)
                self._check_open()
                self._give_up_if_late(error)
                attempt += 1
            else:
                self._took_s = time() - began
                return answer
            finally:
                self._rung = works.heard(request)

    def _give_up_if_late(self, error: StoreUnavailable) -> None:
        works, ticket = self._works, self._ticket
        if works.loop.time() < self._deadline - TICK_S and not self._last_look:
            return
        self._desk.timeouts += 1
        waited_s = works.loop.time() - self._began
        if ticket is not None and not works.away:  # it is slow, and there was nothing before
            raise self._timed_out(ticket) from error
        # What has answered until now may be slow only: its administrator need not be woken yet.
        why = "cannot be reached" if works.away else "did not answer in time"
        raise StoreUnavailable(
            f"no session of {self._desk.name} within {waited_s:.1f} s: the store {why}; try again "
            "later"
        ) from error

    def _left_s(self) -> float:
        # Who does not wait at all gets an answer of the store all the same.
        at_once = self._deadline <= self._began
        return ONE_LOOK_S if at_once else self._deadline - self._works.loop.time()

    def _lapsed(self, grant: Grant) -> bool:
        # Confirming took longer than the lease: it is as if it had never been granted.
        return self._works.clock() - self.asked_at >= grant.entry.lapses - grant.now

    async def _wait(self, ticket: Ticket, own_only: bool) -> None:
        """Stand in line until the bell rings, or the time is up."""
        if own_only and ticket.needs == "new":
            raise SessionGone("the conversation has no session any more")
        works, desk, request = self._works, self._desk, self._id
        self._fail_fast(ticket.needs)
        if not desk.noted.open and desk.noted.version == ticket.note_version:
            raise self._paused()
        desk.waited += not self._waited
        self._waited, self._ticket = True, ticket
        desk.waiting[request] = self._asked.agent_version, ticket.needs
        if ticket.counts.new:
            works.on_change(desk.key, ticket.counts, None)
        if self._rung:
            del desk.waiting[request]
            return
        until = self._deadline
        if works.local is None:
            until -= max(LAST_LOOK_S, 2 * self._took_s)
        bell = works.bell(request, until)
        try:
            in_time = await bell
        finally:
            works.silence(request)
            del desk.waiting[request]
        self._last_look = not in_time and works.loop.time() >= until - TICK_S

    # ------------------------------------------------------------------ refused

    def _refused(self, refusal: Refusal) -> None:
        desk = self._desk
        desk.take_note(refusal.noted, self._works.clock())
        if not refusal.noted.open:  # who stands in line hears of it as of any new note
            raise self._paused()
        match refusal.why:
            case "note" | "closed":
                self._fail_fast(refusal.needs)
            case "full":
                raise TooManyWaiting(
                    f"{refusal.counts.waiting} callers wait for {desk.name} already "
                    f"(max_waiting = {desk.terms.max_waiting}); try again later"
                )
            case "version":
                raise VersionConflict(
                    f"the conversation's session of {desk.name} has another agent_version than "
                    f"{self._asked.agent_version}; ask without one, or start_over() first"
                )
            case "empty" | "withdrawn":
                self._fail_fast(refusal.needs)
                desk.timeouts += 1
                # It was asked for, so it is kept warm from now on.
                self._works.on_change(desk.key, refusal.counts, None)
                raise self._timed_out(refusal)

    def _fail_fast(self, needs: str) -> None:
        desk, note = self._desk, self._desk.noted.note
        if needs == "new" and (note.failure is not None or note.refused):
            version = self._asked.agent_version or desk.terms.agent_version
            if (failure := desk.failing(self._works.clock(), version)) is not None:
                raise error_of(failure) from desk.cause(failure, version)

    def _paused(self) -> PoolPaused:
        return PoolPaused(f"{self._desk.name} is paused; resume it, or try again later")

    def _check_open(self) -> None:
        refusal = self._refusal()
        if refusal is not None:
            raise refusal

    def _timed_out(self, answer: Refusal | Ticket) -> AcquireTimeout:
        works = self._works
        phase, capped_by = time_went_into(answer, self._desk, works.paced.budget)
        return timed_out(self._desk, works.loop.time() - self._began, phase, capped_by)

    # ------------------------------------------------------------------ confirmed

    async def _confirmed(self, grant: Grant) -> Grant | Put:
        """The grant, known to be alive, or what becomes of the session that is not."""
        works, desk = self._works, self._desk
        if grant.note_version != desk.noted.version:  # another process wrote it meanwhile
            read = partial(works.store.read, desk.key)
            _, noted = await works.again(read, works.loop.time() + self._left_s())
            desk.take_note(noted, works.clock())
        match confirm(grant, desk.terms, desk.noted.note, burnt=self._burnt):
            case "ready" if grant.before is None:
                return grant
            case "look":
                seen = await look(works, desk, grant, self._began, self._deadline, self._check_open)
            case "dead":
                return await self._dead(grant)
            case "park_timeout" | "recycled" as why:
                put = refused(desk.key, grant.entry, works.next_id(), why)
                tell(works, desk, put, grant.entry)
                return put
            case _:
                return await self._introduced(grant, None)
        if seen is None:
            return await self._dead(grant)
        unfit = unfit_as_seen(grant.entry.facts, seen, self._asked.min_remaining_s, desk.terms)
        if unfit is not None:
            put = refused(desk.key, grant.entry, works.next_id(), unfit)
            tell(works, desk, put, grant.entry)
            return put
        outlived(works, desk, seen)
        return await self._introduced(grant, seen)

    async def _dead(self, grant: Grant) -> Put:
        works, desk = self._works, self._desk
        await found_dead(works, desk, grant.entry, grant.entry.expires - grant.now)
        put = dead(desk.key, grant.entry, works.next_id(), desk.terms, holder=True)
        if following(grant) is not None or grant.entry.fence == 1:
            # The conversation never had it, perhaps nobody had: what it remembers is another one.
            put = put._replace(state=None)
        tell(works, desk, put, grant.entry)
        return put

    async def _introduced(self, grant: Grant, seen: Sighting | None) -> Grant | Put:
        """Write what became known: the end as seen, and the session that this one follows (B5)."""
        works, desk, before = self._works, self._desk, grant.before
        facts = following(grant)
        if seen is None and facts is None and before is None:
            return grant
        answer = await works.put(
            Put(
                desk.key,
                grant.entry.id,
                works.next_id(),
                "leased",
                fence=grant.entry.fence,
                facts=facts,
                expires_in_s=seen.said_s if seen is not None else None,
            ),
            for_s=self._left_s(),
        )
        if isinstance(answer, NotDone) and answer.why == "changed":
            # Evicted while it was looked at: this changes nothing any more, and takes another.
            return refused(desk.key, grant.entry, works.next_id(), "recycled")
        if before is not None and before.state == "gone":
            forget = change(desk.key, before, works.next_id(), None)
            await works.put(forget, for_s=self._left_s())
        if facts is not None:
            works.bus.publish(
                ConversationReplaced(
                    agent_rid=desk.rid,
                    conversation=works.hidden(grant.entry.conversation or ""),
                    session_rid=grant.entry.rid,
                    replaces=facts.replaces or "",
                    generation=facts.generation,
                    reason=facts.replace_reason,
                    lost=not facts.accepted,
                )
            )
        entry = answer.entry if isinstance(answer, Done) else None
        return grant if entry is None else grant._replace(entry=entry)
