"""Random histories: an engine and the naive model side by side, and the invariants after each step.

Several processes, conversations, wishes and versions; requests repeated, withdrawn and forgotten;
holders that are late; keepers that are stale. Every answer, entry, count and doorbell is compared.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from session_pool.model import FOREVER, Counts, Entry, Facts, State
from session_pool.space import Grant, Note, Put, Want
from tests.stores.model import Model
from tests.stores.scene import ENGINES, KEY, START, Engine, guard, want

T = TypeVar("T")

QUICK = settings(
    max_examples=60,
    stateful_step_count=50,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)

REQUESTS = st.integers(0, 11).map(lambda number: f"r{number}")
TALKS = st.sampled_from([None, None, "k1", "k2"])
STATES = st.sampled_from(["idle", "idle", "ageing", "creating", "quarantined", "unsettled"])
AFTER: st.SearchStrategy[State | None] = st.sampled_from(
    ["idle", "idle", "parked", "parked", "leased", "quarantined", "retiring", "gone", None]
)
SECONDS = st.sampled_from([0.0, 0.5, 5.0, 30.0, 100.0, 1000.0])
MAYBE = st.none() | SECONDS


class Histories(RuleBasedStateMachine):
    """One engine against the model."""

    engine_name = "memory"

    def __init__(self) -> None:
        super().__init__()
        self.engine: Engine = ENGINES[self.engine_name]()
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
        self.ops = 0

    def teardown(self) -> None:
        """The engine goes with its loop."""
        self.runner.run(self.store.aclose())
        self.runner.close()

    def run_store(self, asked: Coroutine[Any, Any, T]) -> T:
        """What the engine answers."""
        return self.runner.run(asked)

    def agree(self, theirs: Any, ours: Any, *, asking: str = "") -> None:
        """Compare two answers, and the bells rung on the way; the asker need not be rung."""
        assert type(theirs) is type(ours)
        assert _plain(theirs) == _plain(ours)
        assert {r for r in self.rung if r != asking} == {r for r in self.model.rung if r != asking}
        self.rung.clear()
        self.model.rung.clear()

    # ------------------------------------------------------------------ asking

    @rule(
        request=REQUESTS, talk=TALKS, wish=st.sampled_from([0.0, 0.0, 50.0]),
        version=st.sampled_from([None, None, None, "1.0", "2.0"]),
        ttl=st.sampled_from([FOREVER, 5.0, 30.0]), cap=st.integers(1, 4), line=st.integers(0, 6),
        patience=st.sampled_from([0.0, 5.0, 5.0, 30.0, FOREVER]), stale=st.booleans(),
        own_only=st.sampled_from([False, False, False, True]),
        holder=st.sampled_from(["p1", "p2"]),
    )  # fmt: skip
    def take(
        self, request: str, talk: str | None, wish: float, version: str | None, ttl: float,
        cap: int, line: int, patience: float, stale: bool, own_only: bool, holder: str,
    ) -> None:  # fmt: skip
        """Ask anew, or again: a process asks for the same thing under the same id."""
        asked = want(
            talk, version=version, wish=wish, ttl=ttl, cap=cap, line=line, holder=holder,
            own_only=own_only and talk is not None,
        )  # fmt: skip
        asked = self.asked.setdefault(request, asked)._replace(max_leased=cap, max_waiting=line)
        self._take(asked, request, patience, stale=stale, place=None, instead=None)

    @rule(data=st.data())
    def ask_again(self, data: st.DataObject) -> None:
        """Somebody in line, or granted there, says that it is there."""
        if self.model.line:
            waiter = data.draw(st.sampled_from(self.model.line))
            self._take(waiter.want, waiter.request, 30.0, stale=False, place=None, instead=None)

    @rule(data=st.data(), request=REQUESTS, state=st.sampled_from(["gone", "retiring", None]))
    def take_another_instead(self, data: st.DataObject, request: str, state: State | None) -> None:
        """What was granted is found dead: give it up and keep the place."""
        if self.granted:
            grant = data.draw(st.sampled_from(self.granted))
            put = Put(KEY, grant.entry.id, self._op(), state, fence=grant.entry.fence)
            free = grant.entry.conversation
            asked = self.asked.setdefault(request, want(free, cap=3, line=3))
            self._take(asked, request, 30.0, stale=False, place=grant.place, instead=put)

    @rule(request=REQUESTS)
    def withdraw(self, request: str) -> None:
        """Take a request back."""
        theirs = self.run_store(self.store.withdraw(KEY, request))
        self.agree(theirs, self.model.withdraw(request))

    def _take(
        self, asked: Want, request: str, patience: float, *, stale: bool, place: int | None,
        instead: Put | None,
    ) -> None:  # fmt: skip
        known = self.model.note.version - stale
        theirs = self.run_store(
            self.store.take(
                asked, request, patience_s=patience, note_version=known, place=place,
                instead=instead,
            )
        )  # fmt: skip
        ours = self.model.take(asked, request, patience, known, place, instead)
        if isinstance(theirs, Grant):
            self.granted = [*self.granted[-5:], theirs]
        self.agree(theirs, ours, asking=request)

    # ------------------------------------------------------------------ changing

    @rule(
        data=st.data(), state=AFTER, deadline=MAYBE, fresh=MAYBE, expires=MAYBE,
        unbind=st.booleans(), used=st.booleans(), repeat=st.booleans(),
    )  # fmt: skip
    def give_back(
        self, data: st.DataObject, state: State | None, deadline: float | None,
        fresh: float | None, expires: float | None, unbind: bool, used: bool, repeat: bool,
    ) -> None:  # fmt: skip
        """A holder ends its lease, or writes down what it does; sometimes late or twice."""
        if not self.granted:
            return
        entry = data.draw(st.sampled_from(self.granted)).entry
        put = Put(
            KEY, entry.id, self._op(), state, fence=entry.fence, deadline_in_s=deadline,
            expires_in_s=expires, fresh_in_s=fresh, unbind=unbind and state in (None, "gone"),
            facts=Facts(exchanges=self.ops) if used else None, tally=(("back", 1),) if used else (),
        )  # fmt: skip
        self._put(put)
        if repeat:
            self._put(put)

    @rule(data=st.data(), state=AFTER | STATES, deadline=MAYBE, expires=MAYBE)
    def keep(
        self, data: st.DataObject, state: Any, deadline: float | None, expires: float | None
    ) -> None:
        """A keeper changes what it has seen, now or some time ago."""
        entries = [*self.model.entries.values(), *self.seen]
        if entries:
            entry = data.draw(st.sampled_from(entries))
            if self._may_bind(entry, state):
                self._put(
                    Put(
                        KEY, entry.id, self._op(), state, version=entry.version,
                        deadline_in_s=deadline, expires_in_s=expires,
                    )
                )  # fmt: skip

    @rule(
        name=st.sampled_from("abcde"), state=STATES, expires=SECONDS,
        version=st.sampled_from(["1.0", "2.0"]), pinned=st.booleans(), deadline=MAYBE,
        guarded=st.booleans(),
    )  # fmt: skip
    def insert(
        self, name: str, state: State, expires: float, version: str, pinned: bool,
        deadline: float | None, guarded: bool,
    ) -> None:  # fmt: skip
        """A session is made, or claimed."""
        guards = (guard("creating", "idle", minus=["new"], most=1), guard("waiting", most=4))
        self._put(
            Put(
                KEY, name, self._op(), state, rid=f"rid-{name}", agent_version=version,
                pinned=pinned, expires_in_s=expires, deadline_in_s=deadline,
                guards=guards if guarded else (), tally=(("created", 1),),
            )
        )  # fmt: skip

    @rule(data=st.data())
    def put_again(self, data: st.DataObject) -> None:
        """A put arrives a second time, some time later."""
        if self.puts:
            self._put(data.draw(st.sampled_from(self.puts)))

    def _put(self, put: Put) -> None:
        self.puts = [*self.puts[-5:], put]
        self.seen = [*self.seen[-5:], *(e for e in self.model.entries.values() if e.id == put.id)]
        self.agree(self.run_store(self.store.put(put)), self.model.put(put))

    def _op(self) -> str:
        self.ops += 1
        return f"op{self.ops}"

    def _may_bind(self, entry: Entry, state: State | None) -> bool:
        # The rules never give a conversation back what has left it once.
        now = self.model.entries.get(entry.id)
        holds = state not in (None, "retiring", "gone", "idle", "ageing")
        return now is None or not (holds and now.state in ("retiring", "gone"))

    # ------------------------------------------------------------------ time

    @rule(seconds=st.sampled_from([0.5, 4.5, 5.0, 30.0, 60.0, 500.0]))
    def advance(self, seconds: float) -> None:
        """Time passes."""
        self.engine.advance(seconds)
        self.model.now += seconds

    @rule(data=st.data(), ttl=st.sampled_from([5.0, 30.0, FOREVER]))
    def renew(self, data: st.DataObject, ttl: float) -> None:
        """A process prolongs its leases, some of which may not be its own any more."""
        if self.granted:
            held = data.draw(st.lists(st.sampled_from(self.granted), max_size=3))
            leases = [(grant.entry.id, grant.entry.fence) for grant in held]
            theirs = self.run_store(self.store.renew("p1", leases, ttl))
            self.agree(list(theirs), self.model.renew("p1", leases, ttl))

    @rule(limit=st.integers(1, 5), for_s=st.sampled_from([0.5, 10.0, 200.0]))
    def due(self, limit: int, for_s: float) -> None:
        """Upkeep claims what is due."""
        theirs = self.run_store(self.store.due("keeper", limit=limit, for_s=for_s))
        self.agree(theirs, self.model.due(limit, for_s))

    # ------------------------------------------------------------------ note and look

    @rule(stale=st.booleans(), open_=st.sampled_from([True, True, False]))
    def write_note(self, stale: bool, open_: bool) -> None:
        """News of the key."""
        version, note = self.model.note.version - stale, Note(early_death_s=float(self.ops))
        theirs = self.run_store(self.store.note(KEY, version, note, open_=open_))
        ours = self.model.write_note(version, note, open_=open_)
        self.agree(theirs, ours)
        if not self.model.note.open and stale:
            self.write_note(stale=False, open_=True)

    @rule()
    def read(self) -> None:
        """Counts and note."""
        theirs = self.run_store(self.store.read(KEY))
        self.model.settle()
        self.agree(theirs, (self.model.counts(), self.model.noted()))

    @rule(talk=st.sampled_from(["k1", "k2"]))
    def find_conversation(self, talk: str) -> None:
        """What a conversation has and had, the latest first."""
        theirs = self.run_store(self.store.find(KEY, conversation=talk))
        self.model.settle()
        own = self.model.own(talk)
        remembered = [self.model.entries[name] for name in reversed(self.model.remembered)]
        had = [entry for entry in remembered if entry.conversation == talk]
        self.agree(list(theirs), [*([own] if own is not None else []), *had])

    @initialize()
    def begin(self) -> None:
        """Some sessions are there."""
        for name in "ab":
            self.insert(name, "idle", 1000.0, "1.0", pinned=False, deadline=None, guarded=False)

    @invariant()
    def everything_is_as_in_the_model(self) -> None:
        """Entries one by one, in the order of their time in their state; and the store's parts."""
        found = list(self.run_store(self.store.find(KEY, limit=1000)))
        self.model.settle()
        self.agree(
            sorted(found, key=lambda entry: entry.id),
            sorted(self.model.entries.values(), key=lambda entry: entry.id),
        )
        assert [entry.since for entry in found] == sorted(entry.since for entry in found)
        self.engine.check()


def _plain(answer: Any) -> Any:
    """An answer with its counts as plain numbers, those that are zero left out."""
    if isinstance(answer, Counts):
        states = {state: number for state, number in answer.states.items() if number}
        return (states, answer.waiting, answer.new, answer.tally)
    return tuple(map(_plain, answer)) if isinstance(answer, tuple) else answer


TestHistories = Histories.TestCase
TestHistories.settings = QUICK
