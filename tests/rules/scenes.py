"""Where the walks begin, each with the dangers it is about."""

from __future__ import annotations

from typing import Final

from session_pool.rules import Ending
from tests.rules.walk import Scene
from tests.rules.world import TERMS, World

NO_IDLE: Final = TERMS._replace(max_idle=0)


def sent(*conversations: str | None) -> World:
    """Somebody waits, and for him a session was made that nobody has heard of yet."""
    world = World(conversations, stock=0, terms=NO_IDLE)
    world.asks(world.workers[0])
    world.claims_creation()
    world.creation_is_sent()
    return world


def lost() -> World:
    """Somebody waits, and the creator who was at it died before he sent anything."""
    world = World((None,), stock=0, terms=NO_IDLE)
    world.asks(world.workers[0])
    world.claims_creation()
    world.creator_dies()
    world.time_passes()
    world.keeper_reads()
    world.keeper_acts()
    return world


def let_go() -> World:
    """Beside a creation that is unsettled another one was made, handed out, and let go unused."""
    world = lost()
    world.claims_creation()
    world.creation_ends_well()
    world.asks(world.workers[0])
    world.gives_back(world.workers[0], Ending(said="discard"))
    return world


def found() -> World:
    """Its creator was silent for so long that others found it, and it is handed out."""
    world = sent(None)
    for _ in range(2):
        world.time_passes()
        world.keeper_reads()
        world.keeper_acts()
    world.keeper_finds()
    world.asks(world.workers[0])
    return world


# The cheap ones first: a mutant is caught by the first that notices.
SCENES: Final[dict[str, Scene]] = {
    "sessions are created as they are needed": Scene(
        lambda: World(("c", None), stock=0, terms=NO_IDLE), depth=7, creates=True, ticks=1
    ),
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

CREATORS: Final[dict[str, Scene]] = {
    "what was handed out is let go": Scene(let_go, depth=7, ticks=1),
    "a creator died, and another is at it": Scene(lost, depth=7, creates=True, dying=True, ticks=1),
    "a creator comes back to what others found": Scene(found, depth=8, ticks=1, creates=True),
    "a creator is slow, or dies": Scene(lambda: sent(None), depth=8, creates=True, dying=True),
}
"""Walks in which creations are lost, for the rules of those."""
