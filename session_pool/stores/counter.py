"""One key of the memory store, where its entries and those who wait for them meet.

Asking, changing and serving; every method takes the store's clock as `now`. Serving is the heart:
while the key is open and fewer than the cap are leased, the earliest waiter that some entry fits
gets it, by direct hand-over (B6).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Literal

from session_pool.model import FOREVER, Counts, Entry, PoolKey, State
from session_pool.space import (
    NO_NOTE,
    Done,
    Grant,
    Guard,
    NotDone,
    Note,
    Noted,
    Put,
    Refusal,
    Ticket,
    Want,
)
from session_pool.stores.entries import Entries, blank, changed, leased, undone
from session_pool.stores.waiting import Waiter, Waiting

Need = Literal["new", "own", "room"]
Why = Literal["full", "closed", "note", "version", "withdrawn", "empty"]


class Counter:
    """The entries and lines of one key.

    Args:
        key: whose.
        ring: told of each waiter that should ask again.

    Attributes:
        troubled: somebody may run out of patience, or a tombstone stands: settle before acting.
    """

    def __init__(self, key: PoolKey, ring: Callable[[Waiter], None]) -> None:
        self.key = key
        self.entries = Entries(lambda conversation: self.waiting.promote(conversation))
        self.waiting = Waiting(self.entries.own)
        self.counts = Counts(self.entries.count, 0, 0, {})
        self.cap = 0
        self.max_waiting = 0
        self.note_version = 0
        self.troubled = False
        self._ring = ring
        self._note = NO_NOTE
        self._note_since = 0.0
        self._open = True
        self._tombstones: OrderedDict[str, float] = OrderedDict()
        self._patience: list[tuple[float, str]] = []
        self._place = 0

    # ------------------------------------------------------------------ asking

    def arrive(
        self,
        want: Want,
        request: str,
        now: float,
        patience_s: float,
        note_version: int,
        place: int | None,
    ) -> Grant | Ticket | Refusal:
        """A request that is not in line: served at once, refused, or given a place."""
        if request in self._tombstones:
            return self._refuse("withdrawn", now)
        held = self.entries.leases.get(request)
        if held is not None:  # asked again, after the answer was lost
            return Grant(self.entries.by_id[held], 0, None, now, self.counts, self.note_version)
        if place is None:
            self._place = place = self._place + 1
        if not self._open:
            return self._refuse("closed", now)
        own, behind, conversation = None, False, want.conversation
        if conversation is not None:
            own, behind = self.entries.own(conversation), self.waiting.behind(conversation)
            if own is not None and want.agent_version not in (None, own.agent_version):
                return self._refuse("version", now)
        if not behind and self.entries.count.get("leased", 0) < self.cap:
            entry = self.entries.fitting(want, own, now)
            if entry is not None:
                return self._lease(entry, want, request, place, now)
        if note_version != self.note_version:
            return self._refuse("note", now)
        need = self._need(own)
        if patience_s <= 0:
            return self._refuse("empty", now, need)
        if self.waiting.standing >= self.max_waiting:
            return self._refuse("full", now, need)
        waiter = Waiter(want, request, place, now + patience_s)
        self.waiting.stand(waiter)
        self._be_patient(waiter)
        return Ticket(place, need, self.counts, self.note_version)

    def ask_again(
        self, waiter: Waiter, now: float, patience_s: float, note_version: int
    ) -> Grant | Ticket | Refusal:
        """A request in line says that it is still there, or fetches what it was granted."""
        if waiter.grant is not None:
            del self.waiting.by_request[waiter.request]
            return waiter.grant
        need = self._need(self.entries.own(waiter.want.conversation))
        if patience_s <= 0:
            self._leave(waiter, now)
            return self._refuse("empty", now, need)
        waiter.patience = now + patience_s
        self._be_patient(waiter)
        if note_version != self.note_version:
            return self._refuse("note", now)
        return Ticket(waiter.place, need, self.counts, self.note_version)

    def withdraw(self, request: str, until: float, now: float) -> None:
        """Take a request out of line, or its grant back, and refuse it until then."""
        self._tombstones[request] = until
        self.troubled = True
        waiter = self.waiting.by_request.get(request)
        if waiter is not None:
            self._leave(waiter, now)
            return
        held = self.entries.leases.get(request)
        if held is not None:  # a hit whose answer nobody saw
            entry = self.entries.by_id[held]
            state: State = "idle" if entry.conversation is None else "parked"
            deadline = entry.fresh_until if entry.conversation is None else now
            former = entry._replace(state=state, deadline=deadline)
            self.entries.set(entry, undone(entry, former, now))

    def settle(self, now: float) -> bool:
        """Silent waiters leave, unfetched grants are undone; True where that freed something."""
        freed = False
        while self._patience and self._patience[0][0] <= now:
            _, request = heappop(self._patience)
            waiter = self.waiting.by_request.get(request)
            if waiter is None:
                continue
            if waiter.patience <= now:
                self._leave(waiter, now)
                freed = True
            else:
                heappush(self._patience, (waiter.patience, request))
        while self._tombstones:
            request, until = next(iter(self._tombstones.items()))
            if until > now:
                break
            del self._tombstones[request]
        self.troubled = bool(self._patience or self._tombstones)
        return freed

    # ------------------------------------------------------------------ serving

    def serve(self, now: float) -> None:
        """Grant what can be granted, the earliest first, and count who is left."""
        count, waiting = self.entries.count, self.waiting
        while self._open and count.get("leased", 0) < self.cap:
            best: Waiter | None = None
            found: Entry | None = None
            for head in waiting.heads():
                if best is None or head.place < best.place:
                    own = self.entries.own(head.want.conversation)
                    entry = self.entries.fitting(head.want, own, now)
                    if entry is not None:
                        best, found = head, entry
            if best is None or found is None:
                break
            waiting.step_out(best)
            best.former = found
            best.grant = self._lease(found, best.want, best.request, best.place, now)
            self._ring(best)
        self.counts.waiting = waiting.standing
        room = self.cap - count.get("leased", 0)
        self.counts.new = max(0, min(waiting.wanting(), room)) if room > 0 else 0

    def _lease(self, entry: Entry, want: Want, request: str, place: int, now: float) -> Grant:
        held = leased(entry, want, request, now)
        before = None
        if want.conversation is not None:
            before = self.entries.memory(want.conversation)
        self.entries.set(entry, held)
        return Grant(held, place, before, now, self.counts, self.note_version)

    def _leave(self, waiter: Waiter, now: float) -> None:
        del self.waiting.by_request[waiter.request]
        if waiter.grant is None or waiter.former is None:
            self.waiting.step_out(waiter)
        else:
            entry = self.entries.by_id[waiter.grant.entry.id]
            if entry.lease == waiter.request:
                self.entries.set(entry, undone(entry, waiter.former, now))

    def _be_patient(self, waiter: Waiter) -> None:
        if waiter.patience != FOREVER:
            heappush(self._patience, (waiter.patience, waiter.request))
            self.troubled = True

    def _need(self, own: Entry | None) -> Need:
        if own is not None and own.state != "parked":
            return "own"
        if self.entries.count.get("leased", 0) >= self.cap:
            return "room"
        return "new" if own is None else "own"

    def _refuse(self, why: Why, now: float, need: Need = "new") -> Refusal:
        return Refusal(why, self.counts, self.noted(now), need)

    # ------------------------------------------------------------------ changing

    def put(self, put: Put, now: float) -> Done | NotDone:
        """Compare and set, insert or delete; see `Store.put`."""
        entry = self.entries.by_id.get(put.id)
        if entry is None:
            if put.version is not None or put.fence is not None:
                return NotDone("absent", self.counts)
            entry = blank(put.id, now)
        elif entry.op == put.op:
            return Done(entry, self.counts)
        elif put.fence is not None:
            if entry.state != "leased" or entry.fence != put.fence:
                return NotDone("changed", self.counts)
            if entry.lapses <= now:
                return NotDone("lapsed", self.counts)
        elif entry.version != put.version:
            return NotDone("changed", self.counts)
        if put.guards and not all(self._holds(guard) for guard in put.guards):
            return NotDone("guard", self.counts)
        for name, amount in put.tally:
            self.counts.tally[name] = self.counts.tally.get(name, 0) + amount
        after = None if put.state is None else changed(entry, put, put.state, now)
        self.entries.set(entry, after)
        return Done(after, self.counts)

    def renew(self, entry_id: str, holder: str, fence: int, now: float, lapses: float) -> bool:
        """Prolong one lease; frees nothing and serves nobody."""
        entry = self.entries.by_id[entry_id]
        if (entry.state, entry.holder, entry.fence) != ("leased", holder, fence):
            return False
        if entry.lapses <= now:
            return False
        self.entries.retime(entry._replace(lapses=lapses, deadline=lapses))
        return True

    def write_note(self, note: Note, *, open_: bool, now: float) -> None:
        """Replace the note and tell everybody in line."""
        self._note, self._note_since, self._open = note, now, open_
        self.note_version += 1
        for waiter in tuple(self.waiting.by_request.values()):
            self._ring(waiter)

    def noted(self, now: float) -> Noted:
        """The note as it stands."""
        return Noted(self._note, self.note_version, now - self._note_since, self._open)

    def _holds(self, guard: Guard) -> bool:
        return sum(map(self._count, guard.plus)) - sum(map(self._count, guard.minus)) <= guard.most

    def _count(self, name: str) -> int:
        if name == "new":
            return self.counts.new
        return self.counts.waiting if name == "waiting" else self.entries.count.get(name, 0)
