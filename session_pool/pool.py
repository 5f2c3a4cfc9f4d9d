"""The pool: what a user holds. It puts the parts together and says no where no is due.

Nothing is decided here: the rules decide, the store keeps, `acquire` hands out, `creator` and
`keeper` work behind. Its tasks are its own, started in `open`, so it can be opened in one task and
closed in another.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from session_pool import forks
from session_pool.acquire import Acquires, Acquiring
from session_pool.agent import Agent, checked
from session_pool.arguments import check_kinds
from session_pool.closing import CLOSING, Closing, let_go
from session_pool.conversation import Conversation, Key
from session_pool.creator import Creator
from session_pool.desk import Desk
from session_pool.desks import PRINCIPAL, Desks
from session_pool.door import Door
from session_pool.errors import ConfigError, PoolClosed
from session_pool.foundry import (
    Api,
    Auth,
    Budget,
    FoundryClient,
    Paced,
    SecretFile,
    StaticToken,
    host_of,
    preset_for,
)
from session_pool.keeper import Keeper
from session_pool.model import Counts, PoolKey
from session_pool.operating import Operator
from session_pool.orphans import Orphans
from session_pool.patience import seconds
from session_pool.policy import AgentPolicy, RequestLimits
from session_pool.principal import check_identity
from session_pool.renewer import Renewer
from session_pool.sharer import Sharer
from session_pool.stores.base import LocalStore, Store
from session_pool.stores.open import open_store
from session_pool.telemetry import Bus, PoolStats, Subscription, log
from session_pool.verbs import Verbs
from session_pool.works import Works, clock_of

MEMORY_ENDS = (
    "conversations on memory:// end with this process, and other workers do not know them; the "
    'cure is one line: store="sqlite:///pool.db"'
)
"""Said once, at the first conversation (B28)."""


class SessionPool(Acquires, Verbs):
    """Live sessions of AIP Agents, created on demand, kept fresh, leased exclusively.

    An async context manager; or `await pool.open()` and `await pool.aclose()` where a framework has
    hooks instead of blocks. It belongs to the event loop and process that opened it.

    Args:
        url: the stack, `https://host`; plain http for loopback only, unless `allow_http`.
        token: a user's token, or a `SecretFile`; the short form of `auth=StaticToken(token)`.
        auth: how to get tokens, e.g. `ClientCredentials(client_id, client_secret)`.
        store: where the state is kept: a URL such as `memory://`, or an opened-by-us `Store`.
        policy: for agents that have none of their own.
        agents: by short name; these are kept warm from the start.
        sole_owner: nobody else creates sessions with these credentials: what a lost answer left
            behind may be adopted or deleted, not only reported.
        limits: of requests; None is the stack's published limit for these credentials.
        allow_http: allow plain http beyond loopback.
        api: instead of the HTTP client.

    Raises:
        ConfigError: a value that cannot be meant; it names the field.
    """

    def __init__(
        self,
        *,
        url: str,
        token: str | SecretFile | None = None,
        auth: Auth | None = None,
        store: str | Store = "memory://",
        policy: AgentPolicy | None = None,
        agents: Mapping[str, Agent] | None = None,
        limits: RequestLimits | None = None,
        sole_owner: bool = False,
        allow_http: bool = False,
        api: Api | None = None,
    ) -> None:
        check_kinds(
            url=url, token=token, auth=auth, store=store, policy=policy, agents=agents,
            limits=limits, sole_owner=sole_owner, allow_http=allow_http,
        )  # fmt: skip
        if auth is None:
            if token is None:
                raise ConfigError(
                    "token: missing; pass token=, auth=ClientCredentials(…), or set FOUNDRY_TOKEN"
                )
            auth = StaticToken(token)
        elif token is not None:
            raise ConfigError("token: give either token or auth, not both")
        self._api = FoundryClient(url, auth, allow_http=allow_http) if api is None else api
        self._auth = auth
        self._host = host_of(url)
        self._store_at = store
        self._policy = policy or AgentPolicy()
        self._agents = checked(agents or {})
        self._sole_owner = sole_owner
        asked = (limits or RequestLimits()).model_dump(exclude_none=True)
        self._limits = preset_for(auth)._replace(**asked)
        self._bus = Bus()
        self._door = Door("the pool is not open; use `async with`, or await pool.open()")
        self._named: dict[str, Desk] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing: asyncio.Task[None] | None = None
        self._warned = self._given_up = False

    @classmethod
    def from_config(cls, path: str | Path | None = None, **overrides: Any) -> Self:
        """A pool as file and environment describe it.

        Args:
            path: a TOML file; None is the one that SESSION_POOL_CONFIG names, or the environment
                alone.
            overrides: arguments of the constructor, which win over both.

        Raises:
            ConfigError: one line per mistake, each naming section and field.
        """
        from session_pool.config import load  # most programs that pass values never need it

        return cls(**load(path, **overrides).arguments)

    def __repr__(self) -> str:
        state = "open" if self._door.refusal is None else "closed" if self._closing else "not open"
        return f"<SessionPool of {self._host}, {state}>"

    # ------------------------------------------------------------------ opening and closing

    async def open(self) -> Self:
        """Start: connect the store and the remote, and begin to keep the listed agents warm.

        Returns:
            The pool.

        Raises:
            PoolClosed: it was opened before, or is closed meanwhile.
            StoreError: the store cannot be used, or its sessions belong to other credentials.

        Cancelling it leaves nothing open; like any pool that was not opened, it is done with then.
        """
        if self._loop is not None:
            raise PoolClosed("a pool is opened once; make another one")
        self._loop = self._door.loop = asyncio.get_running_loop()
        clock, at = clock_of(self._loop), self._store_at
        store = open_store(at, clock=clock, realm=self._host) if isinstance(at, str) else at
        clock = store.clock if isinstance(store, LocalStore) else clock
        paced = Paced(self._api, Budget(self._limits))
        self._works = works = Works(store, paced, self._bus, clock)
        works.on_change = self._changed
        self._desks = desks = Desks(works, self._host, self._policy, self._agents)
        self._acquiring = Acquiring(works, self._door)
        self._creator = Creator(works, desks.all, self._rewish)
        self._keeper = Keeper(
            works, desks.at, desks.all, Orphans(works, sole_owner=self._sole_owner)
        )
        self._operator = Operator(
            works, desks, self._keeper, self._creator.attend, self._door.check
        )
        try:
            await store.open()
            works.epoch = store.epoch  # nothing is held yet that it could have forgotten
            await check_identity(store, self._host, PRINCIPAL, self._auth)
            await self._api.open()
            counted = [(desk, *await store.read(desk.key)) for desk in desks.all()]
            self._check_wanted()
        except BaseException:  # cancelled, or the store cannot be used: nothing may stay open
            self._door.refusal = "the pool could not be opened; make another one"
            self._closing = works.spawn(let_go(works), "close")
            await asyncio.shield(self._closing)
            raise
        # Nothing is awaited from here on: it is either open or not.
        self._endless = {works.supervise(self._keeper.run, "upkeep")}
        if works.local is None:
            self._endless.add(works.supervise(Renewer(works, desks.all).run, "renewal"))
            works.supervise(Sharer(works, self._limits, self._host, self._creator).run, "shares")
        for number, work in enumerate(self._api.background()):
            self._endless.add(works.supervise(work, f"background {number}"))
        self._door.refusal, self._named = None, desks.by_name
        forks.tell(self)
        for desk, counts, noted in counted:
            desk.take_note(noted, works.clock())
            self._changed(desk.key, counts, None)
        return self

    async def aclose(self, timeout: float = 10) -> None:
        """Close: refuse, fail waiters, give leases until a deadline and mark the rest lost (B25).

        Creations in flight are settled; on memory:// never-used sessions are deleted. Closing twice
        is harmless; a close that is cancelled goes on by itself.

        Args:
            timeout: seconds to wait for leases and creations.

        Raises:
            ConfigError: a timeout that cannot be meant.
        """
        timeout = seconds(timeout, "timeout", "0 waits for nobody")
        if self._loop is None or (self._door.refusal is not None and self._closing is None):
            self._given_up = self._loop is not None  # it is being opened, and finds out
            return
        if self._closing is None:
            self._door.check()
            self._works.watchers.add(CLOSING)
            self._shut("the pool is closed; nothing is handed out any more")
            closing = Closing(works := self._works, self._desks, self._creator, self._keeper)
            self._closing = works.spawn(closing.run(self._endless, timeout), "close")
        await asyncio.shield(self._closing)

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    # ------------------------------------------------------------------ the main job

    def conversation(self, agent: str, key: Key) -> Conversation:
        """The handle of one dialogue: `ask`, `stream`, `start_over`, `forget`.

        Args:
            agent: its name in `agents`, or its RID.
            key: the conversation's own name, a string or a tuple of strings.

        Raises:
            ConfigError: no such agent, or an empty key.
        """
        desk = self._desk(agent)
        talk = Conversation(self._acquiring, desk, key)
        self._warn_of_memory()
        return talk

    # ------------------------------------------------------------------ looking

    def stats(self, agent: str | None = None) -> PoolStats:
        """How the pool, or one agent of it, stands now (B24).

        Raises:
            ConfigError: no such agent.
            PoolClosed: it was never opened.
        """
        if self._loop is None:
            raise PoolClosed(self._door.refusal or "the pool is not open")
        desks = self._desks.all() if agent is None else [self._desks.of(agent)]
        self._desks.figures.asked()
        if (local := self._works.local) is not None:  # else they are those of its last answer
            for desk in desks:
                desk.counts = local.read_nowait(desk.key)[0]
        if agent is not None:
            return desks[0].stats()
        return PoolStats.total({desk.name: desk.stats() for desk in desks})

    def subscribe(self) -> Subscription:
        """What happens from this call on, as an async iterator of events.

        It keeps 1,000 unread events, then drops the oldest and says how many (`EventsDropped`).
        """
        return self._bus.subscribe()

    # ------------------------------------------------------------------ inside

    def _changed(self, key: PoolKey, counts: Counts, deadline_in_s: float | None) -> None:
        """After each answer of the store: does it call for a creation, or for upkeep?"""
        desk = self._desks.by_key[key]
        desk.counts = counts
        if deadline_in_s is not None:
            self._keeper.poke(deadline_in_s)
        for bell in self._works.watchers:
            self._works.ring(bell)
        if self._door.refusal is not None:
            return
        if desk.stranger:
            return
        states = counts.states
        if counts.new or states.get("idle", 0) < desk.terms.min_idle:
            self._creator.attend(desk, counts)
        if states.get("ageing") or desk.overfull(counts):
            self._keeper.trim(desk, counts)

    def _check_wanted(self) -> None:
        if self._given_up:
            raise PoolClosed("the pool was closed while it was being opened")

    def _warn_of_memory(self) -> None:
        if not (self._warned or self._works.store.durable):
            self._warned = True
            log.warning(MEMORY_ENDS)

    def _desk(self, agent: str) -> Desk:
        self._door.check()
        return self._desks.of(agent)

    def _rewish(self, desk: Desk) -> None:
        if desk.lender is not None:
            desk.lender.rouse()
        for request in tuple(desk.waiting):
            self._works.ring(request)

    def _shut(self, refusal: str) -> None:
        self._door.refusal, self._named = refusal, {}

    def forked(self) -> None:
        """Refuse: this is the child of a process that opened it."""
        self._shut(
            f"this pool was opened before a fork (now in process {os.getpid()}); open one after "
            "the fork, in each process"
        )
