"""The walk finds what it is there to find: each rule made wrong, alone, breaks a law."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

from session_pool import lineage, rules, verdicts
from session_pool.model import Entry, Facts, PoolKey, State, Terms
from session_pool.rules import Ending
from session_pool.space import Done, Guard, NotDone, Note, Put
from tests.rules.actors import Worker
from tests.rules.laws import LawBroken
from tests.rules.scenes import CREATORS, SCENES
from tests.rules.walk import Scene, walk
from tests.rules.world import KEY, World

Mutant = Callable[[pytest.MonkeyPatch], None]
MUTANTS: Final[dict[str, tuple[Mutant, dict[str, Scene]]]] = {}

ENDED: Final = rules.ended
UPKEEP: Final = verdicts.upkeep
VERDICT: Final = verdicts.verdict


def mutant(make: Mutant) -> Mutant:
    """Keep a mutant under its own name."""
    MUTANTS[make.__name__] = make, SCENES
    return make


def of_creations(make: Mutant) -> Mutant:
    """Keep a mutant that concerns lost creations alone."""
    MUTANTS[make.__name__] = make, CREATORS
    return make


@pytest.mark.parametrize("name", MUTANTS)
def test_a_wrong_rule_breaks_a_law(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, scenes = MUTANTS[name]
    make(monkeypatch)
    for scene in scenes.values():
        try:
            walk(scene)
        except LawBroken:
            return
    pytest.fail("no scene notices")


def ending(monkeypatch: pytest.MonkeyPatch, wrong: Callable[[Ending, Put], Put]) -> None:
    """Change what becomes of a session as its lease ends."""

    def ended(
        key: PoolKey, entry: Entry, facts: Facts, how: Ending, terms: Terms, op: str, note: Note
    ) -> Put:
        return wrong(how, ENDED(key, entry, facts, how, terms, op, note))

    monkeypatch.setattr(rules, "ended", ended)


def upkeep(monkeypatch: pytest.MonkeyPatch, wrong: Callable[[Entry, Any], Any]) -> None:
    """Change what upkeep decides."""

    def decide(key: PoolKey, entry: Entry, now: float, op: str, terms: Terms) -> Any:
        return wrong(entry, UPKEEP(key, entry, now, op, terms))

    monkeypatch.setattr(verdicts, "upkeep", decide)


def blind(put: Put, state: Any) -> Put:
    return put._replace(state=state, tally=())


@mutant
def a_lapsed_lease_goes_back_to_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    upkeep(monkeypatch, lambda entry, put: blind(put, "idle") if entry.state == "leased" else put)


@mutant
def a_used_session_goes_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    ending(monkeypatch, lambda how, put: blind(put, "idle") if put.state == "retiring" else put)


@mutant
def a_dead_session_is_parked(monkeypatch: pytest.MonkeyPatch) -> None:
    # Whoever has no conversation must not have it parked; whose it is finds that it counts twice.
    ending(monkeypatch, lambda how, put: put._replace(state="parked") if how.gone else put)


@mutant
def a_quarantine_ends_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    def verdict(key: PoolKey, entry: Entry, now: float, op: str, evidence: Any, *more: Any) -> Put:
        over = evidence._replace(trace="complete") if evidence.trace == "running" else evidence
        return VERDICT(key, entry, now, op, over, *more)

    monkeypatch.setattr(verdicts, "verdict", verdict)


@mutant
def an_exchange_in_flight_is_parked(monkeypatch: pytest.MonkeyPatch) -> None:
    ending(monkeypatch, lambda how, put: blind(put, "parked") if how.in_flight else put)


@mutant
def a_caller_is_believed_who_says_unused(monkeypatch: pytest.MonkeyPatch) -> None:
    ending(monkeypatch, lambda how, put: blind(put, "idle") if how.said == "unused" else put)


@mutant
def a_session_another_client_used_passes_as_unused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdicts, "touched", lambda born_as, now: False)


@mutant
def an_entry_whose_claim_still_holds_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    asks = World.asks

    def robbing(self: World, worker: Worker) -> None:
        for entry in self.entries().values():
            if entry.state == "leased":
                free: State = "idle" if entry.conversation is None else "parked"
                self.put(Put(KEY, entry.id, self.op(), free, version=entry.version))
        asks(self, worker)

    monkeypatch.setattr(World, "asks", robbing)


@mutant
def a_keeper_does_not_compare_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    put_as_ever = World.put

    def careless(self: World, put: Put) -> Done | NotDone:
        entry = self.entries().get(put.id)
        if put.version is not None and entry is not None:
            put = put._replace(version=entry.version)
        return put_as_ever(self, put)

    monkeypatch.setattr(World, "put", careless)


@mutant
def a_holder_who_lapsed_writes_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    put_as_ever = World.put

    def lenient(self: World, put: Put) -> Done | NotDone:
        entry = self.entries().get(put.id)
        if put.fence is not None and entry is not None and entry.fence == put.fence:
            put = put._replace(fence=None, version=entry.version)
        return put_as_ever(self, put)

    monkeypatch.setattr(World, "put", lenient)


@mutant
def what_is_born_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    born = rules.born
    monkeypatch.setattr(rules, "born", lambda *a, **k: born(*a, **k)._replace(tally=()))


@mutant
def what_is_buried_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    buried = rules.buried
    monkeypatch.setattr(rules, "buried", lambda *a: buried(*a)._replace(tally=()))


@mutant
def a_retired_session_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    buried = rules.buried
    monkeypatch.setattr(rules, "buried", lambda *a: blind(buried(*a), "idle"))


@mutant
def a_conversations_loss_is_parked_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    ending(monkeypatch, lambda how, put: blind(put, "parked") if how.said == "used" else put)


@mutant
def creations_have_no_guards(monkeypatch: pytest.MonkeyPatch) -> None:
    unguarded: tuple[Guard, ...] = ()
    monkeypatch.setattr(rules, "creations", lambda *a: unguarded)


@of_creations
def a_creation_given_up_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    upkeep(monkeypatch, lambda entry, put: blind(put, None) if entry.state == "creating" else put)


@of_creations
def what_a_creation_under_way_may_have_made_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    matches = lineage.matches
    monkeypatch.setattr(lineage, "matches", lambda lost, found, _, n: matches(lost, found, [], n))


@of_creations
def what_the_store_knows_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(World, "knows", lambda self, rid: False)


@of_creations
def a_lost_creation_is_settled_before_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lineage, "closes", lambda lost: 0.0)


@of_creations
def what_is_adopted_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    adopted = lineage.adopted
    monkeypatch.setattr(lineage, "adopted", lambda *a: adopted(*a)._replace(tally=()))


@of_creations
def what_comes_back_is_filed_beside_what_was_found(monkeypatch: pytest.MonkeyPatch) -> None:

    def beside(put: Put, op: str, terms: Terms, *, doubtful: bool) -> Put:
        return put._replace(id=op, op=op, version=None)

    monkeypatch.setattr(lineage, "returned", beside)


@of_creations
def what_comes_back_late_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    returned = lineage.returned

    def trusting(put: Put, op: str, terms: Terms, *, doubtful: bool) -> Put:
        return returned(put, op, terms, doubtful=False)

    monkeypatch.setattr(lineage, "returned", trusting)


@of_creations
def what_comes_back_late_is_looked_at_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    returned = lineage.returned

    def hasty(put: Put, op: str, terms: Terms, *, doubtful: bool) -> Put:
        return returned(put, op, terms, doubtful=doubtful)._replace(deadline_in_s=0.0)

    monkeypatch.setattr(lineage, "returned", hasty)


@of_creations
def what_was_handed_out_and_let_go_passes_for_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lineage, "kept_known", lambda put, entry, counts: put)


@mutant
def a_recycle_is_not_looked_for_at_the_hand_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "outdated", lambda facts, note: False)


@mutant
def a_session_that_was_evicted_is_parked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def verdict(key: PoolKey, entry: Entry, now: float, op: str, *more: Any) -> Put:
        kept = entry._replace(facts=entry.facts._replace(reason=None))
        put = VERDICT(key, kept, now, op, *more)
        return (
            put
            if put.facts is None
            else put._replace(facts=put.facts._replace(reason=entry.facts.reason))
        )

    monkeypatch.setattr(verdicts, "verdict", verdict)
