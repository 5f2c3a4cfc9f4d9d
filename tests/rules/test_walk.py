"""No order of events leads the rules astray: all of them, for a few workers, up to a depth."""

from __future__ import annotations

import pytest

from tests.rules.scenes import CREATORS, SCENES
from tests.rules.walk import walk

ALL = SCENES | CREATORS


@pytest.mark.parametrize("name", ALL)
def test_no_order_of_events_breaks_a_law(name: str) -> None:
    walked = walk(ALL[name])
    assert walked.states > (300 if name in SCENES else 40), walked
