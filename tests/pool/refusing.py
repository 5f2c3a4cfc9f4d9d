"""How a pool refuses what cannot be meant: one clear sentence, and nothing is lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from session_pool import ConfigError
from tests.pool.house import House


def refused(make: Callable[[], object], *words: str) -> None:
    """It is refused at once, as a ConfigError and ValueError, in one line with these words."""
    with pytest.raises(ConfigError) as caught:
        make()
    assert isinstance(caught.value, ValueError)
    assert not caught.value.retryable
    for word in words:
        assert word in str(caught.value), str(caught.value)


def nothing_lost(home: House) -> None:
    """Nobody holds, waits or creates."""
    stats = home.stats
    assert (stats.leased, stats.waiting, stats.creating) == (0, 0, 0)
