"""Where the walks begin, each with the dangers it is about."""

from __future__ import annotations

from typing import Final

from tests.rules.walk import Scene
from tests.rules.world import TERMS, World

NO_IDLE: Final = TERMS._replace(max_idle=0)

# The cheap ones first: a mutant is caught by the first that notices.
SCENES: Final[dict[str, Scene]] = {
    "sessions are created as they are needed": Scene(
        lambda: World(("c", None), stock=0, terms=NO_IDLE), depth=7, creates=True, ticks=1
    ),
    "an agent is recycled": Scene(
        lambda: World(("c", None), stock=1), depth=6, creates=True, ticks=1, recycles=1
    ),
    "sessions are evicted": Scene(lambda: World(("c", None), stock=1), depth=6, evicts=1),
    "another client uses the RID": Scene(lambda: World((None,), stock=1), depth=9, lends=True),
    "two conversations and one session": Scene(
        lambda: World(("c", "d"), stock=1), depth=6, deaths=1
    ),
    "two of one conversation": Scene(lambda: World(("c", "c"), stock=1), depth=7),
    "two without a conversation want one session": Scene(
        lambda: World((None, None), stock=1), depth=7
    ),
    "three at once": Scene(lambda: World(("c", "c", None), stock=1), depth=5),
    "another client uses the RID of a conversation's": Scene(
        lambda: World(("c", None), stock=1), depth=6, lends=True
    ),
    "one of a conversation and one without": Scene(
        lambda: World(("c", None), stock=2), depth=6, deaths=1
    ),
}
