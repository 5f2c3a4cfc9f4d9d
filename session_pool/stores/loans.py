"""The short ways of one key of the memory store, for who asks for nothing in particular; `lending`.

Most who wait want the like, so they stand in a plain queue, the express, for as long as nobody else
stands where he can be served. Then what is given back goes straight to its head, and nothing has to
be looked up. As soon as anybody does, the express is poured into the lines, and its waiters are
like any others.

Each step is one of `counter`, `entries` or `shelf`, written out in place, since in Python a call
costs as much as what it does. So this room alone reaches into those; a test lives the same
histories both ways and compares every state.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import repeat

from session_pool.model import FOREVER, Counts, Entry, PoolKey
from session_pool.space import Grant, Held, Note, Noted, Put, Refusal, Ticket, Want
from session_pool.stores.counter import Counter
from session_pool.stores.deadlines import Deadlines
from session_pool.stores.lending import (
    LAID_BACK,
    MORE_WANTED,
    NOT_DONE,
    PASSED_ON,
    Bell,
    Standing,
    TakenBack,
)
from session_pool.stores.rows import Row
from session_pool.stores.waiting import SLACK, Waiter


class Loans(Counter):
    """The entries and lines of one key, and the short ways to them.

    Args:
        key, rows, deadlines, bells: as `Serving`.
        clock: the store's.
    """

    def __init__(
        self,
        key: PoolKey,
        rows: dict[str, Row],
        deadlines: Deadlines,
        bells: list[Callable[[str], None]],
        clock: Callable[[], float],
    ) -> None:
        super().__init__(key, rows, deadlines, bells)
        self._clock = clock
        # While anybody stands here, there are no `waiting.lines`, the key is open, and all want
        # `_known`; what is free does not fit them, but for one whose bell is done already.
        self._express: deque[Standing] = deque()
        self._left: set[int] = set()  # the places of those in it who wait no more
        # The want that was asked for last, taken apart: mostly it is the same again.
        self._known: Want | None = None
        self._holder, self._most, self._longest = "", 0, 0
        self._version: str | None = None
        self._wish_s = self._ttl_s = 0.0

    # ------------------------------------------------------------------ the short ways

    def lend(
        self, want: Want, request: str, note_version: int, make_bell: Callable[[], Bell]
    ) -> Row | Standing | None:
        """See `Lender.lend`."""
        if want is not self._known:
            self._know(want)
        express, leases, most = self._express, self.entries.leases, self._most
        if note_version != self.note_version or not self._open:
            return None
        waiting = self.waiting
        if waiting.by_request and (most != self._cap or waiting.ends != FOREVER):
            # A raised cap serves those in line first; so does one who leaves by himself.
            return None
        if waiting.lines:
            return self._lend_in_line(want, request, make_bell)
        if not express:  # whoever waits, waits for his own session: what is free is anybody's
            self._cap = most
            if len(leases) < most:
                entries, clock = self.entries, self._clock
                now = clock()
                row: Row | None
                version, least, shelf = self._version, now + self._wish_s, entries.only
                if version is None and shelf is not None and shelf._start < len(shelf._slots):
                    expires, _, row = shelf._slots[shelf._start]
                    if expires < least or row.state == "leased":
                        row = shelf.first(least)
                else:
                    row = entries.free(version, least)
                if row is not None:
                    was = row.state
                    if was == "idle":
                        entries.idle -= 1
                    else:
                        entries.uncount(was)
                    self._place = place = self._place + 1
                    row.hand = (was, row.deadline, place, None)
                    row.state = "leased"
                    row.version += 1
                    row.fence += 1
                    row.holder = self._holder
                    row.lease = row.op = request
                    row.lapses = row.deadline = lapses = now + self._ttl_s
                    row.since = now
                    leases[request] = row
                    if lapses < row.queued:
                        self._deadlines.queue(row, lapses)
                    return row
        elif most != self._cap:
            return None
        longest = self._longest
        if len(express) + waiting.standing >= longest and self.standing >= longest:
            return None
        self._place = place = self._place + 1
        standing = request, place, make_bell(), len(leases) < most
        express.append(standing)
        return standing

    def _lend_in_line(
        self, want: Want, request: str, make_bell: Callable[[], Bell]
    ) -> Row | Standing | None:
        entries, waiting, now = self.entries, self.waiting, self._clock()
        room = len(entries.leases) < self._most
        if room and (self._version, self._wish_s) not in waiting.lines:
            # Nobody waits for the like, so it may have whatever fits it.
            row = entries.free(self._version, now + self._wish_s)
            if row is not None:
                self._place += 1
                self._lease(row, want, request, self._place, now)
                return row
        if self.standing >= self._longest:
            return None
        self._place += 1
        waiter = Waiter(want, request, self._place, make_bell())
        waiting.stand(waiter)
        return request, waiter.place, waiter.bell, room

    def take_back(self, row: Row, request: str, deadline_in_s: float) -> TakenBack:
        """See `Lender.take_back`."""
        clock = self._clock
        now = clock()
        if row.lease != request or row.lapses <= now or row.conversation is not None:
            return NOT_DONE
        entries, express, at = self.entries, self._express, now + deadline_in_s
        leases = entries.leases
        if row.fresh_until < at:
            at = row.fresh_until
        if express:
            # What is given back goes straight to the earliest, where that is plain to see: the
            # same as giving it back and serving, less the way to the shelf and from it.
            heir, place, bell, _ = express[0]
            version = self._version
            if (
                row.expires >= now + self._wish_s
                and not (row.pinned if version is None else row.agent_version != version)
                and len(leases) <= self._cap
                and not bell.done()
                and not (entries.idle or entries.ageing)  # else one may wait for room only
            ):
                express.popleft()
                del leases[request]
                leases[heir] = row
                row.hand = ("idle", at, place, None)
                row.version += 2
                row.fence += 1
                row.holder = self._holder
                row.lease = row.op = heir
                row.lapses = row.deadline = lapses = now + self._ttl_s
                row.since = now
                if lapses < row.queued:
                    self._deadlines.queue(row, lapses)
                bell.set_result(row)
                return PASSED_ON
        elif self.waiting.ends <= now:
            self.settle(now)
        del leases[request]
        entries.idle += 1
        row.state = "idle"
        row.version += 1
        row.holder = row.lease = row.op = ""
        row.lapses = FOREVER
        row.deadline = at
        row.since = now
        row.hand = None
        if row.shelf is None:
            entries.shelve(row)
        if at < row.queued:
            self._deadlines.queue(row, at)
        if express or self.waiting.by_request:
            self.serve(now)
            if self.counts.new:
                return MORE_WANTED
        return LAID_BACK

    def leave(self, standing: Standing) -> None:
        """See `Lender.leave`."""
        request, place, bell, _ = standing
        if not bell.cancelled() or request in self.waiting.by_request:
            self.withdraw(request, self._clock())
            return
        # It stands in the express still: only its place is marked, until its turn comes, or until
        # those who left are more than those who wait.
        express, left = self._express, self._left
        left.add(place)
        if len(left) > SLACK + len(express) // 2:
            self._express = deque(one for one in express if one[1] not in left)
            left.clear()

    def wants(self) -> Iterator[Want]:
        """See `Lender.wants`."""
        if self._known is not None:
            yield from repeat(self._known, len(self._express) - len(self._left))
        for waiter in self.waiting.in_want():
            yield waiter.want

    def rouse(self) -> None:
        """See `Lender.rouse`."""
        self._pour()
        for waiter in tuple(self.waiting.by_request.values()):
            if waiter.bell is not None:
                self._tell(waiter)

    def _know(self, want: Want) -> None:
        """Take a want without a conversation apart; who wants another stands in another line."""
        self._pour()
        self._known = want
        _, self._holder, _, self._version, self._wish_s, self._ttl_s, most, longest, _ = want
        self._most, self._longest = most, longest

    def _pour(self) -> None:
        """Let those in the express stand in line like any others, each with its bell."""
        express, left, want = self._express, self._left, self._known
        while express and want is not None:
            request, place, bell, _ = express.popleft()
            if place not in left:
                self.waiting.stand(Waiter(want, request, place, bell))
        left.clear()

    # ------------------------------------------------------------------ the long ones

    def take(
        self,
        want: Want,
        request: str,
        now: float,
        patience_s: float,
        note_version: int,
        place: int | None,
        instead: Put | None,
    ) -> Grant | Ticket | Refusal:
        """See `Store.take`."""
        if self._express and (want.conversation is None or want.max_leased != self._cap):
            self._pour()  # it may be one of those, or a raised cap serves them first
        answer = super().take(want, request, now, patience_s, note_version, place, instead)
        if self._express and self.waiting.lines:  # a conversation that has no session stands there
            self._pour()
        return answer

    def withdraw(self, request: str, now: float) -> Counts:
        """See `Store.withdraw`."""
        if request not in self.waiting.by_request and request not in self.entries.leases:
            self._pour()  # it may stand in the express
        return super().withdraw(request, now)

    def register(self, holder: str, held: Held, ttl_s: float, now: float) -> Entry | None:
        """See `Store.register`."""
        self._pour()
        return super().register(holder, held, ttl_s, now)

    def note(self, version: int, note: Note, now: float, *, open_: bool) -> Noted:
        """See `Store.note`; everybody in line is told."""
        self._pour()
        return super().note(version, note, now, open_=open_)

    def serve(self, now: float) -> None:
        """Grant what can be granted, the earliest first."""
        express, left, entries = self._express, self._left, self.entries
        if self.waiting.vain:
            self.waiting.dismiss()  # then those behind them may stand in the lines
        if self.waiting.lines:
            self._pour()
        while express and self._open and len(entries.leases) < self._cap:
            request, place, bell, _ = express[0]
            if place in left:
                left.remove(place)
                express.popleft()
                continue
            if bell.done():  # its time is up, and it has not asked again yet
                self._pour()
                break
            row, want = entries.free(self._version, now + self._wish_s), self._known
            if row is None or want is None:
                break
            express.popleft()
            self._lease(row, want, request, place, now)
            bell.set_result(row)
        super().serve(now)

    @property
    def standing(self) -> int:
        """How many are in line."""
        return self.waiting.standing + len(self._express) - len(self._left)

    @property
    def wanting(self) -> int:
        """How many of them stand for a free session; those of one conversation count once (B8)."""
        return self.waiting.wanting + len(self._express) - len(self._left)
