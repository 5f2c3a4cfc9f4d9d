"""B10: whom a refusal of a creation concerns, how a note carries it, what is made meanwhile."""

from __future__ import annotations

from itertools import product

import pytest

from session_pool.errors import AgentUnavailable, AuthError
from session_pool.model import Counts
from session_pool.refusals import (
    MOST,
    aged,
    concerned,
    error_of,
    failure_of,
    for_warmth,
    of_version,
    with_failure,
    without_failure,
)
from session_pool.rules import creations
from session_pool.space import NO_NOTE, Failure, Note, Refused
from session_pool.stores.coding import note_as_text, note_of_text
from tests.rules.world import TERMS

WHY = Failure("agent", "there is no such version", "AgentVersionNotFound", "i-1", 404)
NUMBERS = range(4)


@pytest.mark.parametrize(
    ("name", "status", "asked", "usual", "version"),
    [
        ("AgentVersionNotFound", 404, "9.9", None, "9.9"),
        ("AgentVersionNotFound", 404, "9.9", "9.9", "9.9"),
        ("AgentVersionNotFound", 404, None, None, None),
        ("InvalidAgentVersion", 400, "9.9", "1.0", "9.9"),
        ("FunctionLocatorNotFound", 404, "9.9", None, "9.9"),
        ("FunctionLocatorNotFound", 404, "9.9", "9.9", None),
        ("FunctionLocatorNotFound", 404, None, None, None),
        ("SomethingNew", 400, "9.9", None, "9.9"),
        (None, 400, "9.9", None, "9.9"),
        (None, None, "9.9", None, "9.9"),
        (None, 404, "9.9", None, None),
        (None, 302, "9.9", None, None),
        (None, 403, "9.9", None, None),
        ("AgentNotFound", 404, "9.9", None, None),
        ("NoPublishedAgentVersion", 400, "9.9", None, None),
        ("CreateSessionPermissionDenied", 403, "9.9", None, None),
        ("Default:PermissionDenied", 403, "9.9", None, None),
        ("ApiFeaturePreviewUsageOnly", 400, "9.9", None, None),
    ],
)
def test_the_name_decides_and_else_what_was_asked_for(
    name: str | None, status: int | None, asked: str | None, usual: str | None, version: str | None
) -> None:
    error = AgentUnavailable("no", error_name=name, status=status)
    assert concerned(failure_of(error), asked, usual) == version


def test_a_refused_token_is_nobodys_version() -> None:
    assert concerned(failure_of(AuthError("no")), "9.9", None) is None


def test_an_error_is_the_same_after_the_note() -> None:
    for error in (AgentUnavailable("a", error_name="N", status=404), AuthError("b", status=401)):
        again = error_of(failure_of(error))
        assert type(again) is type(error)
        assert (str(again), again.error_name, again.status) == (
            str(error), error.error_name, error.status,
        )  # fmt: skip


def test_a_note_has_one_refusal_of_a_version_and_the_latest_of_many() -> None:
    note = with_failure(NO_NOTE, WHY, "9.9", "p1")
    note = with_failure(note, WHY._replace(message="again"), "9.9", "p2")
    assert note.refused == (Refused("9.9", WHY._replace(message="again"), 0.0, "p2"),)
    for number in range(20):
        note = with_failure(note, WHY, f"{number}.0", f"q{number}")
    assert [one.agent_version for one in note.refused] == [f"{n}.0" for n in range(20 - MOST, 20)]
    assert note.failure is None


def test_the_agents_failure_leaves_what_is_known_of_versions() -> None:
    note = with_failure(with_failure(NO_NOTE, WHY, "9.9", "p1"), WHY, None, "p2")
    assert note.failure == WHY
    assert of_version(note, "9.9") is not None
    assert of_version(note, None) is None
    left = without_failure(note, "9.9", "9.9")
    assert (left.refused, left.failure) == ((), WHY)


def test_what_stands_in_a_note_ages_as_it_is_written_again() -> None:
    old = with_failure(NO_NOTE, WHY, "1.0", "p1")
    new = aged(with_failure(old, WHY, "2.0", "p2"), old, 7.0)
    assert [one.age_s for one in new.refused] == [7.0, 0.0]
    newer = aged(new._replace(recycled=1), new, 3.0)
    assert [one.age_s for one in newer.refused] == [10.0, 3.0]
    again = aged(with_failure(newer, WHY, "1.0", "p3"), newer, 1.0)
    assert {one.agent_version: one.age_s for one in again.refused} == {"2.0": 4.0, "1.0": 0.0}


# --------------------------------------------------------------------------------- as text


def test_a_note_is_the_same_as_text() -> None:
    note = aged(with_failure(Note(failure=WHY, recycled=2), WHY, "9.9", "p1"), NO_NOTE, 0.1)
    assert note_of_text(note_as_text(note)) == note


def test_what_an_earlier_version_wrote_is_read() -> None:
    text = '{"failure":{"kind":"agent","message":"m","error_name":"AgentNotFound"},"recycled":1}'
    assert note_of_text(text) == Note(Failure("agent", "m", "AgentNotFound"), recycled=1)
    assert "refused" not in note_as_text(Note(recycled=1))


def test_what_a_later_version_writes_more_is_left_out() -> None:
    text = (
        '{"refused":[{"agent_version":"9.9","failure":{"kind":"agent","message":"m","more":1},'
        '"more":2}],"more":3}'
    )
    assert note_of_text(text).refused == (Refused("9.9", Failure("agent", "m")),)


# --------------------------------------------------------------------------------- what is made


def test_for_the_target_alone_never_more_is_made_than_it_lacks_nor_than_the_rule_allows() -> None:
    for creating, idle, new, target, most in product(NUMBERS, NUMBERS, NUMBERS, NUMBERS, (1, 3)):
        counts = Counts({"creating": creating, "idle": idle}, new, new, {})
        guards = for_warmth(counts, TERMS, target, most)
        may = creating < min(most, TERMS.max_creating) and creating + idle < target
        assert (guards is not None) == may
        if guards is None:
            continue
        assert creations(counts, TERMS, target, most) is not None
        for guard in guards:
            assert sum(counts.states.get(name, 0) for name in guard.plus) <= guard.most
            assert not guard.minus
