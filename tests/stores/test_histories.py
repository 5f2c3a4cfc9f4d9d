"""Random histories on every engine, compared with the model (B26): see `history`."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.stores.history import History, Pick
from tests.stores.scene import ENGINES

SEEDS: Final = int(os.environ.get("SESSION_POOL_TEST_SEEDS", "8"))
"""Long histories per engine; more for a longer run."""

QUICK: Final = settings(
    max_examples=80,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)

FEWER: Final = 30
"""Histories of an engine that keeps its state elsewhere; HISTORIES=1000 plays that many of each."""

STEPS: Final = (
    *("come", "come", "come", "let_go", "let_go", "ask_again", "ask_again", "ask_again"),
    *("supply", "supply", "advance", "advance", "meddle", "meddle", "relay", "losses"),
)


class Machine(RuleBasedStateMachine):
    """A history as hypothesis picks it, so that a failure comes in its shortest form."""

    engine_name = "memory"

    def __init__(self) -> None:
        super().__init__()
        self.history = History(ENGINES[self.engine_name]())

    def teardown(self) -> None:
        """End it."""
        self.history.close()

    @rule(data=st.data(), step=st.sampled_from(STEPS))
    def go_on(self, data: st.DataObject, step: str) -> None:
        """One step."""
        getattr(self.history, step)(lambda *choices: data.draw(st.sampled_from(choices)))

    @invariant()
    def both_agree(self) -> None:
        """After each step."""
        self.history.check()


def play(engine_name: str, seed: int, steps: int) -> None:
    """A history as a seed picks it: longer, and more of them in the same time."""
    chance = random.Random(seed)
    history = History(ENGINES[engine_name]())

    def pick(*choices: Any) -> Any:
        return chance.choice(choices)

    try:
        for _ in range(steps):
            step: Callable[[Pick], None] = getattr(history, pick(*STEPS))
            step(pick)
            history.check()
    finally:
        history.close()


@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_an_engine_agrees_with_the_model(engine: str) -> None:
    class Here(Machine):
        engine_name = engine

    many = int(os.environ.get("HISTORIES", QUICK.max_examples if engine == "memory" else FEWER))
    run_state_machine_as_test(Here, settings=settings(QUICK, max_examples=many))


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_an_engine_agrees_with_the_model_in_the_long_run(engine: str, seed: int) -> None:
    play(engine, seed, 300)
