"""A history: an engine and the naive model side by side, and the invariants after each step.

Several processes, conversations, wishes and versions; requests repeated, withdrawn and forgotten;
holders that are late; keepers that are stale. Every answer, entry, count and doorbell is compared.
What happens next is up to whoever picks: hypothesis, or a seed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from session_pool.model import FOREVER, Counts, Entry, Facts, State
from session_pool.space import Done, Grant, Note, Put, Want
from session_pool.stores.base import LocalStore
from tests.stores.model import Model
from tests.stores.scene import KEY, START, Engine, guard, want

T = TypeVar("T")

Pick = Callable[..., Any]
"""Chooses one of what it is given."""

SECONDS: Sequence[float | None] = (None, None, 0.0, 0.5, 5.0, 30.0, 100.0, 1000.0)
AFTER: Sequence[State | None] = (
    "idle", "parked", "leased", "ageing", "quarantined", "retiring", "gone", None,
)  # fmt: skip


class History:
    """One engine against the model."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.store = self.engine.store
        self.runner = asyncio.Runner()
        self.runner.run(self.store.open())
        self.model = Model(START)
        self.rung: list[str] = []
        self.store.watch(self.rung.append)
        self.granted: list[Grant] = []
        self.puts: list[Put] = []
        self.seen: list[Entry] = []
        self.asked: dict[str, Want] = {}
        self.made = 0

    def close(self) -> None:
        """The engine goes with its loop."""
        self.runner.run(self.store.aclose())
        self.runner.close()

    def answer(self, asked: Coroutine[Any, Any, T]) -> T:
        """What the engine answers."""
        return self.runner.run(asked)

    def agree(self, theirs: Any, ours: Any, *, asking: str = "") -> None:
        """Compare two answers, and the bells: who has news must hear of it, but for the asker."""
        assert isinstance(theirs, type(ours))  # live counts are counts
        assert _plain(theirs) == _plain(ours)
        self.runner.run(self.engine.hear())
        present = {waiter.request for waiter in self.model.line} - {asking}
        assert present & set(self.rung) == present & set(self.model.rung)
        self.rung.clear()
        self.model.rung.clear()

    # ------------------------------------------------------------------ what happens most

    def come(self, pick: Pick) -> None:
        """Somebody new, or several in a row who want the same."""
        talk = pick(None, "k1", "k2")
        asked = want(
            talk,
            wish=pick(0.0, 0.0, 0.0, 0.0, 50.0),
            version=pick(None, None, None, None, None, "1.0", "2.0"),
            ttl=pick(FOREVER, FOREVER, 5.0),
            cap=pick(3, 3, 3, 2, 1),
            line=pick(9, 9, 9, 3, 0),
            holder=pick("p1", "p2"),
            own_only=pick(False, False, False, True) and talk is not None,
        )
        stale = pick(False, False, False, True)
        for _ in range(pick(1, 1, 2, 3)):
            self.take(asked, self.request(asked), pick(FOREVER, 30.0, 5.0, 0.0), stale=stale)

    def let_go(self, pick: Pick) -> None:
        """A lease ends, as most do."""
        leased = [entry for entry in self.model.entries.values() if entry.state == "leased"]
        if leased:
            entry, state = pick(*leased), pick("parked", "idle", "gone", None)
            put = Put(KEY, entry.id, self.op(), state, None, entry.fence, None, 50.0)
            short = isinstance(self.store, LocalStore) and state in ("idle", "parked")
            if short and pick(True, True, False):
                self.give_back_nowait(put, entry.fence)
            else:
                self.put(put)

    def relay(self, pick: Pick) -> None:
        """A crowd without conversations, and what is leased goes from hand to hand."""
        asked = want(wish=pick(0.0, 0.0, 50.0), cap=2, line=9)
        for _ in range(pick(2, 3)):
            self.take(asked, self.request(asked), pick(30.0, FOREVER))
        leased = [entry for entry in self.model.entries.values() if entry.state == "leased"]
        for entry in leased:
            put = Put(KEY, entry.id, self.op(), "idle", None, entry.fence, None, 50.0)
            if isinstance(self.store, LocalStore):
                self.give_back_nowait(put, entry.fence)
            else:
                self.put(put)

    def losses(self, pick: Pick) -> None:
        """A conversation loses what it has, and begins anew, some times over."""
        asked = want(pick("k1", "k2"), cap=9)
        for _ in range(pick(2, 3)):
            self.take(asked, self.request(asked), 30.0)
            own = self.model.own(asked.conversation)
            if own is not None and own.state == "leased":
                state = pick("gone", "retiring", "parked")
                self.put(Put(KEY, own.id, self.op(), state, None, own.fence, None, 50.0))

    def ask_again(self, pick: Pick) -> None:
        """Somebody in line, or granted there, says that it is there."""
        if self.model.line:
            waiter = pick(*self.model.line)
            self.take(waiter.want, waiter.request, 30.0)

    def supply(self, pick: Pick) -> None:
        """A session is made."""
        version, expires = pick("1.0", "2.0"), pick(1000.0, 100.0, 30.0)
        put = _made(pick(*"abcdefgh"), self.op(), expires)
        self.put(put._replace(agent_version=version, pinned=pick(False, False, True)))

    def advance(self, pick: Pick) -> None:
        """Time passes."""
        seconds = pick(0.5, 0.5, 4.5, 5.0, 30.0, 500.0)
        self.engine.advance(seconds)
        self.model.now += seconds

    def meddle(self, pick: Pick) -> None:
        """Something rarer."""
        pick(
            self.repeat, self.take_instead, self.withdraw, self.give_back, self.keep, self.claim,
            self.write_down, self.put_again, self.renew, self.due, self.write_note, self.read,
            self.find,
        )(pick)  # fmt: skip

    # ------------------------------------------------------------------ asking

    def repeat(self, pick: Pick) -> None:
        """A request arrives again, whatever has become of it."""
        if self.asked:
            request = pick(*self.asked)
            patience = pick(0.0, 5.0, 30.0)
            self.take(self.asked[request], request, patience, stale=pick(False, True))

    def take_instead(self, pick: Pick) -> None:
        """What was granted is found dead: give it up and keep the place."""
        if self.granted:
            grant, state = pick(*self.granted), pick("gone", "retiring", None)
            put = Put(KEY, grant.entry.id, self.op(), state, fence=grant.entry.fence)
            asked = want(grant.entry.conversation, cap=pick(1, 2, 3), line=3)
            self.take(asked, self.request(asked), 30.0, place=grant.place, instead=put)

    def withdraw(self, pick: Pick) -> None:
        """Take a request back: one in line, one that holds something, or one that is over."""
        held = [entry.lease for entry in self.model.entries.values() if entry.lease]
        request = pick("unheard", *list(self.asked)[-4:], *held)
        theirs = self.answer(self.store.withdraw(KEY, request))
        self.agree(theirs, self.model.withdraw(request))
        if request in self.asked and pick(True, False):  # its take was on the way, and comes now
            self.take(self.asked[request], request, 30.0)

    def take(
        self, asked: Want, request: str, patience: float, *, stale: bool = False,
        place: int | None = None, instead: Put | None = None,
    ) -> None:  # fmt: skip
        """Ask both."""
        known = self.model.note.version - stale
        theirs = self.answer(
            self.store.take(
                asked, request, patience_s=patience, note_version=known, place=place,
                instead=instead,
            )
        )  # fmt: skip
        if isinstance(theirs, Grant):
            self.granted = [*self.granted[-5:], theirs]
        ours = self.model.take(asked, request, patience, known, place, instead)
        self.agree(theirs, ours, asking=request)

    def request(self, asked: Want) -> str:
        """The id of a new request."""
        request = f"r{len(self.asked):03}"
        self.asked[request] = asked
        return request

    # ------------------------------------------------------------------ changing

    def give_back(self, pick: Pick) -> None:
        """A holder ends its lease, or writes down what it does; sometimes late, or twice."""
        if self.granted:
            entry, state = pick(*self.granted).entry, pick(*AFTER)
            put = Put(
                KEY, entry.id, self.op(), state, fence=entry.fence, deadline_in_s=pick(*SECONDS),
                expires_in_s=pick(*SECONDS), fresh_in_s=pick(*SECONDS),
                unbind=state in (None, "gone") and pick(False, True),
                facts=pick(None, Facts(exchanges=self.made)), tally=(("back", 1),),
            )  # fmt: skip
            for _ in range(pick(1, 2)):
                self.put(put)

    def keep(self, pick: Pick) -> None:
        """A keeper changes what it has seen, now or some time ago."""
        entries = [*self.model.entries.values(), *self.seen]
        if entries:
            entry, state = pick(*entries), pick(*AFTER, "unsettled")
            now = self.model.entries.get(entry.id)
            if now is None or not (_holds(state) and now.state in ("retiring", "gone")):
                # The rules never give a conversation back what has left it once.
                put = Put(KEY, entry.id, self.op(), state, version=entry.version)
                self.put(put._replace(deadline_in_s=pick(*SECONDS), expires_in_s=pick(*SECONDS)))

    def give_back_nowait(self, put: Put, fence: int) -> None:
        """The short way of a put."""
        assert isinstance(self.store, LocalStore)
        assert put.state == "idle" or put.state == "parked"
        ours = self.model.put(put)
        theirs = self.store.give_back_nowait(KEY, put.id, fence, put.op, put.state, 50.0)
        self.agree(theirs, ours.counts if isinstance(ours, Done) else None)

    def write_down(self, pick: Pick) -> None:
        """A holder writes down what it does, and goes on."""
        leased = [entry for entry in self.model.entries.values() if entry.state == "leased"]
        if leased:
            entry, facts = pick(*leased), Facts(exchanges=self.made)
            put = Put(KEY, entry.id, self.op(), "leased", None, entry.fence, facts)
            self.put(put._replace(expires_in_s=pick(None, 100.0)))

    def claim(self, pick: Pick) -> None:
        """A creation is claimed, if the guards let it."""
        guards = (guard("creating", "idle", minus=["new"], most=1), guard("waiting", most=4))
        name, state = pick(*"xyz"), pick("creating", "unsettled", "chore")
        self.put(Put(KEY, name, self.op(), state, guards=guards, tally=(("claimed", 1),)))

    def put_again(self, pick: Pick) -> None:
        """A put arrives a second time, some time later."""
        if self.puts:
            self.put(pick(*self.puts))

    def put(self, put: Put) -> None:
        """Change both."""
        self.puts = [*self.puts[-5:], put]
        self.seen = [*self.seen[-5:], *(e for e in self.model.entries.values() if e.id == put.id)]
        self.agree(self.answer(self.store.put(put)), self.model.put(put))

    def op(self) -> str:
        """The id of a new put."""
        self.made += 1
        return f"op{self.made}"

    # ------------------------------------------------------------------ upkeep, and looking

    def renew(self, pick: Pick) -> None:
        """A process prolongs its leases, some of which may not be its own any more."""
        leases = [(grant.entry.id, grant.entry.fence) for grant in self.granted]
        holder, ttl = pick("p1", "p2"), pick(5.0, 30.0, FOREVER)
        theirs = self.answer(self.store.renew(holder, leases, ttl))
        self.agree(list(theirs), self.model.renew(holder, leases, ttl))

    def due(self, pick: Pick) -> None:
        """Upkeep claims what is due."""
        limit, for_s = pick(1, 2, 5), pick(0.5, 10.0, 200.0)
        theirs = self.answer(self.store.due("keeper", limit=limit, for_s=for_s))
        self.agree(theirs, self.model.due(limit, for_s))

    def write_note(self, pick: Pick) -> None:
        """News of the key; one that is closed is opened by the next."""
        version, note = self.model.note.version - pick(0, 1), Note(early_death_s=float(self.made))
        open_ = not self.model.note.open or pick(True, False)
        theirs = self.answer(self.store.note(KEY, version, note, open_=open_))
        self.agree(theirs, self.model.write_note(version, note, open_=open_))

    def read(self, pick: Pick) -> None:
        """Counts and note."""
        theirs = self.answer(self.store.read(KEY))
        self.model.settle()
        self.agree(theirs, (self.model.counts(), self.model.noted()))

    def find(self, pick: Pick) -> None:
        """What a conversation has and had, the latest first."""
        talk = pick("k1", "k2")
        theirs = self.answer(self.store.find(KEY, conversation=talk))
        self.model.settle()
        own = self.model.own(talk)
        remembered = [self.model.entries[name] for name in reversed(self.model.remembered)]
        had = [entry for entry in remembered if entry.conversation == talk]
        self.agree(list(theirs), [*([own] if own is not None else []), *had])

    def check(self) -> None:
        """Entries one by one, in the order of their time in their state; and the store's parts."""
        found = list(self.answer(self.store.find(KEY, limit=1000)))
        self.model.settle()
        self.agree(
            sorted(found, key=lambda entry: entry.id),
            sorted(self.model.entries.values(), key=lambda entry: entry.id),
        )
        assert [entry.since for entry in found] == sorted(entry.since for entry in found)
        self.engine.check()


def _made(entry_id: str, op: str, expires_s: float) -> Put:
    return Put(
        KEY, entry_id, op, "idle", rid=f"rid-{entry_id}", agent_version="1.0",
        expires_in_s=expires_s, tally=(("created", 1),),
    )  # fmt: skip


def _holds(state: State | None) -> bool:
    return state not in (None, "retiring", "gone", "idle", "ageing")


def _plain(answer: Any) -> Any:
    """An answer with its counts as plain numbers, those that are zero left out."""
    if isinstance(answer, Counts):
        states = {state: number for state, number in answer.states.items() if number}
        return (states, answer.waiting, answer.new, answer.tally)
    return tuple(map(_plain, answer)) if isinstance(answer, tuple) else answer
