"""Each pure rule, one at a time."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from session_pool import rules
from session_pool.model import Counts, Facts, Sighting, State
from session_pool.recalls import recalled
from session_pool.rules import CHANGES, Ending, creations, ended, fresh_for
from session_pool.space import Grant, Note
from session_pool.thresholds import scaled, wish
from session_pool.verdicts import Evidence, evicted, verdict
from session_pool.works import GOLDEN
from tests.rules.day import DAY_S, KEY, SESSION, TERMS, counts, entry, few, holds

# --------------------------------------------------------------------------- creations, B8


def most_creations(now: Counts, target: int, most: int, max_creating: int) -> int:
    """B8, as it stands in the specification."""
    fresh = now.states.get("idle", 0)
    return min(max_creating, most, now.new + max(0, target - fresh))


@given(few, few, few, few, few, st.integers(0, 40), st.integers(1, 40))
def test_a_creation_is_asked_for_exactly_when_one_more_is_needed(
    creating: int, idle: int, ageing: int, new: int, target: int, most: int, max_creating: int
) -> None:
    now = counts(new=new, creating=creating, idle=idle, ageing=ageing)
    terms = TERMS._replace(max_creating=max_creating)
    guards = creations(now, terms, target, most)
    assert (guards is not None) == (creating + 1 <= most_creations(now, target, most, max_creating))


@given(few, few, few, few, few, few, few, st.integers(1, 40), st.integers(1, 40))
@settings(max_examples=500)
def test_the_guards_let_through_nothing_that_is_not_needed_by_then(
    creating: int, idle: int, new: int, creating_2: int, idle_2: int, new_2: int, target: int,
    most: int, max_creating: int,
) -> None:  # fmt: skip
    """They are made of one reading, and judged by the store when things have moved on."""
    terms = TERMS._replace(max_creating=max_creating)
    guards = creations(counts(new=new, creating=creating, idle=idle), terms, target, most)
    then = counts(new=new_2, creating=creating_2, idle=idle_2)
    if guards is not None and all(holds(guard, then) for guard in guards):
        assert creating_2 + 1 <= most_creations(then, target, most, max_creating)


@given(few, few, few, few, st.integers(1, 40))
def test_the_guards_hold_of_what_they_were_made_of(
    creating: int, idle: int, new: int, target: int, most: int
) -> None:
    now = counts(new=new, creating=creating, idle=idle)
    guards = creations(now, TERMS, target, most)
    assert guards is None or all(holds(guard, now) for guard in guards)


@given(few, few, few, few)
def test_a_creation_is_unwanted_when_fewer_are_needed_than_run(
    creating: int, idle: int, new: int, target: int
) -> None:
    now = counts(new=new, creating=creating, idle=idle)
    assert rules.unwanted(now, target) == (creating > new + max(0, target - idle))


# --------------------------------------------------------------------------- thresholds, B16


@given(st.floats(0.1, 1e6))
def test_thresholds_keep_their_order_whatever_the_lifetime(lifetime_s: float) -> None:
    terms = scaled(TERMS, lifetime_s)
    assert 0 < terms.doubt_s < terms.min_remaining_s < terms.refresh_ahead_s
    if lifetime_s > TERMS.refresh_ahead_s:
        assert terms == TERMS
    else:
        assert terms.refresh_ahead_s == pytest.approx(lifetime_s / 2)
        ratio = TERMS.min_remaining_s / TERMS.refresh_ahead_s
        assert terms.min_remaining_s / terms.refresh_ahead_s == pytest.approx(ratio)


@given(st.floats(0, 1e7))
def test_a_wish_is_rounded_up_by_an_eighth_of_an_octave_at_most(asked_s: float) -> None:
    wished_s = wish(asked_s, TERMS)
    assert wished_s >= max(asked_s, TERMS.min_remaining_s)
    assert asked_s <= TERMS.min_remaining_s or wished_s <= asked_s * 1.125 + 1e-6


def test_wishes_make_few_lines() -> None:
    assert len({wish(float(asked_s), TERMS) for asked_s in range(1, 86400)}) < 80


@given(st.floats(1, 1e6), st.floats(0, 1, exclude_max=True))
def test_a_session_is_replaced_before_nobody_could_be_given_it(
    remaining_s: float, chance: float
) -> None:
    terms = scaled(TERMS, remaining_s)
    fresh_s = fresh_for(remaining_s, terms, chance)
    assert 0 <= fresh_s <= remaining_s - terms.min_remaining_s


def test_ten_thousand_made_in_one_second_are_not_renewed_in_one() -> None:
    made, chance = 10_000, 0.25
    due = []
    for number in range(made):
        chance = (chance + GOLDEN) % 1.0
        due.append(number / made + fresh_for(DAY_S, TERMS, chance))
    span_s = max(due) - min(due)
    first = min(due)
    per_second = Counter(int(at - first) for at in due)
    assert span_s > 500
    assert max(per_second.values()) <= 3 * made / span_s


# --------------------------------------------------------------------------- giving back (B4, B22)


@pytest.mark.parametrize(
    ("conversation", "how", "state", "trouble"),
    [
        (None, Ending(), "retiring", None),
        (None, Ending(said="unused"), "idle", None),
        (None, Ending(broken=True), "idle", None),
        (None, Ending(said="unused", seen=True), "quarantined", "unused"),
        (None, Ending(said="unused", used=True), "retiring", None),
        (None, Ending(used=True, in_flight=True), "quarantined", "exchange"),
        (None, Ending(broken=True, seen=True), "quarantined", "foreign"),
        (None, Ending(gone=True), None, None),
        ("c", Ending(), "parked", None),
        ("c", Ending(used=True), "parked", None),
        ("c", Ending(used=True, in_flight=True), "quarantined", "exchange"),
        ("c", Ending(broken=True, seen=True), "quarantined", "foreign"),
        ("c", Ending(broken=True, seen=True, used=True), "parked", None),
        ("c", Ending(said="discard"), "retiring", None),
        ("c", Ending(said="discard", used=True, in_flight=True), "retiring", None),
        ("c", Ending(worn="context_size"), "retiring", None),
        ("c", Ending(gone=True), "gone", None),
    ],
)
def test_what_becomes_of_a_session(
    conversation: str | None, how: Ending, state: State | None, trouble: str | None
) -> None:
    held = entry("leased", conversation=conversation)
    put = ended(KEY, held, held.facts, how, TERMS, "op")
    assert (put.state, put.facts.trouble if put.facts else None) == (state, trouble)
    assert ("leased", put.state) in CHANGES
    assert put.fence == held.fence


@given(
    st.sampled_from(["used", "unused", "discard"]),
    st.tuples(*[st.booleans()] * 5),
    st.sampled_from([None, "context_size"]),
    st.sampled_from([None, "c"]),
)
def test_a_used_session_is_never_given_to_others(
    said: Any, flags: tuple[bool, ...], worn: str | None, conversation: str | None
) -> None:
    how = Ending(said, flags[0], flags[1], flags[2], flags[3], flags[4], worn)
    held = entry("leased", conversation=conversation)
    put = ended(KEY, held, held.facts, how, TERMS, "op")
    assert ("leased", put.state) in CHANGES
    if how.used or how.in_flight or how.seen or conversation is not None:
        assert put.state != "idle"
    assert put.state != "parked" or conversation is not None


@pytest.mark.parametrize(
    ("policy", "facts", "deleted"),
    [
        ("unused", Facts(reason="surplus"), True),
        ("unused", Facts(reason="surplus", exchanges=1), False),
        ("unused", Facts(reason="used"), False),
        ("unused", Facts(reason="discarded"), False),
        ("unused", Facts(reason="mislabelled"), False),
        ("unused", Facts(reason="surplus", remote=False), False),
        ("unused", Facts(reason="forgotten", exchanges=3, forced=True), True),
        ("all", Facts(reason="used", exchanges=3), True),
        ("none", Facts(reason="surplus"), False),
        ("none", Facts(reason="forgotten", forced=True), True),
    ],
)
def test_what_is_deleted_at_the_remote(policy: Any, facts: Facts, deleted: bool) -> None:
    assert rules.deletes(facts, TERMS._replace(delete_retired=policy)) is deleted


@given(st.floats(-1e5, 1e5), st.floats(1, 1e5), st.none() | st.floats(1, 1e5))
def test_a_parked_session_is_looked_at_before_two_lifetimes_past_its_end(
    remaining_s: float, lifetime_s: float, timeout_s: float | None
) -> None:
    terms = TERMS._replace(park_timeout_s=timeout_s)
    look_s = rules.parked_for(remaining_s, lifetime_s, terms)
    assert 0 < look_s <= max(0.0, remaining_s) + 2 * lifetime_s
    assert timeout_s is None or look_s <= timeout_s


# ----------------------------------------------------------------------------------- the table


def test_no_rule_changes_a_state_but_as_the_table_says() -> None:
    states: list[State | None] = [
        "creating", "unsettled", "idle", "ageing", "leased", "parked", "quarantined", "retiring",
        "gone", "chore", None,
    ]  # fmt: skip
    for was in states:
        for to in states:
            if was is None:
                continue
            if (was, to) in CHANGES:
                assert rules.change(KEY, entry(was), "op", to).version == 1
            else:
                with pytest.raises(ValueError, match="no rule leads"):
                    rules.change(KEY, entry(was), "op", to)


def test_numbers_that_matter_are_finite() -> None:
    put = rules.born(
        KEY, "e1", 1, "op", Sighting(SESSION, DAY_S), pinned=False, terms=TERMS, chance=0.5
    )
    assert put.state == "idle"
    assert math.isfinite(put.fresh_in_s or 0.0)
    expired = rules.born(
        KEY, "e1", 1, "op", Sighting(SESSION, -1.0), pinned=False, terms=TERMS, chance=0.5
    )
    assert (expired.state, expired.deadline_in_s) == ("retiring", 0.0)


# --------------------------------------------------------------------------- recalls, B25

DRAINED: Final = Note(drained=True)
RECYCLED: Final = Note(recycled=2)


@pytest.mark.parametrize("note", [DRAINED, RECYCLED])
@pytest.mark.parametrize("reuse", ["never", "anyone"])
def test_what_would_lie_ready_is_retired_where_it_was_recalled(note: Note, reuse: Any) -> None:
    one, terms = entry("leased"), TERMS._replace(reuse=reuse)
    put = ended(KEY, one, one.facts, Ending(said="unused"), terms, "op", note)
    assert put.facts is not None
    assert (put.state, put.facts.reason) == ("retiring", recalled(one.facts, note))
    assert rules.deletes(put.facts, terms)
    talks = entry("leased", conversation="c")
    kept = ended(KEY, talks, talks.facts, Ending(), terms, "op", note)
    assert kept.state == "parked"
    assert kept.facts is not None
    assert kept.facts.bound


def test_a_session_of_the_latest_batch_is_not_recalled() -> None:
    facts = Facts(batch=2)
    assert recalled(facts, RECYCLED) is None
    assert recalled(facts._replace(batch=1), RECYCLED) == "recycled"
    assert recalled(facts._replace(batch=1, bound=True), RECYCLED) is None


def test_one_that_is_recalled_while_it_is_created_leaves_at_once() -> None:
    seen = Sighting(SESSION, DAY_S)
    for batch, note, state in ((0, RECYCLED, "retiring"), (2, RECYCLED, "idle")):
        put = rules.born(
            KEY, "e1", 1, "op", seen, pinned=False, terms=TERMS, chance=0.0, batch=batch, note=note
        )
        assert put.state == state


def test_the_hand_out_refuses_what_was_recycled_and_forgets_its_taker() -> None:
    for conversation in (None, "c"):
        one = entry("leased", conversation=conversation)
        grant = Grant(one, 1, None, 0.0, counts(), 1)
        assert rules.confirm(grant, TERMS, RECYCLED) == "recycled"
        assert rules.refused(KEY, one, "op", "recycled").unbind
        own = grant._replace(entry=one._replace(facts=one.facts._replace(bound=True)))
        assert rules.confirm(own, TERMS, RECYCLED) == "ready"


@pytest.mark.parametrize("state", ["idle", "ageing", "parked", "leased", "quarantined"])
def test_what_is_evicted_leaves_at_once_unless_it_may_be_in_use(state: State) -> None:
    put = evicted(KEY, entry(state), "op")
    held = state in ("leased", "quarantined")
    assert put.state == ("quarantined" if held else "retiring")
    assert put.facts is not None
    assert put.facts.reason == "evicted"
    if held:
        later = entry("quarantined", conversation="c", facts=put.facts)
        over = verdict(KEY, later, 700.0, "op", Evidence(), TERMS)
        assert over.state == "retiring"
        assert over.facts is not None
        assert rules.deletes(over.facts, TERMS) == (state != "leased")
