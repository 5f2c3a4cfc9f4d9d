"""A session being held: what it is, what its holder did with it, and how that ends it.

The half of a lease that stands towards the store. It keeps the entry's latest version, writes what
becomes known of the session, and gives it back as `rules.ended` says. The exchanges are in `lease`.
"""

from __future__ import annotations

import warnings
from bisect import bisect_left
from collections.abc import Coroutine
from contextlib import suppress
from types import CodeType
from typing import Any, Literal, cast
from weakref import ref

from session_pool.desk import Desk
from session_pool.endings import Known, give_back
from session_pool.errors import LeaseLost, StoreUnavailable
from session_pool.events import LeaseDropped, LeaseEnded
from session_pool.lapse import MARGIN, Renewal
from session_pool.model import FOREVER, Entry, Facts
from session_pool.notes import tell
from session_pool.particulars import Particulars
from session_pool.rules import Ending, ended
from session_pool.space import Done, Grant, Held, Put
from session_pool.stores.base import LocalStore
from session_pool.stores.lending import MORE_WANTED, NOT_DONE, PASSED_ON
from session_pool.telemetry import BOUNDS_S, BRIEF_S
from session_pool.works import TELL_S, Works

Said = Literal["used", "unused", "discard"]


class Holding(Particulars):
    """A session held exclusively, from when it is had until it is given back (B1, B21).

    Args:
        works: the pool's means.
        desk: the agent's.
        code, lasti: where it was acquired, kept cheaply and read only if somebody asks.
    """

    # What most leases never change stands on the class: a hit makes only what somebody asked for.
    _said: Said = "used"
    _worn: str | None = None
    _used = _gone = _in_flight = False
    _lapsed = False  # it came to its end while it was held, and the store may want to know how
    _ends = FOREVER  # by the pool's clock: from then on it is not used, whatever the store says
    _unsaid = False  # the store does not know yet what its holder did

    def __init__(self, works: Works, desk: Desk, code: CodeType, lasti: int) -> None:
        self._works = works
        self._desk = desk
        self._code = code
        self._lasti = lasti
        self._loan = None
        self._over = True

    def holds(self, grant: Grant) -> None:
        """It is held from now on: what the store granted."""
        self._copy, self._place = grant.entry, grant.place
        entry = grant.entry
        # A store in this process goes by the same clock, so the grant's instant needs no reading.
        self._since = entry.since if self._works.local is not None else self._works.clock()
        self._over = False
        self._desk.leases[entry.id] = ref(self)

    def goes_on(self, grant: Grant, asked_at: float) -> None:
        """Go on with another session under the same lease; `asked_at` as for `begins`."""
        self._over = self._seen = self._used = self._gone = self._in_flight = self._unsaid = False
        self._worn, self._lapsed = None, False
        self._entry, self._place, self._loan = grant.entry, grant.place, None
        self._since = self._works.clock()
        self._desk.leases[grant.entry.id] = ref(self)
        if self._works.local is None:
            self.begins(grant, asked_at)

    def begins(self, grant: Grant, asked_at: float) -> None:
        """It is held for as long as the store said, counted from when it was asked (B20, B21).

        Args:
            grant: what an awaited store answered.
            asked_at: the pool's clock before the request was sent.
        """
        self._since = asked_at - (grant.now - grant.entry.since)
        left_s, self._ends = grant.entry.lapses - grant.now, -FOREVER
        self.prolong(grant.entry.fence, asked_at, left_s)
        cast("Renewal", self._works.renewal).attend(self.ttl_s, left_s)

    def prolong(self, fence: int, asked_at: float, for_s: float) -> None:
        """It is held for so long after it was asked for; fence: of which hand-out."""
        if fence == self._entry.fence and not self._over:
            self._ends = max(self._ends, asked_at + for_s - MARGIN * self.ttl_s)

    def known_as(self) -> Held:
        """The lease as its holder knows it, to be told to a store that has forgotten it (B27)."""
        entry = self._entry
        fresh_in_s = entry.fresh_until - entry.since - (self._works.clock() - self._since)
        return Held(self._desk.key, entry, self.remaining_s(), max(0.0, fresh_in_s))

    def registered(self, entry: Entry, asked_at: float) -> None:
        """Go on under the fence that another epoch of the store has given it (B27)."""
        was, facts = self._entry, self._facts
        if was.conversation != entry.conversation and was.conversation is not None:
            self._desk.talking.pop(was.conversation, None)  # it has another session by now
        self._entry, self._since = entry._replace(facts=facts), asked_at
        self.prolong(entry.fence, asked_at, self.ttl_s)

    def _known(self, *, drops: bool = False) -> Known:
        held = None if drops else self.known_as  # it would keep what the collector takes away
        return Known(held, self._entry.rid, self._desk.terms.exchange_timeout_s)

    @property
    def token(self) -> tuple[str, int]:
        """What a store knows the lease by: its entry and its fence."""
        return self._entry.id, self._entry.fence

    @property
    def ends(self) -> float:
        """When its holder stops using it unless it is prolonged, by the pool's clock (B21)."""
        return self._ends

    @property
    def ttl_s(self) -> float:
        """Its length, in seconds."""
        return self._desk.policy.lease_ttl_s

    @property
    def over(self) -> bool:
        """It has been given back, or was lost."""
        return self._over

    # ------------------------------------------------------------------ the end

    def mark_unused(self) -> None:
        """Say that the session was not used: checked, not believed (B4)."""
        self._said = "unused"
        self._not_plain()

    def lose(self, why: str) -> None:
        """The lease has ended against its holder's will: tell it, and say why (B21)."""
        if self._over:
            return
        self._over = True
        self.lost.set()
        self._forget()
        self._works.bus.publish(
            LeaseEnded(
                agent_rid=self._desk.rid, session_rid=self._entry.rid, why=why, where=self.where
            )
        )

    def lapse(self) -> None:
        """The lease has come to its end before it was prolonged: it is lost (B21)."""
        self._lapsed = self._lapsed or not self._over
        self.lose("it was not renewed in time")

    async def evict(self) -> None:
        """Take the session away from its holder: lost, and in quarantine until it is quiet."""
        put = self._ended(self._said, broken=True)
        self.lose("it was taken from its holder")
        given_back = give_back(self._works, put, self._left_s(), self._known())
        tell(self._works, self._desk, put, self._entry)
        if given_back is not None:
            await given_back

    def _give_back(self, said: Said, *, broken: bool = False) -> Coroutine[Any, Any, None] | None:
        """End the lease; the answer is what is still to be awaited, if the store is."""
        if self._over:
            return self._told_late(said, broken=broken) if self._lapsed else None
        desk, works, local = self._desk, self._works, self._works.local
        if self._plain and not broken and said == "used" and local is not None:
            if self.laid_back():
                return None
            self._over = True
            if self._lie_down(local):
                return None
        self._over = True
        entry = self._entry
        put = self._ended(said, broken=broken)
        self._forget()
        desk.held.observe(works.clock() - self._since)
        given_back = give_back(works, put, self._left_s(), self._known())
        if put.state not in ("idle", "parked"):
            tell(works, desk, put, entry)
        return given_back

    def _told_late(self, said: Said, *, broken: bool) -> Coroutine[Any, Any, None] | None:
        # It lapsed, so it is in quarantine: its holder is the first to know that it is quiet (B22).
        self._lapsed = False
        put = self._ended(said, broken=broken)
        return give_back(self._works, put, self._left_s(), self._known())

    def laid_back(self) -> bool:
        """End the lease at once if nobody did anything with it, and its session may lie ready.

        The same end as by `_give_back`, the short way; False, with nothing done, where it is not
        as plain as that.
        """
        loan, desk = self._loan, self._desk
        lender = desk.lays_by
        if loan is None or lender is None:
            return False
        became = lender.take_back(loan, self._request, desk.look_s)
        if became == NOT_DONE:
            return False
        self._over = True
        del desk.leases[loan.id]
        works, held, now = self._works, desk.held, loan.since
        held_s = now - self._since
        held.counts[0 if held_s <= BRIEF_S else bisect_left(BOUNDS_S, held_s)] += 1
        held.sum_s += held_s
        if works.watchers or (
            became != PASSED_ON
            and (
                loan.deadline < works.wake_at
                or became == MORE_WANTED
                or lender.entries.idle > desk.max_idle
            )
        ):
            works.on_change(desk.key, lender.counts, loan.deadline - now)
        return True

    def _lie_down(self, local: LocalStore) -> bool:
        # Likewise for what was granted the long way.
        desk, works, entry = self._desk, self._works, self._entry
        if desk.wary or not desk.lie_ready or entry.conversation is not None:
            return False
        look_s, op = desk.terms.verify_after_s, entry.lease + "."
        counts = local.give_back_nowait(desk.key, entry.id, entry.fence, op, "idle", look_s)
        if counts is None:
            return False
        del desk.leases[entry.id]
        now = works.clock()
        desk.held.observe(now - self._since)
        due_at = min(entry.fresh_until, now + look_s)
        if due_at < works.wake_at or not works.quiet(counts, desk.terms):
            works.on_change(desk.key, counts, due_at - now)
        return True

    def _ended(self, said: Said, *, broken: bool = False, worn: str | None = None) -> Put:
        how = Ending(
            said, broken, self._seen, self._used, self._in_flight, self._gone, worn or self._worn
        )
        desk = self._desk
        op, note = self._works.next_id(), desk.noted.note
        put = ended(desk.key, self._entry, self._facts, how, desk.terms, op, note)
        return put._replace(expires_in_s=self.remaining_s()) if self._unsaid else put

    def _left_s(self) -> float:
        return self._ends - self._works.clock() if self._ends != FOREVER else FOREVER

    def _forget(self) -> None:
        desk, entry = self._desk, self._entry
        desk.leases.pop(entry.id, None)
        if entry.conversation is not None:
            desk.talking.pop(entry.conversation, None)

    def _check_held(self) -> None:
        if self._ends != FOREVER and self._ends <= self._works.clock():
            self.lapse()
        if self._over:
            _ = self._entry  # or it was never held, and says so
            raise LeaseLost(
                f"this lease of {self._desk.name} is over; acquire another one to go on"
            )

    async def _write(self, facts: Facts, expires_in_s: float | None = None) -> None:
        """Put on record what was done with the session.

        A store that is away is told with the next record, or as the lease ends: a lease stays of
        use meanwhile (B27). Cancelling loses nothing of it either.

        Raises:
            LeaseLost: it is somebody else's, or nobody's.
        """
        works, local = self._works, self._works.local
        if local is not None:
            done = works.put_nowait(local, self._record(facts, expires_in_s))
            if not isinstance(done, Done) or done.entry is None:
                self.lose("it had lapsed")
                self._check_held()
            else:
                self._entry = done.entry
            return
        entry = self._entry
        if expires_in_s is not None:
            expires = entry.since + (works.clock() - self._since) + expires_in_s
            entry = entry._replace(expires=expires)
        self._entry, self._unsaid = entry._replace(facts=facts), True
        self._check_held()
        if not works.away:
            until = works.loop.time() + min(TELL_S, self._left_s())
            with suppress(StoreUnavailable):
                while not await self._told(facts, until):
                    pass  # under another fence, which another epoch gave it meanwhile

    async def _told(self, facts: Facts, until: float) -> bool:
        works, fence = self._works, self._entry.fence
        put = self._record(facts, self.remaining_s())
        answer = await works.again(lambda: works.store.put(put), until)
        works.on_change(put.key, answer.counts, None)
        if isinstance(answer, Done) and answer.entry is not None:
            if self._facts is facts:  # and not yet those of a later record
                self._entry, self._unsaid = answer.entry, False
            return True
        if works.store.epoch != works.epoch:
            await cast("Renewal", works.renewal).settle()
        if self._entry.fence == fence:
            self.lose("it had lapsed, or was taken from its holder")
        self._check_held()
        return False

    def _record(self, facts: Facts, expires_in_s: float | None) -> Put:
        (entry_id, fence), op = self.token, self._works.next_id()
        put = Put(self._desk.key, entry_id, op, "leased", None, fence, facts)
        return put._replace(expires_in_s=expires_in_s)

    def __del__(self) -> None:
        if self._over or self._works.loop.is_closed():
            return
        where = self.where
        warnings.warn(
            f"a lease of {self._desk.name} was dropped without release; acquired at {where}; use "
            "`async with`, or await lease.release()",
            ResourceWarning,
            source=self,
            stacklevel=1,
        )
        # The garbage collector may run in any thread; the session goes back in the pool's own.
        put = self._ended(self._said, broken=True)
        self._works.loop.call_soon_threadsafe(
            _dropped,
            self._works,
            self._desk,
            self._entry,
            put,
            where,
            self._left_s(),
            self._known(drops=True),
        )


def _dropped(
    works: Works, desk: Desk, entry: Entry, put: Put, where: str, lapses_in_s: float, known: Known
) -> None:
    weak = desk.leases.get(entry.id)
    holder = weak() if weak is not None else None
    if weak is not None and (holder is None or holder.token == (entry.id, entry.fence)):
        del desk.leases[entry.id]  # and not that of who has the session by now
        if entry.conversation is not None:
            desk.talking.pop(entry.conversation, None)
    works.bus.publish(LeaseDropped(agent_rid=desk.rid, session_rid=entry.rid, where=where))
    given_back = give_back(works, put, lapses_in_s, known)
    if given_back is not None:
        works.write(given_back, "release")
    tell(works, desk, put, entry)
