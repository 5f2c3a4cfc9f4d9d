"""Upkeep as the rules have it: what becomes of what falls due."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_pool import verdicts
from session_pool.model import Entry, Session, Sighting, State
from session_pool.rules import CHANGES, Ending, ended
from session_pool.space import Put
from session_pool.verdicts import SOON_S, Evidence, upkeep, verdict
from tests.rules.day import BORN, DAY_S, KEY, SESSION, TERMS, entry

# ------------------------------------------------------------------------------------- upkeep


@pytest.mark.parametrize(
    ("due", "now", "todo"),
    [
        (entry("idle"), 1800.0, "verify"),
        (entry("idle"), DAY_S, "ageing"),
        (entry("ageing"), DAY_S - 300, "retiring"),
        (entry("leased", lapses=30.0), 30.0, "quarantined"),
        (entry("parked", conversation="c"), DAY_S, "parked"),
        (entry("parked", conversation="c"), 3 * DAY_S, "gone"),
        (entry("quarantined"), 1.0, "verdict"),
        (entry("retiring"), 1.0, "delete"),
        (entry("gone", conversation="c"), 1.0, None),
        (entry("creating"), 1.0, "unsettled"),
        (entry("unsettled"), 1.0, "search"),
        (entry("chore", rid=""), 1.0, "fill"),
        (entry("chore"), 1.0, "recall"),
    ],
)
def test_what_upkeep_does(due: Entry, now: float, todo: str | None) -> None:
    done = upkeep(KEY, due, now, "op", TERMS)
    assert (done.state if isinstance(done, Put) else done) == todo


def test_a_parked_session_left_alone_for_too_long_is_retired() -> None:
    terms = TERMS._replace(park_timeout_s=60.0)
    parked = entry("parked", conversation="c")
    early, late = (upkeep(KEY, parked, now, "op", terms) for now in (59.0, 60.0))
    assert isinstance(early, Put)
    assert (early.state, early.deadline_in_s) == ("parked", 1.0)
    assert isinstance(late, Put)
    assert late.state == "retiring"
    nearly = upkeep(KEY, parked, 60.0 - 1e-11, "op", terms)  # as rounding may have it
    assert isinstance(nearly, Put)
    assert (nearly.state, nearly.deadline_in_s) == ("parked", SOON_S)


def seen(messages: int = 0, *, touched: bool = False) -> Sighting:
    updated = BORN + timedelta(seconds=touched)
    return Sighting(
        Session(SESSION.rid, KEY.agent_rid, "1.0", BORN, updated, BORN, messages), 600.0
    )


@pytest.mark.parametrize(
    ("trouble", "waited_s", "evidence", "state"),
    [
        ("unused", 60.0, Evidence(None, seen()), "idle"),
        ("unused", 60.0, Evidence(None, seen(2)), "retiring"),
        ("unused", 60.0, Evidence(None, seen(touched=True)), "retiring"),
        ("unused", 60.0, Evidence(), "retiring"),  # it could not be looked at
        ("exchange", 1.0, Evidence("running"), "quarantined"),
        ("exchange", 1.0, Evidence("complete", seen(2)), "retiring"),
        ("exchange", 29.0, Evidence("unknown"), "quarantined"),
        ("exchange", 30.0, Evidence("unknown"), "retiring"),
        ("exchange", 599.0, Evidence(), "quarantined"),
        ("exchange", 600.0, Evidence("running"), "retiring"),
        ("foreign", 1.0, Evidence(None, seen(2)), "retiring"),
        ("foreign", 1.0, Evidence(None, seen()), "quarantined"),
        ("exchange", 1.0, Evidence(gone=True), None),
    ],
)
def test_the_verdict_on_what_nobodys_conversation_used(
    trouble: str, waited_s: float, evidence: Evidence, state: State | None
) -> None:
    doubted = entry("quarantined")
    doubted = doubted._replace(facts=doubted.facts._replace(trouble=trouble))
    put = verdict(KEY, doubted, waited_s, "op", evidence, TERMS)
    assert put.state == state
    assert ("quarantined", put.state) in CHANGES


@given(
    st.sampled_from(["complete", "running", "unknown", None]),
    st.booleans(),
    st.floats(0, 599.9),
)
def test_looks_at_a_quarantine_go_on_and_become_rarer(
    trace: Any, grown: bool, waited_s: float
) -> None:
    doubted = entry("quarantined", conversation="c")
    put = verdict(KEY, doubted, waited_s, "op", Evidence(trace, seen(2 * grown)), TERMS)
    over = trace == "complete" or grown or (trace == "unknown" and waited_s >= TERMS.doubt_s)
    assert put.state == ("parked" if over else "quarantined")
    if not over:
        assert put.deadline_in_s is not None
        assert 0 < put.deadline_in_s <= max(1.0, waited_s)
        assert waited_s + put.deadline_in_s <= TERMS.exchange_timeout_s + 0.01


@pytest.mark.parametrize(
    ("state", "trouble", "fields", "to"),
    [
        ("leased", None, {}, "parked"),  # nobody has looked at it since
        ("quarantined", "lapsed", {}, "parked"),
        ("quarantined", "lapsed", {"fence": 2}, None),  # it was handed out again
        ("quarantined", "lapsed", {"conversation": None}, None),  # it was forgotten
        ("quarantined", "exchange", {}, None),
        ("quarantined", "evicted", {}, None),
        ("parked", None, {}, None),  # a verdict was sooner
    ],
)
def test_a_word_that_comes_after_the_lapse_counts_while_nothing_else_has_happened(
    state: State, trouble: str | None, fields: Any, to: State | None
) -> None:
    held = entry("leased", conversation="c")
    told = ended(KEY, held, held.facts, Ending(used=True), TERMS, "op")
    by_now = entry(state, conversation="c", version=7)._replace(**fields)
    by_now = by_now._replace(facts=by_now.facts._replace(trouble=trouble))
    put = verdicts.late(by_now, told, "late")
    assert (put and put.state) == to
    if put is not None:
        assert (put.version, put.fence, put.op, put.facts) == (7, None, "late", told.facts)


def test_a_word_that_comes_after_the_lapse_must_be_certain() -> None:
    held = entry("leased", conversation="c")
    told = ended(KEY, held, held.facts, Ending(used=True, in_flight=True), TERMS, "op")
    lapsed = entry("quarantined", conversation="c")
    lapsed = lapsed._replace(facts=lapsed.facts._replace(trouble="lapsed"))
    assert verdicts.late(lapsed, told, "late") is None


def test_a_list_is_read_where_it_costs_fewer_requests() -> None:
    assert not verdicts.verify_by_list(1, 100)
    assert verdicts.verify_by_list(2, 100)
    assert not verdicts.verify_by_list(2, 101)
