"""Seen alive: idle sessions not looked at for long are, in as few requests as can be (B13).

One look at an agent at a time: where many are due, a few pages of `list` show all of them.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from session_pool.desk import Desk
from session_pool.errors import RemoteMalformed, SessionGone, SessionPoolError
from session_pool.events import SessionRetired
from session_pool.foundry import SessionPage, Urgency
from session_pool.model import Entry, Sighting, State
from session_pool.notes import found_dead, outlived
from session_pool.rules import dead
from session_pool.telemetry import log
from session_pool.verdicts import PAGE, alive, verify_by_list
from session_pool.works import Works

LOOK_TIMEOUT_S: Final = 10.0
"""For one request of upkeep; a remote that takes longer is asked again with the next claim."""

MOST_PAGES: Final = 1000
"""Of one walk through a list. A search reads back to what was last used before the creation that it
looks for; so many pages are what all of a service user's requests can have used in ten minutes, and
it has been looking since the second or third."""


class Page(NamedTuple):
    """One page of a list.

    Attributes:
        sent_at, read_at: by the pool's clock, before the request and after its answer.
    """

    page: SessionPage
    sent_at: float
    read_at: float


class Walk:
    """One walk through the pages of an agent's list, the latest used first; it always ends.

    Args:
        works: the pool's means.
        desk: the agent's.
        urgency: of its requests.

    Attributes:
        pages: read so far.
    """

    def __init__(self, works: Works, desk: Desk, urgency: Urgency) -> None:
        self._works = works
        self._desk = desk
        self._urgency = urgency
        self._token: str | None = None
        self._tokens: set[str | None] = set()

    @property
    def pages(self) -> int:
        """How many were asked for."""
        return len(self._tokens)

    async def next(self) -> Page | None:
        """The next page; None after the last.

        Raises:
            RemoteMalformed: this page was shown before, or there are more than can be meant.
        """
        if self._tokens and self._token is None:
            return None
        if self._token in self._tokens:
            raise RemoteMalformed(
                f"list_sessions: nextPageToken: page {self.pages} names a page that was read "
                "before, so the list has no end; report it to the stack's operators"
            )
        if self.pages >= MOST_PAGES:
            raise RemoteMalformed(
                f"list_sessions: nextPageToken: there are more than {MOST_PAGES} pages"
            )
        self._tokens.add(self._token)
        read = await self._works.paced.call(self._urgency, self._read)
        self._token = read.page.next_page_token
        return read

    async def _read(self) -> Page:
        works, sent_at = self._works, self._works.clock()
        page = await works.api.list_sessions(
            self._desk.rid, page_size=PAGE, page_token=self._token, timeout_s=LOOK_TIMEOUT_S
        )
        return Page(page, sent_at, works.clock())


def not_listed(desk: Desk, error: SessionPoolError, what: str) -> None:
    """Log why a list could not be read: what will not pass by itself is said once, aloud."""
    if isinstance(error, RemoteMalformed) and not desk.told_malformed:
        desk.told_malformed = True
        log.warning("%s of %s: %s", what, desk.name, error)
    else:
        log.debug("%s", what, exc_info=error)


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
        walk = Walk(self._works, desk, Urgency.VERIFY)
        try:
            # Other clients' sessions may stand before them, and those that were used and left: once
            # it has cost as much as one GET each, the rest is looked at like that.
            while len(found) < len(wanted) > walk.pages and (read := await walk.next()):
                for sighting in read.page.sessions:
                    if sighting.session.rid in wanted:
                        found[sighting.session.rid] = sighting
        except SessionPoolError as error:
            not_listed(desk, error, "idle sessions cannot be listed")
        return found
