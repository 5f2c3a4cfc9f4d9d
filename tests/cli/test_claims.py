"""Claims: each one holds on good evidence and fails on its own kind of bad evidence."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from session_pool import PoolStats
from session_pool.cli.claims import Claim, Summary, balanced, judge
from tests.cli.judged import FAULTLESS, ORDERS, spoilt


def by_name(**fields: Any) -> dict[str, Claim]:
    return {claim.name: claim for claim in judge(spoilt(**fields))}


def summary(**fields: Any) -> Summary:
    evidence = spoilt(**fields)
    return Summary(
        claims=judge(evidence),
        evidence=evidence,
        seed=7,
        seconds=20.25,
        lifetime_s=6.0,
        interrupted=False,
    )


def test_every_claim_holds_on_faultless_evidence() -> None:
    assert summary().failed == ()


@pytest.mark.parametrize(
    ("claim", "spoiling"),
    [
        ("exchanges_on_dead_sessions", {"exchanges_on_dead_sessions": 1}),
        ("overlapping_exchanges", {"overlapping_exchanges": 1}),
        ("sessions_with_two_marks", {"sessions_with_two_marks": 1}),
        ("turns_that_lost_a_living_session", {"turns_that_lost_a_living_session": 1}),
        ("texts_sent_twice", {"double_begun_texts": 1}),
        ("turns_answered", {"failed": 1}),
        ("first_turns_that_waited", {"waits_s": (0.1, 2.3)}),
        ("sessions_replaced_before_they_expired", {"left_to_expire": 1}),
        ("losses_announced", {"announced": 3}),
        ("losses_announced", {"misled": 1}),
        ("conservation", {"unbalanced": 1}),
        ("conservation", {"sessions_created": 21}),
        ("conservation", {"made": 21}),
        ("conservation", {"stats": PoolStats.total({"a": replace(ORDERS, idle=4)})}),
    ],
)
def test_a_claim_fails_on_its_own_evidence_and_no_other_does(
    claim: str, spoiling: dict[str, Any]
) -> None:
    assert [one.name for one in summary(**spoiling).failed] == [claim]


def test_an_account_must_add_up_for_each_agent_and_not_only_in_sum() -> None:
    short, long = replace(ORDERS, idle=2), replace(ORDERS, idle=4)
    assert not balanced(PoolStats.total({"a": short, "b": long}))


def test_a_creation_whose_answer_was_lost_may_have_made_a_session() -> None:
    assert by_name(unsettled=1, sessions_created=21)["conservation"].ok


def test_the_findings_say_the_numbers() -> None:
    claims = by_name()
    assert claims["exchanges_on_dead_sessions"].finding == "exchanges on dead sessions: 0"
    assert claims["first_turns_that_waited"].finding == (
        "first turns that waited: 1 of 3, 0.70 s at most"
    )
    assert claims["losses_announced"].finding == "losses announced: 4 of 4"
    assert claims["conservation"].finding == (
        "conservation: 20 created = 3 idle + 1 leased + 4 parked + 12 retired"
    )


def test_interrupted_texts_are_told_and_fail_nothing() -> None:
    claim = by_name(unfinished=2)["turns_answered"]
    assert claim.ok
    assert claim.finding == "turns answered: 50 of 50, and 2 interrupted"


def test_a_demo_that_ended_before_anybody_spoke_claims_nothing_false() -> None:
    silent = spoilt(answered=0, waits_s=(), lost=0, announced=0)
    assert all(claim.ok for claim in judge(silent))


def test_the_json_is_plain_and_says_which_claim_fails() -> None:
    told = json.loads(json.dumps(summary(overlapping_exchanges=2).as_json(), allow_nan=False))
    assert told["ok"] is False
    assert told["claims"]["overlapping_exchanges"] == {
        "ok": False,
        "value": 2,
        "text": "overlapping exchanges: 2 - a session serves one exchange at a time",
    }
    assert told["stats"]["agents"]["orders"]["created"] == FAULTLESS.stats.created
    assert told["audit"]["overlapping_exchanges"] == 2
