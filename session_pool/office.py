"""An operator's desk: orders and a look at a shared pool, from a process that is none of its fleet.

It has the verbs of a pool and no work of its own: it creates nothing, not even the store, looks
after nothing that falls due, takes no part of the request limits, and asks the stack for nothing.
What an order leaves to be done, such as deleting what was retired, the pools on the store do.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Final, Literal, Self

from session_pool.agent import checked
from session_pool.closing import let_go
from session_pool.config import Settings
from session_pool.desk import Desk
from session_pool.desks import PRINCIPAL, Desks
from session_pool.door import Door
from session_pool.errors import ConfigError
from session_pool.foundry import Budget, FoundryClient, Paced, host_of, preset_for
from session_pool.keeper import Keeper
from session_pool.model import Counts, PoolKey
from session_pool.operating import PATIENCE_S, Operator
from session_pool.orphans import Orphans
from session_pool.principal import check_identity
from session_pool.space import Noted
from session_pool.stores.base import LocalStore
from session_pool.stores.open import open_store
from session_pool.telemetry import Bus, PoolStats
from session_pool.verbs import Verbs
from session_pool.works import Works, clock_of

UNREACHABLE: Final = (
    "store: memory:// keeps its state inside the process that uses it, where nobody else can reach "
    "it; keep the state in a shared store, as sqlite:///pool.db, and name that to every process"
)


@dataclass(frozen=True, slots=True)
class Standing:
    """How one agent stands in the store.

    Attributes:
        name: the listed one, or the RID.
        agent_rid: whose it is.
        state: whether it hands out; "drained" keeps nothing ready either (B25).
        stats: the store's counts; what only a process that serves it knows is 0.
    """

    name: str
    agent_rid: str
    state: Literal["open", "paused", "drained"]
    stats: PoolStats


class Office(Verbs):
    """Orders for the agents of a shared store; an async context manager.

    Of the verbs it has all, but `ready` and `warm` only wait for what other processes create.

    Args:
        settings: as a pool on the same store has them.

    Raises:
        ConfigError: there are no credentials, or the store is memory://.
    """

    def __init__(self, settings: Settings) -> None:
        if settings.auth is None:
            raise ConfigError(
                "foundry.token: no credentials; whose sessions these are must be known"
            )
        if settings.store.partition("://")[0] == "memory":
            raise ConfigError(UNREACHABLE)
        self._settings = settings
        self._auth = settings.auth
        self._api = FoundryClient(settings.url, settings.auth, allow_http=settings.allow_http)
        self._agents = checked(settings.agents)
        self._door = Door("the office is not open; use `async with`")

    async def __aenter__(self) -> Self:
        settings, host = self._settings, host_of(self._settings.url)
        loop = self._door.loop = asyncio.get_running_loop()
        clock = clock_of(loop)
        store = open_store(settings.store, clock=clock, realm=host, begin=False)
        if isinstance(store, LocalStore):
            raise ConfigError(UNREACHABLE)
        paced = Paced(self._api, Budget(preset_for(self._auth)))  # never asked
        self._works = works = Works(store, paced, Bus(), clock)
        self._desks = desks = Desks(works, host, settings.policy, self._agents)
        keeper = Keeper(works, desks.at, desks.all, Orphans(works, sole_owner=False))
        self._operator = Operator(works, desks, keeper, _nothing, self._door.check)
        works.on_change = self._changed
        try:
            await store.open()
            works.epoch = store.epoch
            await check_identity(store, host, PRINCIPAL, self._auth)
        except BaseException:
            await self._close()
            raise
        self._door.refusal = None
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        """Let an order that was cancelled arrive, as far as the store answers; then let go."""
        self._door.refusal = "the office is closed"
        closing = self._works.spawn(let_go(self._works), "close")
        try:
            await asyncio.shield(closing)
        except asyncio.CancelledError:
            await asyncio.wait((closing,))
            raise

    def serve(self, agent: str) -> None:
        """Look after an agent that is not listed as well.

        Args:
            agent: its RID, or the name of a listed one.

        Raises:
            ConfigError: neither.
        """
        self._desk(agent)

    async def standing(self, agent: str | None = None) -> list[Standing]:
        """How the agents stand now, those of the configuration or one of them.

        Args:
            agent: its name or RID; None is all that are listed.

        Raises:
            ConfigError: no such agent.
            StoreUnavailable: the store was away for a minute.
        """
        self._door.check()
        works = self._works
        until = works.loop.time() + PATIENCE_S
        told = []
        for desk in self._desks.all() if agent is None else [self._desk(agent)]:
            counts, noted = await works.again(partial(works.store.read, desk.key), until)
            desk.counts = counts
            desk.take_note(noted, works.clock())
            told.append(Standing(desk.name, desk.rid, _state(noted), desk.stats()))
        return told

    def _desk(self, agent: str) -> Desk:
        self._door.check()
        return self._desks.of(agent)

    def _changed(self, key: PoolKey, counts: Counts, _: float | None) -> None:
        self._desks.by_key[key].counts = counts
        for bell in self._works.watchers:
            self._works.ring(bell)


def _state(noted: Noted) -> Literal["open", "paused", "drained"]:
    if noted.open:
        return "open"
    return "drained" if noted.note.drained else "paused"


def _nothing(_: Desk, __: Counts) -> None:
    """Creations are for those who serve."""
