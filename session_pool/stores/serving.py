"""What one key of the memory store has, who waits for it, and how the one comes to the other.

Serving is the heart: while the key is open and fewer than the cap are leased, the earliest waiter
that some entry fits gets it, by direct hand-over (B6). Every change ends with it, so nobody ever
waits for what is there. Every method takes the store's clock as `now`. Those who ask are served in
`counter`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from session_pool.model import Counts, PoolKey, State
from session_pool.space import NO_NOTE, Done, Grant, Guard, NotDone, Note, Noted, Put, Want
from session_pool.stores.deadlines import Deadlines
from session_pool.stores.entries import Entries
from session_pool.stores.rows import Row
from session_pool.stores.waiting import Waiter, Waiting

Need = Literal["new", "own", "room"]

make_grant: Final[Callable[[type[Grant], tuple[object, ...]], Grant]] = tuple.__new__
_done: Final[Callable[[type[Done], tuple[object, ...]], Done]] = tuple.__new__
# Named tuples from all their fields in order, at half the price of calling them.


class Live(Counts):
    """How a key stands now: counted as it is read, since what is read is far less than changes."""

    __slots__ = ("_serving",)

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self.tally = {}

    @property
    def states(self) -> dict[str, int]:  # type: ignore[override]
        """How many entries are in each state."""
        return self._serving.entries.count

    @property
    def waiting(self) -> int:  # type: ignore[override]
        """How many requests are in line."""
        return self._serving.standing

    @property
    def new(self) -> int:  # type: ignore[override]
        """How many of them need a session not yet made, as far as there is room."""
        serving = self._serving
        wanting = serving.wanting
        if not wanting:
            return 0
        return max(0, min(wanting, serving._cap - len(serving.entries.leases)))


class Serving:
    """The entries and lines of one key.

    Args:
        key: whose.
        rows: the rows of all keys by entry id.
        deadlines: of all keys.
        bells: each is told the request of every waiter that should ask again; must not call back.
    """

    def __init__(
        self,
        key: PoolKey,
        rows: dict[str, Row],
        deadlines: Deadlines,
        bells: list[Callable[[str], None]],
    ) -> None:
        self.key = key
        self.note_version = 0
        self.entries = Entries(key, rows)
        self.waiting = Waiting(self.entries.own, self._tell)
        self.counts: Counts = Live(self)
        self._rows = rows
        self._deadlines = deadlines
        self._bells = bells
        self._asking = ""
        self._cap = 0
        self._max_waiting = 0
        self._note = NO_NOTE
        self._note_since = 0.0
        self._open = True
        self._tombstones: dict[str, float] = {}
        self._place = 0

    # ------------------------------------------------------------------ serving

    def settle(self, now: float) -> None:
        """Silent waiters leave, grants that nobody came for are undone, and others get them."""
        for waiter in self.waiting.silent(now):
            self._leave(waiter, now)
        self.serve(now)

    def serve(self, now: float) -> None:
        """Grant what can be granted, the earliest first."""
        entries, waiting = self.entries, self.waiting
        while True:
            if waiting.vain:
                waiting.dismiss()
            if not (waiting.lines and self._open and len(entries.leases) < self._cap):
                break
            best: Waiter | None = None
            found: Row | None = None
            for line in waiting.lines.values():
                head = line.head()
                if head is not None and (best is None or head.comes_before(best)):
                    _, _, conversation, version, wish_s, _, _, _, _ = head.want
                    row = None if conversation is None else entries.own(conversation)
                    if row is None:  # whoever stands in a line and has a session may have it
                        row = entries.free(version, now + wish_s)
                    if row is not None:
                        best, found = head, row
            if best is None or found is None:
                break
            # In this order: those behind it in its conversation must see that it has a session.
            self._lease(found, best.want, best.request, best.place, now)
            waiting.step_out(best)
            best.row = found
            self._tell(best)

    @property
    def standing(self) -> int:
        """How many are in line."""
        return self.waiting.standing

    @property
    def wanting(self) -> int:
        """How many of them stand for a free session; those of one conversation count once (B8)."""
        return self.waiting.wanting

    def _lease(self, row: Row, want: Want, request: str, place: int, now: float) -> None:
        _, holder, conversation, _, _, ttl_s, _, _, _ = want
        self.entries.lease(row, holder, conversation, ttl_s, request, place, now)
        if row.deadline < row.queued:
            self._deadlines.queue(row, row.deadline)
        if conversation is not None and self.waiting.by_request:
            self.waiting.promote(conversation)

    def _granted(self, row: Row, now: float) -> Grant:
        conversation = row.conversation
        before = None if conversation is None else self.entries.memory(conversation)
        place = row.hand[2] if row.hand is not None else 0
        return make_grant(Grant, (row.entry(), place, before, now, self.counts, self.note_version))

    def _leave(self, waiter: Waiter, now: float) -> None:
        del self.waiting.by_request[waiter.request]
        row = waiter.row
        if row is None:
            if waiter.verdict is None:
                self.waiting.step_out(waiter)
        elif row.lease == waiter.request:
            self._undo(row, now)

    def _undo(self, row: Row, now: float) -> None:
        conversation = row.conversation
        self.entries.undo(row, now)
        if row.deadline < row.queued:
            self._deadlines.queue(row, row.deadline)
        self.waiting.promote(conversation)

    def _need(self, conversation: str | None) -> Need:
        own = self.entries.own(conversation)
        if own is not None and own.state != "parked":
            return "own"
        if len(self.entries.leases) >= self._cap:
            return "room"
        return "new" if own is None else "own"

    def _tell(self, waiter: Waiter) -> None:
        bell = waiter.bell
        if bell is not None:
            waiter.bell = None  # it is spent: from now on it is a request like any other
            if not bell.done():
                if waiter.row is not None:  # in this process an answer is not lost on its way
                    del self.waiting.by_request[waiter.request]
                bell.set_result(waiter.row)
                return
        if waiter.request != self._asking:
            for ring in self._bells:
                ring(waiter.request)

    # ------------------------------------------------------------------ changing

    def put(self, put: Put, now: float) -> Done | NotDone:
        """See `Store.put`."""
        waiting = self.waiting
        if waiting.ends <= now:
            self.settle(now)
        answer = self._put(put, now)
        if waiting.by_request or self.standing:
            self.serve(now)
        return answer

    def give_back(
        self, entry_id: str, fence: int, op: str, state: State, deadline_in_s: float, now: float
    ) -> Counts | None:
        """See `LocalStore.give_back_nowait`."""
        waiting = self.waiting
        if waiting.ends <= now:
            self.settle(now)
        row = self._rows.get(entry_id)
        if row is None or not row.held(self.key, fence, op, now):
            return None
        self._give_back(row, op, state, deadline_in_s, now)
        if waiting.by_request or self.standing:
            self.serve(now)
        return self.counts

    def _give_back(
        self, row: Row, op: str, state: State, deadline_in_s: float | None, now: float
    ) -> None:
        # A lease ends as most do: the same as `_put` does at length.
        conversation, deadline = row.conversation, row.fresh_until
        if deadline_in_s is not None:
            at = now + deadline_in_s
            if at < deadline or state != "idle":
                deadline = at
        row.deadline = deadline
        self.entries.give_back(row, state, op, now)
        if deadline < row.queued:
            self._deadlines.queue(row, deadline)
        if conversation is not None and self.waiting.by_request:
            self.waiting.promote(conversation)

    def _put(self, put: Put, now: float) -> Done | NotDone:
        (
            _, entry_id, op, state, version, fence, facts, deadline_in_s, expires_in_s, fresh_in_s,
            rid, agent_version, pinned, unbind, guards, tally,
        ) = put  # fmt: skip
        row, counts = self._rows.get(entry_id), self.counts
        if (
            row is not None
            and fence is not None
            and (expires_in_s is None and fresh_in_s is None and rid is None)
            and (agent_version is None and pinned is None and not unbind)
            and not guards
            and not tally
            and (state == "idle" or state == "parked")
            and row.held(self.key, fence, op, now)
        ):
            self._give_back(row, op, state, deadline_in_s, now)
            if facts is not None:
                row.facts = facts
            return _done(Done, (row.entry(), counts))
        if row is None or row.key is not self.key:
            if row is not None or version is not None or fence is not None:
                return NotDone("absent", counts)
        elif row.op == op:
            return Done(row.entry(), counts)
        elif fence is not None:
            if row.fence != fence or row.state != "leased":
                return NotDone("changed", counts)
            if row.lapses <= now:
                return NotDone("lapsed", counts)
        elif row.version != version:
            return NotDone("changed", counts)
        if state == "leased" and (row is None or row.state != "leased"):  # only a take leases
            return NotDone("changed", counts)
        if guards and not all(map(self._holds, guards)):
            return NotDone("guard", counts)
        for name, amount in tally:
            counts.tally[name] = counts.tally.get(name, 0) + amount
        conversation = row.conversation if row is not None else None
        if state is None:
            if row is not None:
                self.entries.delete(row)
                self.waiting.promote(conversation)
            return Done(None, counts)
        if row is None:
            row = self.entries.insert(put, state, now)
        else:
            self.entries.change(row, put, state, now)
            self.waiting.promote(conversation)
        if row.deadline < row.queued:
            self._deadlines.queue(row, row.deadline)
        return _done(Done, (row.entry(), counts))

    def note(self, version: int, note: Note, now: float, *, open_: bool) -> Noted:
        """See `Store.note`; everybody in line is told."""
        if self.waiting.ends <= now:
            self.settle(now)
        if self.note_version == version:
            self._note, self._note_since, self._open = note, now, open_
            self.note_version += 1
            for waiter in self.waiting.by_request.values():  # none of whom is granted anything
                self._tell(waiter)
            self.serve(now)
        return self.noted(now)

    def noted(self, now: float) -> Noted:
        """The note as it stands."""
        return Noted(self._note, self.note_version, now - self._note_since, self._open)

    def _holds(self, guard: Guard) -> bool:
        return sum(map(self._count, guard.plus)) - sum(map(self._count, guard.minus)) <= guard.most

    def _count(self, name: str) -> int:
        if name == "new":
            return self.counts.new
        return self.counts.waiting if name == "waiting" else self.entries.count.get(name, 0)
