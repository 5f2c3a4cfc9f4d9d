"""Who waits for a key, and in which lane.

A waiter stands where it can be served, and in one such lane only. The first of a conversation, and
everybody without one, stands in the lane of its wish (it needs a free session that lives long
enough, of its version), or in the lane `OWN` (its own session is there, and only room under the cap
is missing). Who comes behind the first of its conversation, or whose session is held or in
quarantine, stands in none. So serving looks at one head per lane, never along a line.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

from session_pool.model import FOREVER
from session_pool.stores.sqlite.entries import Entries
from session_pool.stores.sqlite.moment import Key, Moment
from session_pool.stores.sqlite.rows import Row, Waiter
from session_pool.stores.sqlite.statements import SQL

OWN: Final = "own"
WAITER, NEXT_LANE, STAND = SQL["waiter"], SQL["next_lane"], SQL["stand"]
FIRST_OF_TALK, PROMOTED = SQL["first_of_talk"], SQL["promoted"]
SET_LANE, LEAVE, HERE_I_AM = SQL["set_lane"], SQL["leave"], SQL["here_i_am"]


class Lines:
    """The lines of one key.

    Args:
        moment: the transaction.
        key: whose.
        entries: what the key holds.

    Attributes:
        asking: the request that asks just now: its answer tells it all, so it is not rung.
    """

    def __init__(self, moment: Moment, key: Key, entries: Entries) -> None:
        self.asking = ""
        self._moment = moment
        self._key = key
        self._entries = entries
        self._vain: set[str] = set()

    def waiter(self, request: str) -> Waiter | None:
        """Somebody in line, or with something to fetch."""
        if not self._key.present:
            return None
        record = self._moment.one(WAITER, self._key.id, request)
        return Waiter(record) if record is not None else None

    def heads(self) -> list[Waiter]:
        """The first of each lane, in the order of their turns."""
        found, lane = [], ""
        while self._key.standing:
            record = self._moment.one(NEXT_LANE, self._key.id, lane)
            if record is None:
                break
            head = Waiter(record)
            found.append(head)
            lane = head.lane or ""
        found.sort(key=lambda head: head.turn)
        return found

    def behind(self, conversation: str) -> bool:
        """Whether somebody waits already for what this conversation has or will have."""
        return self._first(conversation) is not None

    def refusal(self, waiter: Waiter) -> Literal["version", "empty"] | None:
        """Why waiting is in vain."""
        conversation = waiter.conversation
        if conversation is None:
            return None
        own = self._entries.own(conversation)
        return refused(own, waiter.version, waiter.own_only, calm=self._moment.calm)

    # ------------------------------------------------------------------ in and out of line

    def stand(self, waiter: Waiter, patience_s: float) -> None:
        """Join the line."""
        moment, key = self._moment, self._key
        waiter.patience = moment.now + patience_s
        if waiter.conversation is None:
            waiter.lane = _lane(waiter)
            key.wanting += 1
        waiter.n = moment.run(
            STAND,
            (
                key.id, waiter.request, waiter.place, waiter.patience, waiter.holder,
                waiter.conversation, waiter.version, waiter.wish_s, waiter.ttl_s, waiter.own_only,
                waiter.lane, waiter.bell, waiter.known,
            ),
        ).lastrowid or 0  # fmt: skip
        key.standing += 1
        key.present += 1
        key.ends = min(key.ends, waiter.patience)
        self.promote(waiter.conversation)

    def stand_again(self, waiter: Waiter) -> None:
        """Be in line as before: what it was granted is its own no more."""
        waiter.entry = None
        if waiter.conversation is None:
            waiter.lane = _lane(waiter)
            self._key.wanting += 1
        self._moment.run(SQL["stand_again"], (waiter.lane, waiter.n))
        self._key.standing += 1
        self.promote(waiter.conversation)

    def be_patient(self, waiter: Waiter, patience_s: float, bell: str, known: int) -> None:
        """Let a waiter stay that long without asking again, and be rung where it asks from."""
        waiter.patience = self._moment.now + patience_s
        self._moment.run(HERE_I_AM, (waiter.patience, bell, known, waiter.n))
        self._key.ends = min(self._key.ends, waiter.patience)

    def grant(self, waiter: Waiter, entry_id: str) -> None:
        """Let it have something to fetch, and tell it; `promote` its conversation afterwards."""
        self._moment.run(SQL["granted"], (entry_id, waiter.n))
        waiter.entry = entry_id
        self._step_out(waiter)
        self._ring(waiter)

    def leave(self, waiter: Waiter) -> None:
        """Be gone."""
        self._moment.run(LEAVE, (waiter.n,))
        self._key.present -= 1
        if waiter.standing:
            self._step_out(waiter)
            self.promote(waiter.conversation)

    def dismiss(self) -> None:
        """Tell those who wait in vain, so that they hold nobody up."""
        while self._vain:
            head = self._first(self._vain.pop())
            why = self.refusal(head) if head is not None else None
            if head is not None and why is not None:
                self._moment.run(SQL["dismissed"], (why, head.n))
                self._step_out(head)
                self.promote(head.conversation)
                self._ring(head)

    def _step_out(self, waiter: Waiter) -> None:
        self._key.standing -= 1
        if waiter.lane not in (None, OWN):
            self._key.wanting -= 1
        waiter.lane = None

    # ------------------------------------------------------------------ conversations

    def promote(self, conversation: str | None) -> None:
        """Let the first of a conversation, and nobody else of it, stand where it can be served.

        To be called when what the conversation has is another, or in another state.
        """
        if conversation is None or not self._key.standing:
            return
        head, own = self._first(conversation), self._entries.own(conversation)
        where: str | None = None
        if head is not None:
            if refused(own, head.version, head.own_only, calm=self._moment.calm) is not None:
                self._vain.add(conversation)
            elif own is None:
                where = None if self._moment.calm else _lane(head)
            elif own.state == "parked" and own.since >= self._moment.handed_since:
                where = OWN
        for record in self._moment.run(PROMOTED, (self._key.id, conversation)).fetchall():
            waiter = Waiter(record)
            if head is None or waiter.n != head.n:
                self._set_lane(waiter, None)
        if head is not None:
            self._set_lane(head, where)

    def rearrange(self) -> None:
        """Promote all there are: a calm has begun, or has ended."""
        talks = self._moment.run(SQL["talks"], (self._key.id,)).fetchall()
        for (conversation,) in talks:
            self.promote(conversation)

    def _first(self, conversation: str) -> Waiter | None:
        if not self._key.standing:
            return None
        record = self._moment.one(FIRST_OF_TALK, self._key.id, conversation)
        return Waiter(record) if record is not None else None

    def _set_lane(self, waiter: Waiter, lane: str | None) -> None:
        if waiter.lane == lane:
            return
        self._key.wanting += (lane not in (None, OWN)) - (waiter.lane not in (None, OWN))
        self._moment.run(SET_LANE, (lane, waiter.n))
        waiter.lane = lane

    # ------------------------------------------------------------------ time, and bells

    def silent(self) -> Iterator[Waiter]:
        """Those whose patience has ended."""
        moment, key = self._moment, self._key
        records = moment.run(SQL["silent"], (key.id, moment.now)).fetchall()
        for record in records:
            # Who left before may have let this one move up.
            waiter = self.waiter(record[2])
            if waiter is not None:
                yield waiter
        (least,) = moment.one(SQL["least_patience"], key.id) or (None,)
        key.ends = FOREVER if least is None else least

    def ring_all(self) -> None:
        """Tell everybody."""
        if self._key.present:
            self._moment.rung += self._moment.run(SQL["everybody"], (self._key.id,)).fetchall()

    def _ring(self, waiter: Waiter) -> None:
        if waiter.request != self.asking:
            self._moment.rung.append((waiter.bell, waiter.request))


def refused(
    own: Row | None, version: str | None, own_only: bool | int, *, calm: bool
) -> Literal["version", "empty"] | None:
    """Why the session that its conversation has, or has not, can never serve a want."""
    if own is None:
        return "empty" if own_only and not calm else None
    return "version" if version not in (None, own.agent_version) else None


def _lane(waiter: Waiter) -> str:
    # "own" sorts apart from all of these; the wish comes first, as a version may hold anything.
    version = "" if waiter.version is None else f"={waiter.version}"
    return f"{waiter.wish_s!r}{version}"
