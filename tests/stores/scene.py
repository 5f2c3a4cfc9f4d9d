"""The scene a store's behaviour is played in: one engine, one clock, and short ways to ask it.

An engine joins the suite by one line in `ENGINES`. Times in the tests are whole or half seconds, so
that instants compare exactly; a scene begins at second 1,000 of its store's clock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, Final, Protocol

from session_pool.model import FOREVER, Counts, Entry, PoolKey, State
from session_pool.space import Done, Due, Grant, Guard, NotDone, Note, Put, Refusal, Ticket, Want
from session_pool.stores.base import Store
from session_pool.stores.memory import MemoryStore
from tests.stores.audit import audit
from tests.stores.postgres_engine import PostgresEngine
from tests.stores.redis_engine import REDIS_ENGINES
from tests.stores.sqlite_engine import SqliteEngine

KEY: Final = PoolKey("stack.example.com", "default", "ri.aip-agents..agent.1")
OTHER: Final = KEY._replace(agent_rid="ri.aip-agents..agent.2")
START: Final = 1000.0


class Engine(Protocol):
    """A store under test, and its time."""

    @property
    def store(self) -> Store:
        """The store."""

    def advance(self, seconds: float) -> None:
        """Let the store's clock go on."""

    def check(self) -> None:
        """Assert what the engine's own parts must agree on."""

    async def hear(self) -> None:
        """Return once every bell that was rung has been heard."""


class MemoryEngine:
    """`memory://`, on a clock that stands still."""

    def __init__(self) -> None:
        self.now = START
        self.store = MemoryStore(clock=lambda: self.now)

    def advance(self, seconds: float) -> None:
        """Let the store's clock go on."""
        self.now += seconds

    def check(self) -> None:
        """Indexes agree with entries, counts with both, and nobody waits for what is there."""
        audit(self.store)

    async def hear(self) -> None:
        """A bell of this engine is heard as it is rung."""


ENGINES: Final[dict[str, Callable[[], Engine]]] = {
    "memory": MemoryEngine,
    "sqlite": SqliteEngine,
    **REDIS_ENGINES,
    "postgres": PostgresEngine,
}


class Scene:
    """One key of a store, as a test plays it.

    Attributes:
        still_waiting: how many requests the test leaves in line on purpose.
        rung: the requests whose doorbell was heard; ask `heard`.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.store = engine.store
        self.still_waiting = 0
        self.rung: list[str] = []
        self.unwatch = self.store.watch(self.rung.append)
        self._ids = count(1)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.engine.advance(seconds)

    def next_id(self, kind: str) -> str:
        """An id of this scene."""
        return f"{kind}#{next(self._ids)}"

    async def heard(self) -> list[str]:
        """The requests whose doorbell rang, in order; clear it to hear what comes from now on."""
        await self.engine.hear()
        return self.rung

    # ------------------------------------------------------------------ asking

    async def take(
        self,
        conversation: str | None = None,
        *,
        request: str | None = None,
        patience: float = 30.0,
        known: int = 0,
        place: int | None = None,
        instead: Put | None = None,
        **wanted: Any,
    ) -> Grant | Ticket | Refusal:
        """Ask for a session; a new request unless one is named."""
        return await self.store.take(
            want(conversation, **wanted),
            request or self.next_id("r"),
            patience_s=patience,
            note_version=known,
            place=place,
            instead=instead,
        )

    async def granted(self, conversation: str | None = None, **asked: Any) -> Grant:
        """Ask, and get one."""
        answer = await self.take(conversation, **asked)
        assert isinstance(answer, Grant), answer
        return answer

    async def waits(self, conversation: str | None = None, **asked: Any) -> Ticket:
        """Ask, and stand in line."""
        answer = await self.take(conversation, **asked)
        assert isinstance(answer, Ticket), answer
        return answer

    async def refused(self, conversation: str | None = None, **asked: Any) -> str:
        """Ask, and get nothing; the answer says why."""
        answer = await self.take(conversation, **asked)
        assert isinstance(answer, Refusal), answer
        return answer.why

    async def withdraw(self, request: str, key: PoolKey = KEY) -> Counts:
        """Take a request back."""
        return await self.store.withdraw(key, request)

    # ------------------------------------------------------------------ changing

    async def stock(
        self,
        *ids: str,
        state: State = "idle",
        expires: float = 600.0,
        version: str = "1.0",
        key: PoolKey = KEY,
        **fields: Any,
    ) -> None:
        """Insert sessions; `expires` is in seconds from now."""
        for entry_id in ids:
            fields.setdefault("deadline_in_s", FOREVER)
            done = await self.store.put(
                Put(
                    key,
                    entry_id,
                    self.next_id("op"),
                    state,
                    rid=f"rid-{entry_id}",
                    agent_version=version,
                    expires_in_s=expires,
                    **fields,
                )
            )
            assert isinstance(done, Done), done

    async def give_back(
        self, entry: Entry, state: State | None = "idle", *, op: str | None = None, **fields: Any
    ) -> Done | NotDone:
        """End a lease, or go on with it, as its holder."""
        put = Put(KEY, entry.id, op or self.next_id("op"), state, fence=entry.fence, **fields)
        return await self.store.put(put)

    async def keep(
        self, entry: Entry, state: State | None, *, op: str | None = None, **fields: Any
    ) -> Done | NotDone:
        """Change an entry as a keeper, who knows its version."""
        put = Put(KEY, entry.id, op or self.next_id("op"), state, version=entry.version, **fields)
        return await self.store.put(put)

    async def park(self, conversation: str, entry_id: str, **fields: Any) -> Entry:
        """A session that a conversation has, parked."""
        await self.stock(entry_id, **fields)
        grant = await self.granted(conversation, wish=fields.get("expires", 600.0))
        assert grant.entry.id == entry_id
        done = await self.give_back(grant.entry, "parked")
        assert isinstance(done, Done)
        assert done.entry is not None
        return done.entry

    async def due(self, *, limit: int = 100, for_s: float = 10.0) -> Due:
        """Claim what is due."""
        return await self.store.due("keeper", limit=limit, for_s=for_s)

    async def note(self, version: int, note: Note | None = None, *, open_: bool = True) -> int:
        """Write the note; the version that stands then."""
        noted = await self.store.note(KEY, version, note or Note(), open_=open_)
        return noted.version

    # ------------------------------------------------------------------ looking

    async def entry(self, entry_id: str, key: PoolKey = KEY) -> Entry:
        """An entry as it is now."""
        return next(e for e in await self.store.find(key, limit=10_000) if e.id == entry_id)

    async def ids(self, *states: State, **asked: Any) -> list[str]:
        """Ids of entries, as `find` gives them."""
        return [entry.id for entry in await self.store.find(KEY, states=states, **asked)]

    async def counts(self, key: PoolKey = KEY) -> Counts:
        """The counts now."""
        return (await self.store.read(key))[0]

    async def close(self) -> None:
        """Assert that what is left is consistent, and that nobody was left in line unnoticed."""
        self.unwatch()
        for key in (KEY, OTHER):
            entries: Sequence[Entry] = await self.store.find(key, limit=10_000)
            counts = await self.counts(key)
            assert sum(counts.states.values()) == len(entries)
            for state in {entry.state for entry in entries}:
                assert counts.of(state) == sum(entry.state == state for entry in entries)
            bound = [e.conversation for e in entries if e.state not in ("retiring", "gone")]
            own = [conversation for conversation in bound if conversation is not None]
            assert len(own) == len(set(own)), "two sessions of one conversation"
            for entry in entries:
                assert (entry.lease != "") == (entry.state == "leased")
                assert entry.state == "leased" or (entry.holder, entry.lapses) == ("", FOREVER)
                assert entry.state not in ("idle", "ageing") or entry.conversation is None
        assert (await self.counts()).waiting == self.still_waiting
        self.engine.check()
        await self.store.aclose()


def want(
    conversation: str | None = None,
    *,
    version: str | None = None,
    wish: float = 0.0,
    ttl: float = FOREVER,
    cap: int = 100,
    line: int = 100,
    own_only: bool = False,
    holder: str = "me",
    key: PoolKey = KEY,
) -> Want:
    """A want, of which a test says only what matters to it."""
    return Want(key, holder, conversation, version, wish, ttl, cap, line, own_only)


def guard(*plus: str, minus: Sequence[str] = (), most: float) -> Guard:
    """A guard: the sum of `plus` less that of `minus` is at most this."""
    return Guard(plus, tuple(minus), most)
