"""The smallest world in which the rules can go wrong: a store, a remote, a keeper, some workers.

Everybody acts on what was read a while ago, and anybody may stop anywhere. Nothing here decides:
what happens to a session is what `rules` and `verdicts` say, carried out on the memory store with a
clock that a test moves. What must always hold is in `laws`; the walk over all orders is in `walk`.
"""

from __future__ import annotations

from datetime import timedelta
from itertools import count
from typing import Final

from session_pool import lineage, rules, verdicts
from session_pool.lineage import Listed
from session_pool.model import (
    FOREVER,
    Counts,
    Entry,
    Facts,
    PoolKey,
    Session,
    Sighting,
    Sought,
    State,
    Terms,
)
from session_pool.policy import AgentPolicy
from session_pool.rules import Ending
from session_pool.space import NO_NOTE, Done, Grant, NotDone, Note, Put, Ticket, Want
from session_pool.stores.memory import MemoryStore
from tests.rules.actors import BORN, Creation, Remote, Worker, at_once

KEY: Final = PoolKey("stack.example.com", "default", "ri.aip-agents..agent.1")
TTL_S: Final = 10.0
TICK_S: Final = 12.0
"""Longer than a lease and than every deadline of upkeep but the longest."""
EFFECT_S: Final = 4.0
"""How long after a creation is given up for lost it may still take effect."""
LIFETIME_S: Final = 1000.0

TERMS: Final[Terms] = AgentPolicy(
    min_idle=0, max_leased=3, max_creating=2, min_remaining_s=30.0, doubt_s=5.0,
    refresh_ahead_s=60.0, settle_s=5.0, exchange_timeout_s=600.0, lease_ttl_s=TTL_S,
).terms()  # fmt: skip


class World:
    """Workers, a keeper, the store and the remote; each method is one step of one of them.

    Args:
        conversations: one worker for each; None for one without.
        stock: sessions that lie ready at the start.
        terms: the agent's.
    """

    def __init__(
        self, conversations: tuple[str | None, ...], *, stock: int = 1, terms: Terms = TERMS
    ) -> None:
        self.now = 1000.0
        self.store = MemoryStore(clock=lambda: self.now)
        self.terms = terms
        self.workers = [Worker(f"w{at}", name) for at, name in enumerate(conversations)]
        self.remote: dict[str, Remote] = {}
        self.claimed: list[tuple[Entry, float]] = []
        self.looked: list[tuple[Entry, float, verdicts.Evidence]] = []
        self.creating: list[Creation] = []
        self.searches: list[tuple[Entry, float, list[Listed]]] = []
        self.fetched: set[str] = set()
        self.left: set[str] = set()
        self.born: set[str] = set()
        self.note: Note = NO_NOTE
        self.made: dict[str, int] = {}
        self._numbers = count(1)
        for _ in range(stock):
            self.claims_creation(target=stock)
            self.creation_ends_well()

    def op(self) -> str:
        """A request id."""
        return f"op{next(self._numbers)}"

    def put(self, put: Put) -> Done | NotDone:
        """Change an entry."""
        return self.store.put_nowait(put)

    # ------------------------------------------------------------------ looking

    def entries(self) -> dict[str, Entry]:
        """All entries, by id."""
        return {entry.id: entry for entry in at_once(self.store.find(KEY, limit=1000))}

    def counts(self) -> Counts:
        """How the key stands."""
        return at_once(self.store.read(KEY))[0]

    def holds(self, worker: Worker) -> bool:
        """Whether a worker believes that it holds its session."""
        return worker.grant is not None and self.now < worker.until

    # ------------------------------------------------------------------ a worker's steps

    def asks(self, worker: Worker) -> None:
        """It asks for a session, stands in line, or asks again."""
        worker.request = worker.request or self.op()
        want = Want(
            KEY,
            worker.name,
            worker.conversation,
            None,
            self.terms.min_remaining_s,
            TTL_S,
            self.terms.max_leased,
            self.terms.max_waiting,
        )
        version = self.note.recycled  # it is written for nothing else here
        answer = self.store.take_nowait(
            want, worker.request, patience_s=FOREVER, note_version=version
        )
        if isinstance(answer, Ticket):
            return
        worker.request = ""
        if isinstance(answer, Grant):
            if rules.confirm(answer, self.terms, self.note) == "recycled":
                self.put(rules.refused(KEY, answer.entry, self.op(), "recycled"))
                return
            worker.batch = self.note.recycled
            # It fences itself on a deadline taken before the request was sent.
            worker.grant, worker.until = answer, min(self.now + TTL_S, answer.entry.lapses)
            self.fetched.add(answer.entry.lease)
            worker.facts = rules.following(answer) or answer.entry.facts
            worker.sent = worker.used = worker.seen = False

    def begins(self, worker: Worker) -> None:
        """It records its exchange and, if it still may, sends it."""
        entry = self._held(worker)
        facts = worker.facts._replace(trace_id=self.op())
        if not self._write(worker, facts):
            return
        worker.used = worker.sent = True
        remote = self.remote[entry.rid]
        if remote.alive:
            remote.speaking += 1
            remote.owners.add(worker.owner)

    def ends(self, worker: Worker) -> None:
        """The answer comes: it writes that down, or learns that the session is dead."""
        entry = self._held(worker)
        remote = self.remote[entry.rid]
        worker.sent = False
        if not remote.alive:
            self.gives_back(worker, Ending(used=True, gone=True))
            return
        self.remote_ends(entry.rid)
        self._write(worker, rules.exchanged(worker.facts, 1, remote.seen()))

    def lends(self, worker: Worker) -> None:
        """It gives the RID to another client, which says something that the pool never hears of."""
        entry = self._held(worker)
        worker.seen = True
        remote = self.remote[entry.rid]
        remote.owners.add(worker.owner)
        remote.messages += 2

    def gives_back(self, worker: Worker, how: Ending) -> None:
        """The lease ends, as its holder tells it."""
        entry = self._held(worker)
        how = how._replace(used=how.used or worker.used, seen=how.seen or worker.seen)
        how = how._replace(in_flight=worker.sent)
        put = rules.ended(KEY, entry, worker.facts, how, self.terms, self.op(), self.note)
        worker.grant, worker.sent = None, False
        self.put(put)

    def stops(self, worker: Worker) -> None:
        """It crashes: what it held lapses, what it sent goes on."""
        worker.grant, worker.sent, worker.request = None, False, ""

    # ------------------------------------------------------------------ the remote's

    def remote_ends(self, rid: str) -> None:
        """An exchange comes to its end there."""
        remote = self.remote[rid]
        remote.speaking -= 1
        remote.messages += 2

    def dies(self, rid: str) -> None:
        """A session is gone before its time, and what was said in it with it."""
        self.remote[rid].alive = False
        self.remote[rid].speaking = 0

    def time_passes(self) -> None:
        """Leases lapse, deadlines pass."""
        self.now += TICK_S

    # ------------------------------------------------------------------ the keeper's

    def keeper_reads(self) -> None:
        """It claims what is due; what it does about it, it does later."""
        due = at_once(self.store.due("keeper", limit=10, for_s=1.0))
        self.claimed += [(entry, due.now) for _, entry in due.entries]

    def keeper_acts(self) -> None:
        """It carries out what the rules say of the first thing that it read."""
        entry, now = self.claimed.pop(0)
        todo = verdicts.upkeep(KEY, entry, now, self.op(), self.terms)
        if isinstance(todo, Put):
            self.put(todo)
        elif todo in ("verdict", "verify"):
            self.looked.append((entry, now, self._evidence(entry)))
        elif todo == "delete":
            self._deletes(entry)
        elif todo == "search":
            self.searches.append((entry, self.now, self._list()))
        elif todo == "recall":
            kept: State | None = "chore" if self.counts().of("unsettled") else None
            self.put(rules.change(KEY, entry, self.op(), kept, deadline_in_s=lineage.KEPT_S))

    def keeper_judges(self) -> None:
        """It judges by what it saw a while ago."""
        entry, now, evidence = self.looked.pop(0)
        if entry.state == "quarantined":
            put = verdicts.verdict(KEY, entry, now, self.op(), evidence, self.terms, self.note)
        elif evidence.gone:
            put = rules.dead(KEY, entry, self.op(), self.terms)
        elif evidence.seen is not None:
            put = verdicts.alive(KEY, entry, now, self.op(), evidence.seen, self.terms)
        else:
            return
        self.put(put)

    def trims(self) -> None:
        """It retires what is above `max_idle`."""
        for entry in at_once(self.store.find(KEY, states=("ageing", "idle"))):
            if not rules.surplus(self.counts(), self.terms):
                return
            facts = entry.facts._replace(reason="surplus")
            self.put(
                rules.change(KEY, entry, self.op(), "retiring", facts=facts, deadline_in_s=0.0)
            )

    def keeper_finds(self) -> None:
        """It concludes from a list what became of a lost creation."""
        entry, listed_at, shown = self.searches.pop(0)
        found = [one for one in shown if lineage.alike(entry, one, None)]
        creating = at_once(self.store.find(KEY, states=("creating",)))
        unknown = [one for one in found if not self.knows(one.session.rid)]
        pairs, again = lineage.matches([entry], unknown, creating, None)
        if not pairs:
            later = entry.id in again or listed_at < lineage.closes(entry)
            state: State | None = "unsettled" if later else None
            self.put(rules.change(KEY, entry, self.op(), state, deadline_in_s=1.0))
            return
        ((_, one),) = pairs
        sought = (entry.facts.sought or Sought())._replace(rid=one.session.rid)
        facts = entry.facts._replace(sought=sought)
        mark = rules.change(KEY, entry, self.op(), "unsettled", facts=facts, deadline_in_s=1.0)
        marked = self.put(mark)
        if isinstance(marked, Done) and marked.entry is not None:
            op = self.op()
            self.put(lineage.adopted(KEY, marked.entry, one, op, self.terms, 0.5))
            self.put(rules.change(KEY, marked.entry, self.op(), None))

    def knows(self, rid: str) -> bool:
        """Whether the store has a session, or keeps its RID."""
        return bool(at_once(self.store.find(KEY, rid=rid)))

    def _list(self) -> list[Listed]:
        date = BORN + timedelta(seconds=self.now)
        return [
            lineage.listed(Sighting(remote.seen(), LIFETIME_S), date, self.now, self.now)
            for remote in self.remote.values()
            if remote.alive
        ]

    def _deletes(self, entry: Entry) -> None:
        remote, deleted = self.remote[entry.rid], rules.deletes(entry.facts, self.terms)
        if deleted:
            remote.alive = False
        put = rules.buried(KEY, entry, self.op(), self.terms)
        if isinstance(self.put(put if deleted else self._kept(put, entry)), Done):
            self.left.add(entry.rid)

    def _kept(self, put: Put, entry: Entry) -> Put:
        return lineage.kept_known(put, entry, self.counts())

    # ------------------------------------------------------------------ an operator's

    def recycles(self) -> None:
        """What was made so far is to go to nobody new."""
        version = self.note.recycled
        self.note = self.note._replace(recycled=version + 1)
        at_once(self.store.note(KEY, version, self.note, open_=True))

    def evicts(self, rid: str) -> None:
        """One session is to go, whoever has it."""
        (entry,) = at_once(self.store.find(KEY, rid=rid))
        self.put(verdicts.evicted(KEY, entry, self.op()))

    # ------------------------------------------------------------------ creations

    def claims_creation(self, *, target: int = 0) -> bool:
        """A creation is claimed, if the rules say so and their guards still hold."""
        guards = rules.creations(self.counts(), self.terms, target, 100)
        if guards is None:
            return False
        entry_id = self.op()
        facts = Facts(sought=Sought(messages=0, until_s=EFFECT_S), batch=self.note.recycled)
        put = Put(
            KEY, entry_id, entry_id, "creating", facts=facts, guards=guards, deadline_in_s=TTL_S
        )
        done = isinstance(self.put(put), Done)
        if done:
            self.creating.append(Creation(entry_id, self.now + TTL_S))
            self.made[entry_id] = self.note.recycled
        return done

    def creation_is_sent(self) -> None:
        """The session is there, and nobody knows."""
        creation = next(creation for creation in self.creating if not creation.rid)
        creation.rid = rid = f"ri.aip-agents..session.{creation.id}"
        self.made[rid] = self.made[creation.id]  # adopted, it has its RID for its id
        expires, made = BORN + timedelta(seconds=LIFETIME_S), BORN + timedelta(seconds=self.now)
        self.remote[rid] = Remote(Session(rid, KEY.agent_rid, "1.0", made, BORN, expires, 0))

    def creation_ends_well(self) -> None:
        """Its creator hears of it."""
        creation = self.creating[0]
        if not creation.rid:
            if self.now >= creation.until:
                self.creation_fails()
                return
            self.creation_is_sent()
        self.creating.remove(creation)
        session, op = self.remote[creation.rid].session, self.op()
        seen = Sighting(session, LIFETIME_S)
        put = rules.born(
            KEY, creation.id, 1, op, seen, pinned=False, terms=self.terms, chance=0.5,
            batch=self.made[creation.id], note=self.note,
        )  # fmt: skip
        if isinstance(self.put(put), Done):
            self.born.add(creation.rid)
            return
        self.put(lineage.returned(put, self.op(), self.terms, doubtful=True))
        self._forget(creation)

    def creation_fails(self) -> None:
        """It does not come."""
        creation = self.creating.pop(0)
        put = Put(KEY, creation.id, self.op(), None, version=1)
        if not isinstance(self.put(put), Done):
            self._forget(creation)

    def creator_dies(self) -> None:
        """Nobody hears of it any more."""
        self.creating.pop(0)

    def _forget(self, creation: Creation) -> None:
        entry = self.entries().get(creation.id)
        if entry is not None:
            self.put(rules.change(KEY, entry, self.op(), None))

    # ------------------------------------------------------------------ inside

    def _held(self, worker: Worker) -> Entry:
        assert worker.grant is not None
        return worker.grant.entry

    def _write(self, worker: Worker, facts: Facts) -> bool:
        entry = self._held(worker)
        put = Put(KEY, entry.id, self.op(), "leased", fence=entry.fence, facts=facts)
        answer: Done | NotDone = self.put(put)
        if isinstance(answer, Done) and answer.entry is not None:
            assert worker.grant is not None
            worker.facts = facts
            worker.grant = worker.grant._replace(entry=answer.entry)
            return True
        worker.grant, worker.sent = None, False
        return False

    def _evidence(self, entry: Entry) -> verdicts.Evidence:
        remote = self.remote[entry.rid]
        if not remote.alive:
            return verdicts.Evidence(gone=True)
        seen = Sighting(remote.seen(), entry.expires - self.now)
        if entry.facts.trace_id is None:
            return verdicts.Evidence(None, seen)
        if remote.speaking:
            return verdicts.Evidence("running")
        return verdicts.Evidence("complete", seen)
