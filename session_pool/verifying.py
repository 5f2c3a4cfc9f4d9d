"""Seen alive: idle sessions not looked at for long are, in as few requests as can be (B13).

One look at an agent at a time: where many are due, a few pages of `list` show all of them.
"""

from __future__ import annotations

from typing import Final

from session_pool.desk import Desk
from session_pool.errors import SessionGone, SessionPoolError
from session_pool.events import SessionRetired
from session_pool.foundry import Urgency
from session_pool.model import Entry, Sighting, State
from session_pool.notes import found_dead, outlived
from session_pool.rules import dead
from session_pool.telemetry import log
from session_pool.verdicts import PAGE, alive, verify_by_list
from session_pool.works import Works

LOOK_TIMEOUT_S: Final = 10.0
"""For one request of upkeep; a remote that takes longer is asked again with the next claim."""


async def see(works: Works, desk: Desk, entry: Entry, urgency: Urgency) -> Sighting:
    """Look at one session.

    Raises:
        RemoteError: it cannot be seen; `SessionGone` alone means that it is not there.
    """
    return await works.paced.call(
        urgency, works.api.get_session, desk.rid, entry.rid, timeout_s=LOOK_TIMEOUT_S
    )


class Verifier:
    """Verifies idle sessions.

    Args:
        works: the pool's means.
    """

    def __init__(self, works: Works) -> None:
        self._works = works
        self._at: set[Desk] = set()

    async def look(self, desk: Desk, entries: list[Entry], now: float) -> None:
        """Look at what is due of an agent, unless that is under way; it sees all of them (B13).

        Args:
            desk: the agent's.
            entries: idle ones, claimed by this process.
            now: the store's clock at the claim.
        """
        if desk in self._at:
            return
        self._at.add(desk)
        try:
            await self._look(desk, entries, now)
        finally:
            self._at.discard(desk)

    async def _look(self, desk: Desk, entries: list[Entry], now: float) -> None:
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
                sighting = seen.get(entry.rid) or await see(works, desk, entry, Urgency.VERIFY)
            except SessionGone:
                await found_dead(works, desk, entry, entry.expires - now)
                await works.put(dead(desk.key, entry, works.next_id(), desk.terms))
                works.bus.publish(
                    SessionRetired(agent_rid=desk.rid, session_rid=entry.rid, reason="gone")
                )
            except SessionPoolError as error:
                log.debug("an idle session could not be verified", exc_info=error)
            else:
                outlived(works, desk, sighting)
                put = alive(desk.key, entry, now, works.next_id(), sighting, desk.terms)
                await works.put(put)

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
