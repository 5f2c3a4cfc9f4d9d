"""The store's benchmark runs to its end; what it measures gates nothing."""

from __future__ import annotations

from tests.benchmarks.store_cycle import run


def test_the_stores_benchmark_says_what_it_should() -> None:
    figures = run(parked_sessions=200, rounds=1, cycles=40)
    assert figures["warm"] > 0
    assert figures["queue / queue"] == 1.0
    assert figures["bytes per parked session"] > 0
