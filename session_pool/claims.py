"""The claims of creations: kept while their creator lives, and taken over when it does not (B12).

A creation is on record before it is sent. On a store that others share the record has a deadline,
so that it does not count against them for ever if this process dies. While the creation waits its
turn, backs off or is under way its claim is kept ahead, by one task for all of them, and only when
it is about to run out: most creations are over long before. What to create, and when, is the
`creator`'s matter.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import Final, Literal

from session_pool.desk import Desk
from session_pool.errors import RemoteMalformed, StoreUnavailable
from session_pool.model import FOREVER, Counts, Entry, Facts, Sought, State
from session_pool.refusals import for_warmth
from session_pool.rules import change, creations
from session_pool.space import Done, NotDone, Put
from session_pool.works import TELL_S, Works

AHEAD: Final = 1 / 3
"""Of a claim's length, before its end: when it is prolonged, as with leases."""

MARGIN: Final = 0.05
"""Of a claim's length, at its end: the creator sends nothing any more."""


LEAST_S: Final = 0.1
"""Between two rounds, should one not have helped."""

ELSEWHERE_S: Final = 5.0
"""Before it is looked again whether somebody else is still at a probe, whose end the note tells."""

ANSWERS: Final = 10_000
"""RIDs of its latest creations that a process knows by heart: about 2 MB. Whatever repeats an
answer, does it soon."""

CLAIMS: Final = "claims"
"""Rung when a claim is due before the one that was to be the next."""


class Claim:
    """One creation on record.

    Attributes:
        id: of the entry.
        epoch: the store's, when it was made.
        sought: how its session would be recognised.
        batch: how often the agent had been recycled when it was claimed.
        version: of the entry, as far as this process knows.
        asked_at, ends: by the pool's clock; FOREVER where the record ends with the process.
        sending: its request is under way.
        doubtful: an answer was lost, and is on record by itself.
        probe: its id is one that others may use, once it is not there any more (B10).
    """

    __slots__ = (
        "asked_at", "batch", "desk", "doubtful", "ends", "epoch", "id", "lock", "probe", "sending",
        "sought", "version",
    )  # fmt: skip

    def __init__(
        self,
        desk: Desk,
        entry_id: str,
        facts: Facts,
        asked_at: float,
        length_s: float,
        epoch: str,
    ) -> None:
        self.desk = desk
        self.id = entry_id
        self.epoch = epoch
        self.sought = facts.sought or Sought()
        self.batch = facts.batch
        self.version = 1
        self.asked_at = asked_at
        self.ends = asked_at + length_s
        self.sending = self.doubtful = self.probe = False
        self.lock = asyncio.Lock()


class Claims:
    """Keeps the claims of one process.

    Args:
        works: the pool's means.
    """

    def __init__(self, works: Works) -> None:
        self._works = works
        self._held: dict[str, Claim] = {}
        self._answers: dict[str, None] = {}
        self._keeping: asyncio.Task[None] | None = None
        self._wakes_at = 0.0

    def asked(self, desk: Desk, counts: Counts, target: int, most: int) -> Put | None:
        """What claims one more creation of an agent; None where none is needed, or may be tried.

        Args:
            desk: the agent's.
            counts: of its key, at this moment.
            target: idle sessions wanted.
            most: what the budget allows at once.
        """
        guards = creations(counts, desk.terms, target, most)
        choice = None if guards is None else desk.choose(self._works.clock())
        if choice is None:
            return None
        if not choice.waited_for:
            guards = for_warmth(counts, desk.terms, target, most)
        if guards is None:
            return None
        op = self._works.next_id()
        facts = Facts(sought=desk.sought(choice.agent_version), batch=desk.noted.note.recycled)
        length_s = self._length_s(desk)
        return Put(
            desk.key, choice.probe or op, op, "creating", facts=facts, guards=guards,
            deadline_in_s=None if length_s == FOREVER else length_s,
        )  # fmt: skip

    def denied(self, desk: Desk, put: Put, answer: NotDone) -> None:
        """A claim is not granted: a probe of what was refused may be under way elsewhere (B10)."""
        if answer.why != "guard" and put.id != put.op:
            desk.tried_elsewhere(put.id, self._works.clock() + ELSEWHERE_S)

    def begin(self, desk: Desk, put: Put, asked_at: float) -> Claim:
        """The claim is granted.

        Args:
            desk: the agent's.
            put: what was asked.
            asked_at: the pool's clock before that.
        """
        facts = put.facts or Facts()
        claim = Claim(desk, put.id, facts, asked_at, self._length_s(desk), self._works.store.epoch)
        claim.probe = put.id != put.op
        if claim.ends == FOREVER:
            return claim
        self._held[claim.id] = claim
        if self._keeping is None or self._keeping.done():
            self._keeping = self._works.spawn(self._keep(), "claims")
        elif self._due_at(claim) < self._wakes_at:
            self._works.ring(CLAIMS)
        return claim

    async def undo(self, desk: Desk, put: Put, asked_at: float) -> None:
        """Take back a claim of which it is not known whether it was granted; see `begin`."""
        if put.id != put.op and not isinstance(await self._works.put(put), Done):
            return  # the probe under way is another's
        await self.drop(self.begin(desk, put, asked_at))

    async def holds(self, claim: Claim) -> bool:
        """Whether the creation may be sent: nobody has given it up for lost.

        Raises:
            StoreUnavailable: its time is up, and the store cannot be asked.
        """
        if self._works.clock() < claim.ends - MARGIN * self._length_s(claim.desk):
            return True
        return await self._prolong(claim)

    async def check_new(self, claim: Claim, rid: str) -> None:
        """See that a creation is answered with a session of its own (B1).

        This process's answers are compared for nothing. A store that others share is asked as
        well, which costs one look by its index for each creation; two processes that are given the
        same session in that very moment are not told apart.

        Args:
            claim: of the creation.
            rid: of the session in its answer.

        Raises:
            RemoteMalformed: it was another creation's answer before, or is in the store.
        """
        works, known = self._works, rid in self._answers
        self._answers[rid] = None
        if len(self._answers) > ANSWERS:
            del self._answers[next(iter(self._answers))]
        # What was given up for lost may be there rightly: others have found it (`end`).
        if not known and works.local is None and works.clock() < claim.ends:
            look = partial(works.store.find, claim.desk.key, rid=rid, limit=1)
            with suppress(StoreUnavailable):  # it is not lost for that
                known = bool(await works.again(look, works.loop.time() + TELL_S))
        if known:
            raise RemoteMalformed(
                "create_session: rid: the answer names a session that was there before; check for "
                "a proxy that repeats answers, or report it to the stack's operators"
            )

    async def afresh(self, claim: Claim) -> None:
        """What was sent so far is on record elsewhere: this creation begins again from here."""
        claim.doubtful = True
        async with claim.lock:
            with suppress(StoreUnavailable):  # then it is taken to be able to have made more
                await self._put(claim)

    async def end(self, claim: Claim, put: Put) -> Literal["done", "taken", "absent"]:
        """End a claim by a change of its entry, whatever became of that meanwhile.

        Args:
            claim: which; it is kept no longer.
            put: the change; its version is filled in.

        Returns:
            "taken" if it was given up for lost, so that the record is `unsettled`; "absent" if the
            store knows nothing of it. "done" as well if it was done before, its answer was lost,
            and others have gone on with the session: on record again it would be theirs and free
            at once (B1), or used and taken for fresh (B4).
        """
        self._held.pop(claim.id, None)
        if self._anothers(claim):
            return "absent"
        put = put._replace(version=claim.version)
        while True:
            answer = await self._works.put(put)
            if isinstance(answer, Done):
                return "done"
            if answer.why == "absent":
                mine = self._works.clock() < claim.ends and self._works.store.epoch == claim.epoch
                return "done" if mine else "absent"  # nobody else may end a claim before its time
            entry = await self._record(claim)
            if entry is None:
                return "done"
            if entry.state == "unsettled":
                return "taken"
            put = put._replace(op=self._works.next_id(), version=entry.version)

    async def drop(self, claim: Claim) -> None:
        """End a claim that made no session, or none that is not accounted for elsewhere."""
        self._held.pop(claim.id, None)
        if self._anothers(claim):
            return
        put = Put(claim.desk.key, claim.id, self._works.next_id(), None, version=claim.version)
        while not isinstance(answer := await self._works.put(put), Done):
            entry = await self._record(claim) if answer.why == "changed" else None
            if entry is None:
                return
            put = change(claim.desk.key, entry, self._works.next_id(), None)

    # ------------------------------------------------------------------ inside

    def _anothers(self, claim: Claim) -> bool:
        # Once its time is up what has its id may be the next probe; the record is upkeep's.
        return claim.probe and self._works.clock() >= claim.ends

    def _length_s(self, desk: Desk) -> float:
        return FOREVER if self._works.local is not None else desk.policy.lease_ttl_s

    async def _record(self, claim: Claim) -> Entry | None:
        store, key = self._works.store, claim.desk.key
        states: tuple[State, ...] = ("creating", "unsettled")

        async def find() -> Entry | None:
            counts, _ = await store.read(key)
            found = await store.find(key, states=states, limit=counts.of(*states) + 100)
            return next((entry for entry in found if entry.id == claim.id), None)

        return await self._works.again(find, FOREVER)

    async def _keep(self) -> None:
        works = self._works
        while self._held:
            now = works.clock()
            for claim in [claim for claim in self._held.values() if self._due_at(claim) <= now]:
                try:
                    await self._prolong(claim)
                except StoreUnavailable:
                    await works.back(0, FOREVER)
            self._wakes_at = min(map(self._due_at, self._held.values()), default=now)
            nap_s = max(LEAST_S, self._wakes_at - works.clock())
            await works.wait(CLAIMS, works.loop.time() + nap_s, alone=True)

    def _due_at(self, claim: Claim) -> float:
        return claim.ends - AHEAD * self._length_s(claim.desk)

    async def _prolong(self, claim: Claim) -> bool:
        """Keep a claim; False if it was given up for lost, or the store knows nothing of it."""
        async with claim.lock:
            if self._works.clock() < self._due_at(claim):
                return True  # it was done while this one waited
            kept = await self._put(claim)
        if not kept:
            self._held.pop(claim.id, None)
        return kept

    async def _put(self, claim: Claim) -> bool:
        works, length_s, asked_at = self._works, self._length_s(claim.desk), self._works.clock()
        facts: Facts | None = None
        if not claim.sending:  # it has made nothing yet, so what there is by now is another's
            sought = claim.sought._replace(since_s=claim.asked_at - asked_at)
            facts = Facts(sought=sought, batch=claim.batch)
        put = Put(
            claim.desk.key, claim.id, works.next_id(), "creating", version=claim.version,
            facts=facts, deadline_in_s=None if length_s == FOREVER else length_s,
        )  # fmt: skip
        until = works.loop.time() + max(TELL_S, claim.ends - asked_at)
        answer = await works.again(partial(works.store.put, put), until)
        if isinstance(answer, Done):
            claim.version += 1
            claim.ends = asked_at + length_s
        return isinstance(answer, Done)
