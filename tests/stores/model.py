"""What a store should do, written in the most naive way: one key, lists and scans, no indexes.

It is compared with the engines answer by answer and entry by entry. Where two readings of the
protocol are possible, this is the one that counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from session_pool.model import FOREVER, Counts, Entry
from session_pool.space import Done, Due, Grant, NotDone, Note, Noted, Put, Refusal, Ticket, Want
from tests.stores.naive import FREE, KEY, blank, changed

MEMORIES = ("retiring", "gone")


@dataclass
class Standing:
    """A request that waits, or that has not fetched what became of it."""

    want: Want
    request: str
    place: int
    patience: float
    granted: str | None = None
    verdict: str | None = None

    @property
    def turn(self) -> tuple[int, str]:
        """Its turn among the others."""
        return (self.place, self.request)


@dataclass
class Model:
    """A store of one key."""

    now: float
    entries: dict[str, Entry] = field(default_factory=dict)
    former: dict[str, Entry] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)
    remembered: list[str] = field(default_factory=list)
    line: list[Standing] = field(default_factory=list)
    tombstones: dict[str, float] = field(default_factory=dict)
    tally: dict[str, int] = field(default_factory=dict)
    rung: list[str] = field(default_factory=list)
    note: Noted = field(default_factory=lambda: Noted(Note(), 0, 0.0, True))
    noted_at: float = 0.0
    cap: int = 0
    most_waiting: int = 0
    last_place: int = 0

    # ------------------------------------------------------------------ what holds now

    def standing(self) -> list[Standing]:
        """Those in line, in their order."""
        waiting = [w for w in self.line if w.granted is None and w.verdict is None]
        return sorted(waiting, key=lambda w: w.turn)

    def own(self, conversation: str | None) -> Entry | None:
        """The session that a conversation has."""
        for entry in self.entries.values():
            bound = conversation is not None and entry.conversation == conversation
            if bound and entry.state not in MEMORIES:
                return entry
        return None

    def before(self, conversation: str | None) -> Entry | None:
        """The memory that a conversation has: of the session that left it last."""
        for entry_id in reversed(self.remembered):
            if conversation is not None and self.entries[entry_id].conversation == conversation:
                return self.entries[entry_id]
        return None

    def leased(self) -> int:
        """How many are leased."""
        return sum(entry.state == "leased" for entry in self.entries.values())

    def first_of_its_conversation(self, waiter: Standing) -> bool:
        """Whether nobody of the same conversation stands before it."""
        talk = waiter.want.conversation
        return talk is None or waiter is next(
            w for w in self.standing() if w.want.conversation == talk
        )

    def fitting(self, want: Want) -> Entry | None:
        """What a want could have."""
        own = self.own(want.conversation)
        if own is not None:
            return own if own.state == "parked" else None
        fitting = [
            entry
            for entry in self.entries.values()
            if entry.state in FREE
            and entry.expires >= self.now + want.wish_s
            and (
                not entry.pinned
                if want.agent_version is None
                else entry.agent_version == want.agent_version
            )
        ]
        return min(fitting, key=lambda entry: (entry.expires, entry.id), default=None)

    def conflict(self, want: Want) -> str | None:
        """Why waiting is in vain."""
        own = self.own(want.conversation)
        if want.conversation is None:
            return None
        if own is None:
            return "empty" if want.own_only else None
        return "version" if want.agent_version not in (None, own.agent_version) else None

    def need(self, conversation: str | None) -> str:
        """What a request waits for."""
        own = self.own(conversation)
        if own is not None and own.state != "parked":
            return "own"
        if self.leased() >= self.cap:
            return "room"
        return "new" if own is None else "own"

    def counts(self) -> Counts:
        """The counts, counted."""
        states: dict[str, int] = {}
        for entry in self.entries.values():
            states[entry.state] = states.get(entry.state, 0) + 1
        standing = self.standing()
        new = [
            w
            for w in standing
            if self.own(w.want.conversation) is None and self.first_of_its_conversation(w)
        ]
        room = max(0, self.cap - self.leased())
        return Counts(states, len(standing), min(len(new), room), dict(self.tally))

    def noted(self) -> Noted:
        """The note."""
        return self.note._replace(age_s=self.now - self.noted_at)

    # ------------------------------------------------------------------ what happens

    def write(self, entry: Entry | None, entry_id: str) -> None:
        """Put an entry in its place."""
        was = self.entries.get(entry_id)
        if entry is None:
            self.entries.pop(entry_id, None)
        else:
            self.entries[entry_id] = entry
        held = was is not None and was.state in MEMORIES and was.conversation is not None
        holds = entry is not None and entry.state in MEMORIES and entry.conversation is not None
        if held and not holds:
            self.remembered.remove(entry_id)
        if holds and not held:
            self.remembered.append(entry_id)

    def lease(self, entry: Entry, want: Want, request: str, place: int) -> None:
        """Hand an entry out."""
        self.former[entry.id], self.places[entry.id] = entry, place
        lapses = self.now + want.ttl_s
        held = entry._replace(
            state="leased", version=entry.version + 1, fence=entry.fence + 1, holder=want.holder,
            conversation=want.conversation, lease=request, lapses=lapses, since=self.now,
            deadline=lapses, op=request,
        )  # fmt: skip
        self.write(held, entry.id)

    def grant(self, entry: Entry) -> Grant:
        """The answer to whoever has it."""
        before, place = self.before(entry.conversation), self.places[entry.id]
        return Grant(entry, place, before, self.now, self.counts(), self.note.version)

    def undo(self, entry: Entry) -> None:
        """Take a hand-out back."""
        former = self.former[entry.id]
        version, fence = entry.version + 1, entry.fence
        back = former._replace(version=version, fence=fence, since=self.now, op="")
        self.write(back, entry.id)

    def leave(self, waiter: Standing) -> None:
        """A request goes, and with it what it was granted."""
        self.line.remove(waiter)
        entry = self.entries.get(waiter.granted or "")
        if entry is not None and entry.lease == waiter.request:
            self.undo(entry)

    def serve(self) -> None:
        """Grant what can be granted, the earliest first; tell who waits in vain."""
        while True:
            for waiter in self.standing():
                if self.first_of_its_conversation(waiter) and self.conflict(waiter.want):
                    waiter.verdict = self.conflict(waiter.want)
                    self.rung.append(waiter.request)
                    break
            else:
                break
        if not self.note.open:
            return
        for waiter in self.standing():
            entry = self.fitting(waiter.want)
            if (
                self.leased() < self.cap
                and entry is not None
                and self.first_of_its_conversation(waiter)
            ):
                self.lease(entry, waiter.want, waiter.request, waiter.place)
                waiter.granted = entry.id
                self.rung.append(waiter.request)
                self.serve()
                return

    def settle(self) -> None:
        """Silent ones leave."""
        for waiter in [w for w in self.line if w.patience <= self.now]:
            self.leave(waiter)
        self.serve()

    # ------------------------------------------------------------------ the operations

    def take(
        self, want: Want, request: str, patience_s: float, known: int, place: int | None,
        instead: Put | None,
    ) -> Grant | Ticket | Refusal:  # fmt: skip
        """See `Store.take`."""
        self.settle()
        if instead is not None:
            self.change(instead)
        self.cap, self.most_waiting = want.max_leased, want.max_waiting
        waiting = next((w for w in self.line if w.request == request), None)
        if waiting is not None:
            answer = self.again(waiting, patience_s, known)
        else:
            answer = self.arrive(want, request, patience_s, known, place)
        self.serve()
        return answer._replace(counts=self.counts())

    def arrive(
        self, want: Want, request: str, patience_s: float, known: int, place: int | None
    ) -> Grant | Ticket | Refusal:
        """A request that is not in line."""
        held = next((e for e in self.entries.values() if e.lease == request), None)
        if self.tombstones.get(request, self.now) > self.now:
            return self.refuse("withdrawn")
        if held is not None:
            return self.grant(held) if held.lapses > self.now else self.refuse("withdrawn")
        if not self.note.open:
            return self.refuse("closed")
        if self.conflict(want) is not None:
            return self.refuse(self.conflict(want))
        known_place = place is not None
        if place is None:
            self.last_place += 1
            place = self.last_place
        waiter = Standing(want, request, place, self.now + patience_s)
        self.line.append(waiter)
        self.serve()
        if waiter.granted is not None:
            self.line.remove(waiter)
            return self.grant(self.entries[waiter.granted])
        need, why = self.need(want.conversation), None
        if known != self.note.version:
            why = "note"
        elif patience_s <= 0:
            why = "empty"
        elif len(self.standing()) > self.most_waiting and not known_place:
            why = "full"
        if why is not None:
            self.leave(waiter)
            return self.refuse(why, need)
        return Ticket(place, need, self.counts(), self.note.version)  # type: ignore[arg-type]

    def again(self, waiter: Standing, patience_s: float, known: int) -> Grant | Ticket | Refusal:
        """A request that was in line."""
        entry = self.entries.get(waiter.granted or "")
        if waiter.granted is not None:
            held = entry is not None and entry.lease == waiter.request
            if not held or (entry is not None and entry.lapses <= self.now):
                waiter.granted = None
                if entry is not None and held:
                    self.undo(entry)
        if waiter.granted is None:
            self.serve()
        if waiter.granted is not None:
            self.line.remove(waiter)
            return self.grant(self.entries[waiter.granted])
        need = self.need(waiter.want.conversation)
        why = waiter.verdict or self.conflict(waiter.want) or ("empty" if patience_s <= 0 else None)
        if why is not None:
            self.leave(waiter)
            return self.refuse(why, need)
        waiter.patience = self.now + patience_s
        if known != self.note.version:
            return self.refuse("note", need)
        return Ticket(waiter.place, need, self.counts(), self.note.version)  # type: ignore[arg-type]

    def refuse(self, why: str | None, need: str = "new") -> Refusal:
        """No."""
        return Refusal(why, self.counts(), self.noted(), need)  # type: ignore[arg-type]

    def put(self, put: Put) -> Done | NotDone:
        """See `Store.put`."""
        self.settle()
        answer = self.change(put)
        self.serve()
        return answer._replace(counts=self.counts())

    def change(self, put: Put) -> Done | NotDone:
        """One change, if it may be."""
        entry, counts = self.entries.get(put.id), self.counts()
        if entry is None:
            if (put.version, put.fence) != (None, None):
                return NotDone("absent", counts)
        elif entry.op == put.op:
            return Done(entry, counts)
        elif put.fence is not None:
            if entry.state != "leased" or entry.fence != put.fence:
                return NotDone("changed", counts)
            if entry.lapses <= self.now:
                return NotDone("lapsed", counts)
        elif entry.version != put.version:
            return NotDone("changed", counts)
        if put.state == "leased" and (entry is None or entry.state != "leased"):
            return NotDone("changed", counts)
        numbers = {**counts.states, "waiting": counts.waiting, "new": counts.new}
        for guard in put.guards:
            plus = sum(numbers.get(name, 0) for name in guard.plus)
            if plus - sum(numbers.get(name, 0) for name in guard.minus) > guard.most:
                return NotDone("guard", counts)
        for name, amount in put.tally:
            self.tally[name] = self.tally.get(name, 0) + amount
        after = changed(entry or blank(put.id, self.now), put, self.now) if put.state else None
        self.write(after, put.id)
        return Done(after, self.counts())

    def withdraw(self, request: str) -> Counts:
        """See `Store.withdraw`."""
        self.settle()
        self.tombstones[request] = self.now + 60
        waiting = next((w for w in self.line if w.request == request), None)
        held = next((e for e in self.entries.values() if e.lease == request), None)
        if waiting is not None:
            self.leave(waiting)
        elif held is not None:
            self.undo(held)
        self.serve()
        return self.counts()

    def renew(self, holder: str, leases: list[tuple[str, int]], ttl_s: float) -> list[bool]:
        """See `Store.renew`."""
        answers = []
        for entry_id, fence in leases:
            entry = self.entries.get(entry_id)
            held = entry is not None and (entry.holder, entry.fence) == (holder, fence)
            alive = entry is not None and held and self.now < entry.lapses
            if entry is not None and alive:
                lapses = self.now + ttl_s
                self.entries[entry_id] = entry._replace(lapses=lapses, deadline=lapses)
            answers.append(alive)
        return answers

    def due(self, limit: int, for_s: float) -> Due:
        """See `Store.due`."""
        found = [entry for entry in self.entries.values() if entry.deadline <= self.now]
        found = sorted(found, key=lambda entry: (entry.deadline, entry.id))[:limit]
        for entry in found:
            self.entries[entry.id] = entry._replace(deadline=self.now + for_s)
        soonest = min((entry.deadline for entry in self.entries.values()), default=FOREVER)
        claimed = tuple((KEY, entry) for entry in found)
        return Due(claimed, self.now, max(0.0, soonest - self.now))

    def write_note(self, version: int, note: Note, *, open_: bool) -> Noted:
        """See `Store.note`."""
        self.settle()
        if version == self.note.version:
            self.note, self.noted_at = Noted(note, version + 1, 0.0, open_), self.now
            self.rung += [waiter.request for waiter in self.line]
            self.serve()
        return self.noted()
