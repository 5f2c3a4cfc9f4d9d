"""Each benchmark runs in a tiny size, and what of its goal is no matter of speed holds.

Times are not looked at: they belong to `make bench`.
"""

from __future__ import annotations

import pytest

from tests.benchmarks import (
    g4,
    g5,
    g6,
    g11,
    g12,
    g13,
    g14_postgres,
    g14_sqlite,
    g15_postgres,
    g15_redis,
    g15_sqlite,
    g18,
    peers,
    steps,
)
from tests.benchmarks.__main__ import ALL, main
from tests.benchmarks.figures import WIDTH, Result, heading, summary, table


def printed(result: Result, *, goals: bool = True) -> str:
    """The table, once its shape is seen to be right."""
    assert bool(result.goals) is goals
    assert result.rows[0].who in ("session_pool", g18.USED)
    assert all(len(row.cells) == len(result.columns) for row in result.rows)
    text = table(result)
    lines = (text + "\n" + summary([result]) + "\n" + heading()).splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert text.startswith(result.name)
    assert all(row.who in text for row in result.rows)
    return text


def test_g11_measures_the_pool_and_names_what_each_peer_does() -> None:
    result = g11.run(rounds=2, round_s=0.001)
    text = printed(result)
    assert result.figures["over_queue"] > 0
    assert all(row.does for row in result.rows)
    assert "asyncio.Queue" in text
    assert "psycopg_pool" in text


def test_a_peer_that_is_not_installed_is_left_out_and_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(peers, "find_spec", lambda package: None)
    text = printed(g11.run(rounds=1, round_s=0.001))
    for name in ("SQLAlchemy", "asyncpg.Pool", "psycopg_pool"):
        assert f"{name} is left out" in text


def test_g12_grants_every_task_its_turns_to_within_one() -> None:
    result = g12.run(rounds=2, round_s=0.002)
    printed(result)
    assert result.figures["share"] > 0
    assert result.figures["apart"] <= g12.APART


def test_g14_processes_share_a_file_beside_parked_sessions() -> None:
    result = g14_sqlite.run(rounds=1, round_s=0.2, tasks=2, parked=50)
    printed(result)
    assert result.figures["rate"] > 0


def test_g15_a_session_goes_to_and_fro_between_two_processes() -> None:
    result = g15_sqlite.run(rounds=1, turns=10)
    printed(result)
    assert 0 < result.figures["bell_p50_s"] < result.figures["p50_s"]


def test_g13_measures_the_store_beside_its_own_scripts_sent_raw() -> None:
    result = g13.run(rounds=1, round_s=0.02, parked=20, agents=5)
    printed(result)
    assert all(result.figures[f"share_{tasks}"] > 0 for tasks in g13.TASKS)
    assert result.figures["parked"] > 0


def test_g15_hands_over_between_processes() -> None:
    result = g15_redis.run(turns=3)
    printed(result)
    assert result.figures["middle"] > 0


def test_g14_on_postgres_measures_beside_bare_statements() -> None:
    result = g14_postgres.run(rounds=1, cycles=64, tasks=8, parked=200)
    printed(result)
    assert result.figures["one"] > 0
    assert result.figures["eight"] > 0


def test_g15_on_postgres_hands_over_between_processes() -> None:
    result = g15_postgres.run(turns=5)
    printed(result)
    assert result.figures["middle"] > 0


def test_g4_a_crowd_on_a_cold_agent_starts_no_more_creations_than_allowed() -> None:
    result = g4.run(rounds=1, waiters=300, latency_s=0.02)
    printed(result)
    assert 1 <= result.figures["most_creating"] <= g4.MAX_CREATING
    assert result.figures["first_s"] >= 0.02


def test_g5_a_ramp_makes_one_session_for_each_waiter_and_all_at_once() -> None:
    result = g5.run(rounds=1, waiters=4, latency_s=0.01)
    printed(result)
    assert result.figures["created"] == 4
    assert result.figures["most_creating"] == 4


def test_g6_renewal_is_spread_and_no_caller_waits() -> None:
    result = g6.run(sessions=900, lifetime_s=3600.0)
    printed(result)
    # One a second is the mean, so whole numbers are coarse here; a cliff would be all in one.
    assert result.figures["over_mean"] <= 2 * g6.TIMES_MEAN
    # A caller who holds the last one above min_idle calls for one more, here and there.
    assert result.figures["renewed"] == pytest.approx(900, abs=20)
    assert result.figures["refused"] == 0
    assert result.figures["least_idle"] >= 900 - 1
    assert result.figures["least_remaining_s"] >= 300


def test_g18_no_driver_is_imported_before_it_is_needed() -> None:
    result = g18.run(rounds=1)
    printed(result)
    assert result.figures["over_floor"] > 0
    assert result.figures["early"] == 0


def test_steps_of_a_cycle_and_of_a_turn_are_counted_and_are_the_same_again() -> None:
    first, again = steps.run(many=64), steps.run(many=64)
    printed(first, goals=False)
    assert 0 < first.figures["cycle"] < first.figures["turn"]
    assert first.figures["cycle"] == again.figures["cycle"]


def test_a_name_that_there_is_not_is_refused_with_those_that_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["g99"]) == 2
    said = capsys.readouterr().out
    assert all(name in said for name in ALL)


def test_a_named_benchmark_is_printed_whatever_it_finds(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["g5"]) == 0
    assert "G5" in capsys.readouterr().out
