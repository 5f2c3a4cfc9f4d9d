"""What may be inferred of a lost creation, and what not (B12)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_pool import lineage, rules
from session_pool.lineage import KEPT_S, SLACK_S, Listed, alike, listed, matches
from session_pool.model import FOREVER, NO_FACTS, Counts, Entry, Session, Sighting, Sought, State
from session_pool.policy import AgentPolicy
from tests.rules.world import KEY

TERMS = AgentPolicy().terms()
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def entry(state: State, since: float, sought: Sought, entry_id: str = "u") -> Entry:
    return Entry(
        entry_id, state, 1, 0, "", "", False, None, "", "", FOREVER, since,
        FOREVER, FOREVER, FOREVER, NO_FACTS._replace(sought=sought), "",
    )  # fmt: skip


def session(
    age_s: float = 0.0, *, rid: str = "s", version: str = "1.0", messages: int = 0
) -> Session:
    """One that was created so long before noon."""
    made = NOON - timedelta(seconds=age_s)
    return Session(rid, KEY.agent_rid, version, made, made, made + timedelta(days=1), messages)


def seen(age_s: float, at: float = 100.0, **fields: object) -> Listed:
    """Listed at this instant of the store's, by an answer that took half a second."""
    found = session(age_s, **fields)  # type: ignore[arg-type]
    return listed(Sighting(found, 86_000.0), NOON, at - 0.5, at)


SOUGHT = Sought(messages=0, since_s=5.0, until_s=10.0)


@given(
    born=st.floats(0, 90),
    cut_s=st.floats(0, 0.999),
    way_s=st.floats(0, 20),
    back=st.floats(0, 1),
)
def test_where_a_birth_is_placed_it_was(
    born: float, cut_s: float, way_s: float, back: float
) -> None:
    read_at = 100.0 + way_s
    answered = read_at - back * way_s  # somewhere on the way there and back
    date = NOON + timedelta(seconds=answered - cut_s)  # Date is cut to the second
    made = NOON + timedelta(seconds=born)
    one = Session("s", KEY.agent_rid, "1.0", made, made, made, 0)
    found = listed(Sighting(one, 0.0), date, 100.0, read_at)
    assert found.earliest - 1e-3 <= born <= found.latest + 1e-3


@pytest.mark.parametrize(
    ("age_s", "is_alike"),
    [(0.0, True), (10.0, True), (16.9, True), (17.1, False), (60.0, False), (-20.0, False)],
)
def test_only_what_was_made_in_the_window_of_the_request(age_s: float, is_alike: bool) -> None:
    lost = entry("unsettled", 90.0, SOUGHT)  # sent at 85, lost at 90, over at 100
    assert alike(lost, seen(age_s), None) is is_alike


@pytest.mark.parametrize(
    ("asked", "newest", "version", "is_alike"),
    [
        (None, None, "1.0", True),
        (None, "1.9", "1.10", True),
        (None, "1.10", "1.9", False),
        (None, "2.0", "1.10", False),
        ("1.0", None, "1.0", True),
        ("1.0", "2.0", "1.0", True),
        ("1.0", None, "2.0", False),
    ],
)
def test_only_of_the_version(
    asked: str | None, newest: str | None, version: str, is_alike: bool
) -> None:
    sought = SOUGHT._replace(agent_version=asked, newest=newest)
    assert alike(entry("unsettled", 99.0, sought), seen(1.0, version=version), None) is is_alike


@pytest.mark.parametrize(
    ("known", "fresh", "messages", "is_alike"),
    [
        (0, None, 0, True),
        (0, None, 2, False),
        (1, 0, 1, True),
        (None, 1, 1, True),
        (None, None, 1, False),
    ],
)
def test_only_what_nobody_used(
    known: int | None, fresh: int | None, messages: int, is_alike: bool
) -> None:
    lost = entry("unsettled", 99.0, SOUGHT._replace(messages=known))
    assert alike(lost, seen(1.0, messages=messages), fresh) is is_alike


def test_each_session_belongs_to_one_creation_and_each_creation_has_one() -> None:
    lost = [entry("unsettled", 95.0 + n, SOUGHT, f"u{n}") for n in range(3)]
    found = [seen(2.0, rid=f"s{n}") for n in range(2)]
    pairs, again = matches(lost, found, [], None)
    assert [one.id for one, _ in pairs] == ["u0", "u1"]
    assert {one.session.rid for _, one in pairs} == {"s0", "s1"}
    assert again == set()


def test_what_was_found_to_be_it_stays_it() -> None:
    lost = [
        entry("unsettled", 95.0, SOUGHT),
        entry("unsettled", 96.0, SOUGHT._replace(rid="s0"), "m"),
    ]
    pairs, _ = matches(lost, [seen(2.0, rid="s0"), seen(1.0, rid="s1")], [], None)
    assert [(one.id, found.session.rid) for one, found in pairs] == [("m", "s0"), ("u", "s1")]


@pytest.mark.parametrize(
    ("claimed", "again_s", "version", "takes"),
    [
        (97.0, 0.0, None, False),  # it may have made it
        (101.5, 0.0, None, True),  # it was claimed after the birth
        (90.0, -11.5, None, True),  # it began again after that
        (97.0, 0.0, "2.0", True),  # it makes another version
    ],
)
def test_what_a_creation_under_way_may_have_made_is_left_to_it(
    claimed: float, again_s: float, version: str | None, takes: bool
) -> None:
    lost = entry("unsettled", 99.0, SOUGHT)
    under_way = entry("creating", claimed, Sought(agent_version=version, since_s=again_s), "c")
    pairs, again = matches([lost], [seen(1.0)], [under_way], None)
    assert len(pairs) == takes
    assert again == (set() if takes else {"u"})


def test_a_creation_can_make_nothing_once_it_is_over() -> None:
    lost = entry("unsettled", 90.0, SOUGHT)
    assert (lineage.begins(lost), lineage.closes(lost)) == (85.0 - SLACK_S, 100.0 + SLACK_S)


@pytest.mark.parametrize(
    ("new", "idle", "target", "of_use"),
    [(1, 0, 0, True), (0, 0, 1, True), (0, 1, 1, False), (0, 0, 0, False)],
)
def test_a_session_is_of_use_to_who_waits_or_where_the_target_is_short(
    new: int, idle: int, target: int, of_use: bool
) -> None:
    assert lineage.wanted(Counts({"idle": idle, "creating": 3}, new, new, {}), target) is of_use


def test_an_orphan_is_filed_under_its_rid_and_counted() -> None:
    lost = entry("unsettled", 99.0, SOUGHT._replace(agent_version="1.0"))
    put = lineage.adopted(KEY, lost, seen(1.0, rid="s7"), "op", TERMS, 0.5)
    assert (put.id, put.rid, put.state, put.version) == ("s7", "s7", "idle", None)
    assert put.pinned
    assert put.tally == (("adopted", 1),)


def test_what_comes_back_late_is_nobodys_before_it_was_looked_at() -> None:
    seen_ = Sighting(session(), 86_000.0)
    put = rules.born(KEY, "c", 1, "op", seen_, pinned=False, terms=TERMS, chance=0.5)
    late = lineage.returned(put, "again", TERMS, doubtful=True)
    assert (late.id, late.state, late.version) == ("s", "quarantined", None)
    assert late.deadline_in_s == TERMS.exchange_timeout_s
    assert late.facts is not None
    assert late.facts.trouble == "unused"
    wiped = lineage.returned(put, "again", TERMS, doubtful=False)
    assert (wiped.id, wiped.state, wiped.op) == ("s", "idle", "again")


@pytest.mark.parametrize(
    ("state", "exchanges", "remote", "doubt", "kept"),
    [
        (None, 0, True, 1, True),
        (None, 0, True, 0, False),
        (None, 1, True, 1, False),
        (None, 0, False, 1, False),
        ("gone", 0, True, 1, False),
    ],
)
def test_a_rid_is_kept_that_could_pass_for_a_lost_one(
    state: State | None, exchanges: int, remote: bool, doubt: int, kept: bool
) -> None:
    facts = NO_FACTS._replace(exchanges=exchanges, remote=remote)
    retired = entry("retiring", 0.0, SOUGHT)._replace(facts=facts)
    put = rules.change(KEY, retired, "op", state)
    told = lineage.kept_known(put, retired, Counts({"unsettled": doubt}, 0, 0, {}))
    assert told.state == ("chore" if kept else state)
    assert told.deadline_in_s == (KEPT_S if kept else None)
