"""Lost sessions: made by a creation whose answer never came, looked for in `list` (B12).

One search for what is unsettled of a key. The order is what makes it safe: first the remote's list,
then the creations that were under way all the while, then whether the store knows the session by
now; `lineage` says what belongs together. With `sole_owner` a session that is found is adopted, or
deleted where nobody wants it; without, it is reported, since the same credentials may serve another
pool. Any process may search, at any time: each change of the store is one that only one can make.
"""

from __future__ import annotations

from typing import Final

from session_pool.desk import Desk
from session_pool.errors import RemoteRejected, SessionGone, SessionPoolError
from session_pool.events import CreationSettled, OrphanAdopted, OrphanFound, SessionDeleted
from session_pool.foundry import Urgency
from session_pool.lineage import Listed, adopted, alike, begins, closes, listed, matches, wanted
from session_pool.model import Entry, Sought, State
from session_pool.recalls import outdated
from session_pool.rules import change
from session_pool.space import Done, Put
from session_pool.telemetry import log
from session_pool.verifying import LOOK_TIMEOUT_S, Walk, not_listed
from session_pool.works import Works

CREATING: Final[tuple[State, ...]] = ("creating",)
LOST: Final[tuple[State, ...]] = ("unsettled",)
IDLE: Final[tuple[State, ...]] = ("idle", "ageing")

AGAIN_S: Final = 30.0
"""Until a creation is looked for again that one under way may have been confused with."""

UNDER_WAY: Final = 1000
"""Creations that are read at most; more than any budget lets through at once."""


class Orphans:
    """Looks for the sessions of unsettled creations.

    Args:
        works: the pool's means.
        sole_owner: nobody else creates sessions with these credentials.
    """

    def __init__(self, works: Works, *, sole_owner: bool) -> None:
        self._works = works
        self._sole_owner = sole_owner

    async def search(self, desk: Desk, lost: list[Entry], ahead_s: float) -> None:
        """Find out what became of creations whose answers were lost.

        What fails is tried again when the claim on it ends. Cancelling it loses nothing.

        Args:
            desk: the agent's.
            lost: its unsettled creations that are due, claimed by this process.
            ahead_s: the store's clock less this pool's.
        """
        works, listed_at = self._works, self._works.clock() + ahead_s
        fresh = await self._fresh(desk)
        try:
            found = await self._found(desk, lost, ahead_s, fresh)
        except RemoteRejected as error:
            log.warning("lost sessions cannot be looked for: %s", error)
            for entry in lost:
                await self._settle(desk, entry, "cannot be looked for")
            return
        except SessionPoolError as error:
            not_listed(desk, error, "lost sessions are looked for later")
            return
        store = works.store
        under_way = await store.find(desk.key, states=CREATING, limit=UNDER_WAY)
        unknown = [
            one for one in found if not await store.find(desk.key, rid=one.session.rid, limit=1)
        ]
        pairs, again = matches(lost, unknown, under_way, fresh)
        paired = {entry.id for entry, _ in pairs}
        for entry in (entry for entry in lost if entry.id not in paired):
            left_s = closes(entry) - listed_at  # what was made since then the list does not show
            if entry.id in again:
                await self._later(desk, entry, AGAIN_S)
            elif left_s > 0:
                await self._later(desk, entry, left_s)
            else:
                await self._settle(desk, entry, "nothing found")
        for entry, one in pairs:
            await self._belongs(desk, entry, one, ahead_s)

    async def _later(self, desk: Desk, entry: Entry, in_s: float) -> None:
        op = self._works.next_id()
        put = change(desk.key, entry, op, "unsettled", facts=entry.facts, deadline_in_s=in_s)
        await self._works.put(put)

    # ------------------------------------------------------------------ looking

    async def _fresh(self, desk: Desk) -> int | None:
        """Messages of a session as it is created: this process may not have seen one yet."""
        if desk.fresh_messages is None:
            for entry in await self._works.store.find(desk.key, states=IDLE, limit=10):
                if entry.facts.session is not None and entry.facts.exchanges == 0:
                    desk.fresh_messages = entry.facts.session.message_count
        return desk.fresh_messages

    async def _found(
        self, desk: Desk, lost: list[Entry], ahead_s: float, fresh: int | None
    ) -> list[Listed]:
        """The sessions that look like those, as the remote lists them: the newest come first."""
        works, since = self._works, min(map(begins, lost))
        found: list[Listed] = []
        walk = Walk(works, desk, Urgency.ORPHAN)
        while (read := await walk.next()) is not None:
            page, sent_at, read_at = read
            date = page.date
            if date is None:
                log.warning("lost sessions cannot be told from others: answers carry no Date")
                return found
            shown = [
                listed(seen, date, sent_at + ahead_s, read_at + ahead_s) for seen in page.sessions
            ]
            found += [one for one in shown if any(alike(entry, one, fresh) for entry in lost)]
            if shown and shown[-1].touched < since:
                return found
        return found

    # ------------------------------------------------------------------ what is found

    async def _belongs(self, desk: Desk, entry: Entry, one: Listed, ahead_s: float) -> None:
        works, rid = self._works, one.session.rid
        if not self._sole_owner:
            await self._report(desk, entry, rid)
            return
        # First it is on record which session it is, by compare-and-set: as many are taken as there
        # are creations unsettled, whoever else searches and wherever this process dies.
        sought = (entry.facts.sought or Sought())._replace(rid=rid)
        mark = change(
            desk.key, entry, works.next_id(), "unsettled",
            facts=entry.facts._replace(sought=sought), deadline_in_s=AGAIN_S,
        )  # fmt: skip
        answer = await works.put(mark)
        if not isinstance(answer, Done) or answer.entry is None:
            return
        entry = answer.entry
        if await self._taken(desk, entry, rid):
            unmarked = entry.facts._replace(sought=sought._replace(rid=None))
            await self._later(desk, entry._replace(facts=unmarked), AGAIN_S)
            return
        left_s = one.remaining_s - (works.clock() + ahead_s - one.read_at)
        target = desk.target(works.clock())
        of_use = desk.stranger or wanted(answer.counts, target)
        of_use = of_use and desk.noted.open and not outdated(entry.facts, desk.noted.note)
        if of_use and left_s > desk.terms.min_remaining_s:
            one = one._replace(remaining_s=left_s)
            op, chance = works.next_id(), works.spacing()
            put: Put = adopted(desk.key, entry, one, op, desk.terms, chance)
            if isinstance(await works.put(put), Done):
                works.bus.publish(OrphanAdopted(agent_rid=desk.rid, session_rid=rid))
            await self._settle(desk, entry, "adopted")
        elif desk.terms.delete_retired == "none":
            await self._report(desk, entry, rid)
        else:
            await self._delete(desk, entry, rid)

    async def _taken(self, desk: Desk, entry: Entry, rid: str) -> bool:
        """Whether another search takes it for what another lost creation made (B12).

        Each says so on record before it looks, so of two at least one hears of the other; and who
        has adopted it has it on record before his mark goes. Hence in this order.
        """
        store = self._works.store
        marked = await store.find(desk.key, states=LOST, limit=UNDER_WAY)
        others = (one.facts.sought for one in marked if one.id != entry.id)
        if any(sought is not None and sought.rid == rid for sought in others):
            return True
        return bool(await store.find(desk.key, rid=rid, limit=1))

    async def _delete(self, desk: Desk, entry: Entry, rid: str) -> None:
        works = self._works
        try:
            await works.paced.call(
                Urgency.ORPHAN, works.api.delete_session, desk.rid, rid, timeout_s=LOOK_TIMEOUT_S
            )
        except SessionGone:
            pass  # that is what was wanted
        except RemoteRejected as error:
            log.warning("a lost session may not be deleted: %s", error)
            await self._report(desk, entry, rid)
            return
        except SessionPoolError as error:
            log.debug("a lost session is deleted later", exc_info=error)
            return
        else:
            works.bus.publish(SessionDeleted(agent_rid=desk.rid, session_rid=rid, reason="orphan"))
        await self._settle(desk, entry, "deleted")

    async def _report(self, desk: Desk, entry: Entry, rid: str) -> None:
        if await self._settle(desk, entry, "reported"):
            self._works.bus.publish(OrphanFound(agent_rid=desk.rid, session_rid=rid))

    async def _settle(self, desk: Desk, entry: Entry, outcome: str) -> bool:
        works = self._works
        put = change(desk.key, entry, works.next_id(), None)
        settled = isinstance(await works.put(put), Done)
        if settled:
            works.bus.publish(CreationSettled(agent_rid=desk.rid, outcome=outcome))
        return settled
