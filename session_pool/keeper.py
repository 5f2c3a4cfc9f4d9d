"""Upkeep: what falls due is looked after, in named steps; `step()` by hand, `run()` in the pool.

It claims what is due, asks the rules, and carries out what they say: replacing, verifying, ending
quarantines, retiring and deleting, and keeping the numbers under their caps. Any process may do it,
none must; nothing a caller relies on waits for it (B2).
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Coroutine
from typing import Any, Final, Literal

from session_pool.desk import Desk
from session_pool.errors import RemoteRejected, SessionGone, SessionPoolError
from session_pool.events import Mislabelled, QuarantineEnded, SessionDeleted, SessionRetired
from session_pool.foundry import Urgency
from session_pool.lineage import KEPT_S, recalled
from session_pool.model import FOREVER, Counts, Entry, PoolKey, State
from session_pool.notes import found_dead, tell
from session_pool.orphans import Orphans
from session_pool.rules import buried, change, deletes, replaced, surplus
from session_pool.space import Done, Due, Put
from session_pool.telemetry import log
from session_pool.verdicts import SOON_S, Evidence, upkeep, verdict
from session_pool.verifying import LOOK_TIMEOUT_S, Verifier, see
from session_pool.works import Works

BATCH: Final = 200
"""Entries claimed at once."""

CLAIM_S: Final = 15.0
"""How long a claim keeps others off; what failed is tried again after that. If its process dies,
who waits for the session waits this long, far less than a usual `acquire_timeout_s`. A look that
takes longer may be made twice: changes are by version, so that costs a request and does no harm.
"""

NAP_S: Final = 60.0
"""Upkeep never sleeps longer: a machine that slept has a clock ahead of its timers (B20)."""

UPKEEP: Final = "upkeep"


class Keeper:
    """Looks after what falls due.

    Args:
        works: the pool's means.
        desk_of: the agent of a key; None for a key that this pool cannot act for.
        desks: the agents that this process serves.
        orphans: who looks for lost sessions.
    """

    def __init__(
        self,
        works: Works,
        desk_of: Callable[[PoolKey], Desk | None],
        desks: Callable[[], list[Desk]],
        orphans: Orphans,
    ) -> None:
        self._works = works
        self._desk_of = desk_of
        self._desks = desks
        self._orphans = orphans
        self._trimming: set[Desk] = set()
        self._verifier = Verifier(works)
        self._claimed: dict[str, tuple[Desk, Entry]] = {}
        self._looks: set[asyncio.Task[None]] = set()
        self._glanced_at = works.loop.time()
        self._sooner = FOREVER  # what falls due that the round under way may not have seen

    async def run(self) -> None:
        """Look after what falls due, for ever."""
        while True:
            self._sooner = FOREVER
            looking, next_in_s = await self._round()
            await self._glance()
            if looking is not None:
                works, now = self._works, self._works.clock()
                nap_s = max(SOON_S, min(next_in_s, self._sooner - now, NAP_S))
                works.wake_at = now + nap_s
                await works.wait(UPKEEP, works.loop.time() + nap_s)
                works.wake_at = 0.0

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
        now, wake_at = works.clock(), works.wake_at
        if now + in_s < wake_at or 0.0 < wake_at <= now:  # the clock jumped, the timer did not
            works.wake_at = 0.0
            works.ring(UPKEEP)
        self._sooner = min(self._sooner, now + in_s)

    def trim(self, desk: Desk, counts: Counts) -> None:
        """Retire what is replaced or above its cap, if anything is."""
        if desk not in self._trimming and self._excess(desk, counts):
            self._trimming.add(desk)
            self._works.spawn(self._trim(desk), "trim")

    async def aclose(self) -> None:
        """Leave what this process is at to others: it is due again at once."""
        works = self._works
        await works.cancel({task for task in self._looks if not task.done()})
        if works.local is None:
            await asyncio.gather(*(self._leave(*claim) for claim in self._claimed.values()))
        self._claimed.clear()

    async def _leave(self, desk: Desk, entry: Entry) -> None:
        if entry.state not in ("leased", "gone"):  # those are changed at once, and whole
            op = self._works.next_id()
            await self._works.put(change(desk.key, entry, op, entry.state, deadline_in_s=0.0))

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
        ahead_s = due.now - works.clock()
        verify: defaultdict[Desk, list[Entry]] = defaultdict(list)
        lost: defaultdict[Desk, list[Entry]] = defaultdict(list)
        claimed = self._known(due)
        for desk, entry in claimed:
            todo = upkeep(desk.key, entry, due.now, works.next_id(), desk.terms)
            if todo == "verify":
                verify[desk].append(entry)
            elif todo == "search":
                lost[desk].append(entry)
            elif todo == "verdict":
                looking.add(self._look(self._judge(desk, entry, due.now), todo, entry))
            elif todo == "delete":
                looking.add(self._look(self._delete(desk, entry, due.now), todo, entry))
            else:
                if isinstance(todo, Put):
                    await self._carry_out(desk, entry, todo)
                elif todo == "recall":
                    await self._recall(desk, entry)
                else:
                    await works.put(change(desk.key, entry, works.next_id(), None))
                self._claimed.pop(entry.id, None)
        for desk, entries in verify.items():
            work = self._verifier.look(desk, entries, due.now)
            looking.add(self._look(work, "verify", *entries))
        for desk, entries in lost.items():
            work = self._orphans.search(desk, entries, ahead_s)
            looking.add(self._look(work, "search", *entries))
        return (None if len(due.entries) == BATCH else looking), due.next_in_s

    def _known(self, due: Due) -> list[tuple[Desk, Entry]]:
        """What was claimed that this pool can act for."""
        known: list[tuple[Desk, Entry]] = []
        for key, entry in due.entries:
            desk = self._desk_of(key)
            if desk is None:
                log.debug("what is due of %s is for a pool of its own", key.host)
            else:
                known.append((desk, entry))
        self._claimed.update({entry.id: (desk, entry) for desk, entry in known})
        return known

    def _look(
        self, work: Coroutine[Any, Any, None], name: str, *entries: Entry
    ) -> asyncio.Task[None]:
        """Look at something in a task of the pool; what a close cuts off stays claimed."""
        task = self._works.spawn(work, name)
        self._looks.add(task)

        def over(task: asyncio.Task[None]) -> None:
            self._looks.discard(task)
            if not task.cancelled():
                for entry in entries:
                    self._claimed.pop(entry.id, None)

        task.add_done_callback(over)
        return task

    async def _glance(self) -> None:
        """See how the warm agents stand, as others left them; they may have died of it (B28)."""
        works = self._works
        if works.local is not None or works.loop.time() < self._glanced_at + NAP_S:
            return
        self._glanced_at = works.loop.time()
        for desk in self._desks():
            if desk.target(works.clock()):
                counts, noted = await works.store.read(desk.key)
                desk.take_note(noted, works.clock())
                works.on_change(desk.key, counts, None)

    async def _carry_out(self, desk: Desk, entry: Entry, put: Put) -> None:
        if isinstance(await self._works.put(put), Done):
            tell(self._works, desk, put, entry)
            if put.state == "gone":
                self._retired(desk, entry, "presumed dead")

    async def _recall(self, desk: Desk, entry: Entry) -> None:
        """Forget the RID of what was ours, unless a lost session is still looked for (B12)."""
        works = self._works
        counts, _ = await works.store.read(desk.key)
        state: State | None = "chore" if counts.of("unsettled") else None
        put = change(desk.key, entry, works.next_id(), state, deadline_in_s=KEPT_S)
        await works.put(put)

    # ------------------------------------------------------------------ quarantine

    async def _judge(self, desk: Desk, entry: Entry, now: float) -> None:
        evidence = await self._evidence(desk, entry)
        works = self._works
        put = verdict(desk.key, entry, now, works.next_id(), evidence, desk.terms)
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
            return Evidence(trace, await see(self._works, desk, entry, Urgency.CONFIRM))
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

    # ------------------------------------------------------------------ retiring

    async def _delete(self, desk: Desk, entry: Entry, now: float) -> None:
        works, reason = self._works, entry.facts.reason or "retired"
        left = bool(entry.rid) and entry.expires > now
        if left and deletes(entry.facts, desk.terms):
            try:
                await works.paced.call(
                    Urgency.VERIFY,
                    works.api.delete_session,
                    desk.rid,
                    entry.rid,
                    timeout_s=LOOK_TIMEOUT_S,
                )
            except SessionGone:
                left = False  # that is what was wanted
            except RemoteRejected as error:
                log.warning("a retired session may not be deleted: %s", error)
            except SessionPoolError as error:
                log.debug("a retired session is deleted later", exc_info=error)
                return
            else:
                left = False
                works.bus.publish(
                    SessionDeleted(agent_rid=desk.rid, session_rid=entry.rid, reason=reason)
                )
        put = buried(desk.key, entry, works.next_id(), desk.terms)
        if left and put.state is None and not entry.facts.exchanges:
            put = recalled(put, entry, (await works.store.read(desk.key))[0])
        await works.put(put)

    def _retired(self, desk: Desk, entry: Entry, reason: str) -> None:
        self._works.bus.publish(
            SessionRetired(agent_rid=desk.rid, session_rid=entry.rid, reason=reason)
        )

    # ------------------------------------------------------------------ caps

    def _excess(self, desk: Desk, counts: Counts) -> bool:
        target = desk.target(self._works.clock())
        return (
            replaced(counts, target) > 0
            or surplus(counts, desk.terms) > 0
            or counts.of("parked", "gone") > desk.terms.max_parked
        )

    async def _trim(self, desk: Desk) -> None:
        works, terms = self._works, desk.terms
        try:
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
