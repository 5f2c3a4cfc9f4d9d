"""Lending: the short ways of an engine in this process, held against the long ones.

After each step of a history both stores of a `Pair` must be the same, and so must be what everybody
was told.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Final

import pytest

from session_pool.model import FOREVER, State
from session_pool.space import Note, Put, Want
from session_pool.stores.rows import MEMORIES
from tests.stores.pair import PLAIN, Pair
from tests.stores.scene import KEY

STEPS, SEEDS = 120, 150

TAKEN: Final[tuple[State | None, ...]] = ("quarantined", "retiring", "ageing", None)
"""What a keeper makes of an entry, whoever holds it."""

OTHERS: Final = (PLAIN, PLAIN._replace(wish_s=4.0), PLAIN._replace(wish_s=40.0))
"""What an agent's plain want becomes as its thresholds are scaled."""

ANYTHING, CALM = "aaaaaabbbbbbblllsssttwnkzipurccc", "aaaaaaaaaaaaaabbbbbbbbbbbbbbbbllsssttupcc"
TALKING = "aaaaaaaaaaaabbbbbbbbllsssttucccc"
"""How often which step is taken. In a calm history most wait for what is given back; in a talking
one beside them conversations do for their own."""


KINDS = (ANYTHING, CALM, TALKING)


def _step(pair: Pair, dice: random.Random, steps: str) -> None:
    match dice.choice(steps):
        case "a":
            version = dice.choice([None, None, None, "2.0"])
            want = Want(
                KEY, dice.choice(["p1", "p1", "p2"]),
                dice.choice([None, None, "talk", "talk", "chat"]), version,
                dice.choice([10.0, 10.0, 90.0]), dice.choice([FOREVER, FOREVER, 30.0]),
                dice.choice([3, 3, 3, 3, 2]), 4,
            )  # fmt: skip
            if want.conversation is not None:
                want = want._replace(own_only=dice.random() < 0.2)
            # Mostly it is the same object again, as an agent's plain want is.
            plain = 0.5 if steps is ANYTHING else 0.6 if steps is TALKING else 0.9
            if steps is TALKING:
                talk, own = dice.choice(["talk", "chat"]), dice.random() < 0.3
                want = PLAIN._replace(conversation=talk, own_only=own)
            want = pair.plain if dice.random() < plain else pair.wants.setdefault(want, want)
            patience = FOREVER
            if want is not pair.plain or dice.random() < 0.05:
                patience = dice.choice([FOREVER, FOREVER, FOREVER, 30.0, 4.0, 0.0])
            pair.ask(want, pair.version - (dice.random() < 0.1), patience)
        case "b" if pair.held:
            asking = dice.choice(pair.held[-6:])
            if asking.entry is not None and asking.entry.conversation is None:
                pair.back(asking, dice.choice([5.0, 50.0, 500.0]))
        case "l" if pair.line:
            pair.leave(dice.choice(list(pair.line.values())), cancelled=dice.random() < 0.8)
        case "u" if pair.line:
            pair.late(dice.choice(list(pair.line.values())))
        case "c" if pair.held:
            talking = [asking for asking in pair.held[-12:] if asking.want.conversation is not None]
            if talking:
                state = dice.choice(list[State](("parked", "parked", "gone", "retiring")))
                pair.end(dice.choice(talking), state)
        case "p":
            pair.plain = dice.choice(OTHERS)._replace()
            if dice.random() < 0.5:
                pair.lender.rouse()
        case "r":
            pair.lender.rouse()
        case "i" if pair.held:
            pair.take_instead(dice.choice(pair.held[-6:]), dice.choice(list(TAKEN)))
        case "z":
            pair.plain = pair.plain._replace(max_leased=dice.choice([1, 2, 3, 4]))
        case "s":
            made = Put(
                KEY, f"e{dice.randrange(6)}", pair.name("o"), "idle", rid="rid",
                agent_version=dice.choice(["1.0", "1.0", "2.0"]), pinned=dice.random() < 0.2,
                expires_in_s=dice.choice([1000.0, 300.0, 100.0, 20.0]), fresh_in_s=200.0,
            )  # fmt: skip
            pair.put(made)
        case "t":
            pair.now += dice.choice([0.5, 5.0, 40.0])
        case "w" if pair.held:  # a holder writes down what it does, and goes on
            entry = dice.choice(pair.held[-6:]).entry
            assert entry is not None
            pair.put(Put(KEY, entry.id, pair.name("w"), "leased", None, entry.fence))
        case "n":
            open_ = not pair.open or dice.random() < 0.7
            pair.write(Note(early_death_s=float(pair.version)), open_=open_)
        case "k":  # a keeper takes something away, whoever holds it
            # The rules never give a conversation back what has left it once.
            rows = [row for row in pair.long._rows.values() if row.state not in MEMORIES]
            if rows:
                row, states = dice.choice(rows), list[State | None](TAKEN)
                put = Put(KEY, row.id, pair.name("k"), dice.choice(states), version=row.version)
                pair.put(put)


def _live(seed: int, steps: str) -> Counter[str]:
    pair, dice = Pair(), random.Random(seed)
    hesitant = dice.choice([0.0, 0.0, 0.5, 0.9])
    for _ in range(STEPS):
        _step(pair, dice, steps)
        pair.listen(dice, late=dice.random() < hesitant)
        pair.check()
    return pair.seen


@pytest.mark.parametrize("steps", KINDS, ids=["anything", "calm", "talking"])
@pytest.mark.parametrize("seed", range(SEEDS))
def test_the_short_ways_mean_what_the_long_ones_mean(seed: int, steps: str) -> None:
    _live(seed, steps)


def test_the_histories_go_every_short_way() -> None:
    seen: Counter[str] = Counter()
    for seed in range(1000, 1060):
        seen += _live(seed, KINDS[seed % 3])
    assert all(
        seen[way] > 10 for way in ("lent", "waits", "rung", "undone", "back", "passed on")
    ), seen
