"""Upkeep: what falls due is looked after, in named steps; `step()` by hand, `run()` in the pool.

It claims what is due, asks the rules, and carries out what they say: replacing, verifying, ending
quarantines, retiring and deleting, and keeping the numbers under their caps. Any process may do it,
none must; nothing a caller relies on waits for it (B2).
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import Final, Literal

from session_pool.desk import Desk
from session_pool.errors import RemoteRejected, SessionGone, SessionPoolError
from session_pool.events import Mislabelled, QuarantineEnded, SessionDeleted, SessionRetired
from session_pool.foundry import Urgency
from session_pool.model import Counts, Entry, PoolKey, Sighting, State
from session_pool.notes import found_dead, outlived, tell
from session_pool.recalls import coming_back, recalled
from session_pool.rules import buried, change, dead, deletes, replaced, surplus
from session_pool.space import Done, Put
from session_pool.telemetry import log
from session_pool.verdicts import PAGE, Evidence, alive, upkeep, verdict, verify_by_list
from session_pool.works import Works

BATCH: Final = 200
"""Entries claimed at once."""

CLAIM_S: Final = 60.0
"""How long a claim keeps others off; what failed is tried again after that."""

LOOK_TIMEOUT_S: Final = 30.0
"""For one request of upkeep: nobody waits for it."""

LATER_S: Final = 5.0
"""The first look for what comes back though it is recalled; later ones at half the recall's age."""

LATEST_S: Final = 60.0
"""At most between two such looks."""

UPKEEP: Final = "upkeep"


class Keeper:
    """Looks after what falls due.

    Args:
        works: the pool's means.
        desk_of: the agent of a key.
        attend: told of an agent whose counts may call for a creation.
    """

    def __init__(
        self,
        works: Works,
        desk_of: Callable[[PoolKey], Desk],
        attend: Callable[[Desk, Counts], None],
    ) -> None:
        self._works = works
        self._desk_of = desk_of
        self._attend = attend
        self._trimming: set[Desk] = set()
        self._verifying: set[Desk] = set()

    async def run(self) -> None:
        """Look after what falls due, for ever."""
        while True:
            looking, next_in_s = await self._round()
            if looking is not None:
                works = self._works
                works.wake_at = works.clock() + next_in_s
                await works.wait(UPKEEP, works.loop.time() + next_in_s)

    async def step(self) -> None:
        """Look once after everything that is due now, and see it through."""
        looking: set[asyncio.Task[None]] | None = None
        while looking is None:
            looking, _ = await self._round()
        if looking:
            await asyncio.wait(looking)

    def poke(self, in_s: float) -> None:
        """Something falls due in so many seconds; wake up in time."""
        works = self._works
        if works.clock() + in_s < works.wake_at:
            works.wake_at = 0.0
            works.ring(UPKEEP)

    def trim(self, desk: Desk, counts: Counts) -> None:
        """Retire what is replaced or above its cap, if anything is."""
        if desk not in self._trimming and self._excess(desk, counts):
            self._trimming.add(desk)
            self._works.spawn(self._trim(desk), "trim")

    async def recall(self, desk: Desk) -> None:
        """Retire what lies ready, as far as the note says that it is not to be handed out (B25)."""
        works, note = self._works, desk.noted.note
        if not desk.wary:
            return
        counts, _ = await works.store.read(desk.key)
        limit = counts.of("ageing", "idle")
        for entry in await works.store.find(desk.key, states=("ageing", "idle"), limit=limit):
            why = recalled(entry.facts, note)
            if why is not None:
                facts = entry.facts._replace(reason=why)
                put = change(
                    desk.key, entry, works.next_id(), "retiring", facts=facts, deadline_in_s=0.0
                )
                await self._carry_out(desk, entry, put)

    async def clear(self, desk: Desk) -> None:
        """Retire all free sessions: the store ends, and they would be left behind unused (B25)."""
        store = self._works.store
        counts, _ = await store.read(desk.key)
        states: tuple[State, ...] = ("ageing", "idle")
        await self._retire(desk, states, counts.of(*states), "closed")
        # All that is retired, whether it is due or was claimed by a round that the close cut off.
        counts, _ = await store.read(desk.key)
        left = await store.find(desk.key, states=("retiring",), limit=counts.of("retiring"))
        now = (await store.due(self._works.holder, limit=0, for_s=0.0)).now
        await asyncio.gather(*(self._delete(desk, entry, now) for entry in left))

    # ------------------------------------------------------------------ one round

    async def _round(self) -> tuple[set[asyncio.Task[None]] | None, float]:
        """Look after one batch; the looks it started (None: there is more), and when to come."""
        works = self._works
        due = await works.store.due(works.holder, limit=BATCH, for_s=CLAIM_S)
        looking: set[asyncio.Task[None]] = set()
        verify: defaultdict[PoolKey, list[Entry]] = defaultdict(list)
        for key, entry in due.entries:
            desk = self._desk_of(key)
            todo = upkeep(key, entry, due.now, works.next_id(), desk.terms)
            if isinstance(todo, Put):
                await self._carry_out(desk, entry, todo)
            elif todo == "verify":
                verify[key].append(entry)
            elif todo == "fill":
                looking.add(works.spawn(self._tend(desk, entry, due.now), "tend"))
            elif todo == "verdict":
                looking.add(works.spawn(self._judge(desk, entry, due.now), "verdict"))
            else:
                looking.add(works.spawn(self._delete(desk, entry, due.now), "delete"))
        for key, entries in verify.items():
            desk = self._desk_of(key)
            if desk not in self._verifying:  # a list under way looks at all of them (B13)
                self._verifying.add(desk)
                looking.add(works.spawn(self._verify(desk, entries, due.now), "verify"))
        return (None if len(due.entries) == BATCH else looking), due.next_in_s

    async def _carry_out(self, desk: Desk, entry: Entry, put: Put) -> None:
        if isinstance(await self._works.put(put), Done):
            tell(self._works, desk, put, entry)
            if put.state == "gone":
                self._retired(desk, entry, "presumed dead")

    async def _tend(self, desk: Desk, entry: Entry, now: float) -> None:
        """A chore: do what the note says, and come again while something recalled may come back."""
        works, key = self._works, desk.key
        _, noted = await works.store.read(key)
        desk.take_note(noted, works.clock())
        await self.recall(desk)
        put = change(key, entry, works.next_id(), None)
        if desk.wary:
            states: tuple[State, ...] = ("creating", "leased", "quarantined")
            away = await works.store.find(key, states=states, limit=BATCH)
            if any(coming_back(one, noted.note, entry.since) for one in away):
                again_s = min(max(LATER_S, (now - entry.since) / 2), LATEST_S)
                put = change(key, entry, works.next_id(), "chore", deadline_in_s=again_s)
        await works.put(put)

    # ------------------------------------------------------------------ quarantine

    async def _judge(self, desk: Desk, entry: Entry, now: float) -> None:
        evidence = await self._evidence(desk, entry)
        works = self._works
        note = desk.noted.note
        put = verdict(desk.key, entry, now, works.next_id(), evidence, desk.terms, note)
        if not isinstance(await works.put(put), Done):
            return
        if put.state == "quarantined":
            return
        works.bus.publish(
            QuarantineEnded(
                agent_rid=desk.rid, session_rid=entry.rid, outcome=put.state or "retired"
            )
        )
        if evidence.gone:
            await found_dead(works, desk, entry, entry.expires - now)
        if put.facts is not None and put.facts.reason == "mislabelled":
            works.bus.publish(Mislabelled(agent_rid=desk.rid, session_rid=entry.rid))
        tell(works, desk, put, entry)

    async def _evidence(self, desk: Desk, entry: Entry) -> Evidence:
        trace: Literal["complete", "running", "unknown"] | None = None
        try:
            trace = await self._trace(desk, entry)
            if trace == "running":
                return Evidence(trace)
            return Evidence(trace, await self._see(desk, entry, Urgency.CONFIRM))
        except SessionGone:
            return Evidence(gone=True)
        except SessionPoolError as error:
            log.debug("a session in quarantine could not be looked at", exc_info=error)
            return Evidence(trace)

    async def _trace(
        self, desk: Desk, entry: Entry
    ) -> Literal["complete", "running", "unknown"] | None:
        """What the trace of the exchange in flight tells, if there is one and it tells anything."""
        if entry.facts.trace_id is None:
            return None
        try:
            over = await self._works.paced.call(
                Urgency.CONFIRM,
                self._works.api.trace_complete,
                desk.rid,
                entry.rid,
                entry.facts.trace_id,
                timeout_s=LOOK_TIMEOUT_S,
            )
        except RemoteRejected as error:
            return "unknown" if error.error_name == "SessionTraceNotFound" else None
        return "complete" if over else "running"

    async def _see(self, desk: Desk, entry: Entry, urgency: Urgency) -> Sighting:
        return await self._works.paced.call(
            urgency,
            self._works.api.get_session,
            desk.rid,
            entry.rid,
            timeout_s=LOOK_TIMEOUT_S,
        )

    # ------------------------------------------------------------------ verification

    async def _verify(self, desk: Desk, entries: list[Entry], now: float) -> None:
        try:
            await self._verify_all(desk, entries, now)
        finally:
            self._verifying.discard(desk)

    async def _verify_all(self, desk: Desk, entries: list[Entry], now: float) -> None:
        works = self._works
        counts, _ = await works.store.read(desk.key)
        free = counts.of("idle", "ageing")
        sessions = free + counts.of("leased", "parked", "quarantined", "retiring")
        if verify_by_list(free, sessions):
            states: tuple[State, ...] = ("idle",)
            entries = list(await works.store.find(desk.key, states=states, limit=free))
            seen = await self._list(desk, {entry.rid for entry in entries})
        else:
            seen = {}
        for entry in entries:
            try:
                sighting = seen.get(entry.rid) or await self._see(desk, entry, Urgency.VERIFY)
            except SessionGone:
                await found_dead(works, desk, entry, entry.expires - now)
                await works.put(dead(desk.key, entry, works.next_id(), desk.terms))
                self._retired(desk, entry, "gone")
            except SessionPoolError as error:
                log.debug("an idle session could not be verified", exc_info=error)
            else:
                outlived(works, desk, sighting.session.lifetime_s - sighting.remaining_s)
                await works.put(alive(desk.key, entry, works.next_id(), sighting, desk.terms))

    async def _list(self, desk: Desk, wanted: set[str]) -> dict[str, Sighting]:
        found: dict[str, Sighting] = {}
        token: str | None = None
        try:
            while True:
                page = await self._works.paced.call(
                    Urgency.VERIFY,
                    self._works.api.list_sessions,
                    desk.rid,
                    page_size=PAGE,
                    page_token=token,
                    timeout_s=LOOK_TIMEOUT_S,
                )
                for sighting in page.sessions:
                    if sighting.session.rid in wanted:
                        found[sighting.session.rid] = sighting
                token = page.next_page_token
                if token is None or len(found) == len(wanted):
                    return found
        except SessionPoolError as error:
            log.debug("the sessions could not be listed", exc_info=error)
            return found

    # ------------------------------------------------------------------ retiring

    async def _delete(self, desk: Desk, entry: Entry, now: float) -> None:
        works, reason = self._works, entry.facts.reason or "retired"
        if deletes(entry.facts, desk.terms) and entry.rid and entry.expires > now:
            try:
                await works.paced.call(
                    Urgency.VERIFY,
                    works.api.delete_session,
                    desk.rid,
                    entry.rid,
                    timeout_s=LOOK_TIMEOUT_S,
                )
            except SessionGone:
                pass  # that is what was wanted
            except RemoteRejected as error:
                log.warning("a retired session may not be deleted: %s", error)
            except SessionPoolError as error:
                log.debug("a retired session is deleted later", exc_info=error)
                return
            else:
                works.bus.publish(
                    SessionDeleted(agent_rid=desk.rid, session_rid=entry.rid, reason=reason)
                )
        await works.put(buried(desk.key, entry, works.next_id(), desk.terms))

    def _retired(self, desk: Desk, entry: Entry, reason: str) -> None:
        self._works.bus.publish(
            SessionRetired(agent_rid=desk.rid, session_rid=entry.rid, reason=reason)
        )

    # ------------------------------------------------------------------ caps

    def _excess(self, desk: Desk, counts: Counts) -> bool:
        target = desk.target(self._works.clock())
        return (
            replaced(counts, target) > 0
            or (desk.noted.note.drained and counts.of("idle", "ageing") > 0)
            or surplus(counts, desk.terms) > 0
            or counts.of("parked", "gone") > desk.terms.max_parked
        )

    async def _trim(self, desk: Desk) -> None:
        works, terms = self._works, desk.terms
        try:
            await self.recall(desk)
            counts, _ = await works.store.read(desk.key)
            ready = replaced(counts, desk.target(works.clock()))
            await self._retire(desk, ("ageing",), ready, "replaced")
            counts, _ = await works.store.read(desk.key)
            await self._retire(desk, ("ageing", "idle"), surplus(counts, terms), "surplus")
            memories = counts.of("parked", "gone") - terms.max_parked
            if memories > 0:
                oldest = await works.store.find(desk.key, states=("gone",), limit=memories)
                for entry in oldest:
                    await works.put(change(desk.key, entry, works.next_id(), None))
                await self._retire(desk, ("parked",), memories - len(oldest), "max_parked")
        finally:
            self._trimming.discard(desk)

    async def _retire(
        self, desk: Desk, states: tuple[State, ...], how_many: int, reason: str
    ) -> None:
        """Retire so many: of free ones those that expire first, else those unused longest."""
        works = self._works
        if how_many <= 0:
            return
        free = states != ("parked",)
        counts, _ = await works.store.read(desk.key)
        limit = counts.of(*states) if free else how_many
        found = list(await works.store.find(desk.key, states=states, limit=limit))
        if free:
            found.sort(key=lambda entry: entry.expires)
        for entry in found[:how_many]:
            facts = entry.facts._replace(reason=reason)
            put = change(
                desk.key, entry, works.next_id(), "retiring", facts=facts, deadline_in_s=0.0
            )
            if isinstance(await works.put(put), Done):
                tell(works, desk, put, entry)
