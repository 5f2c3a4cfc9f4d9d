"""The emulator: all rooms put together, started, steered from tests, and shut.

The only room that knows all the others. It runs in the loop that starts it; with a loop in virtual
time the whole server is in virtual time.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Final, Self

from .agents import Agents, AgentSetup
from .app import build_app
from .audit import Audit, Ledger
from .delivery import Delivery
from .endpoints import Endpoints
from .exchanges import Exchanges, ReplyTo, echo
from .faults import Fault, Faults
from .limits import Limits
from .listening import Listener
from .oauth import Tokens
from .operations import members
from .sessions import ExchangeRecord, SessionRecord, Sessions
from .settings import EmulatorSettings
from .times import ServerClock
from .visits import Call, Visits
from .watch import Gate, Gates, Stage, Watch

logger = logging.getLogger(__name__)

AGENT_RID: Final = "ri.aip-agents..agent.732cd5b4-7ca7-4219-aabb-6e976faf63b1"


class Emulator:
    """A local AIP Agents server.

    Args:
        listen: "host:port" (port 0: any free one) or "unix:///path".
        faults: scripted faults, as values or in their one-line form.
        agents: RID to set-up; further agents exist as `any_agent` says.
        reply: what agents answer, from an `Ask` to a text or a `Reply`; deterministic ones keep
            tests so.
        clock: seconds since 1970 as the server believes, or None: the wall clock at the start,
            moved on by the loop's time.
        seed: of all chances; None: a fresh one, told by `seed`, by `audit()` and by the log.
        settings: fields of `EmulatorSettings`.

    Raises:
        TypeError: an unknown setting.
        ValueError: a setting, fault or address that cannot be meant.

    Attributes:
        agent_rid: an agent to use; others do as well.
        token: a user's bearer token. Any other non-empty token is another user.
        client_id, client_secret: of an OAuth client; it acts as a service user.
        sessions: RID to record, of all sessions there ever were.
        calls: the latest requests, oldest first.
    """

    def __init__(
        self,
        *,
        listen: str = "127.0.0.1:0",
        faults: Iterable[Fault | str] = (),
        agents: Mapping[str, AgentSetup] | None = None,
        reply: ReplyTo = echo,
        clock: Callable[[], float] | None = None,
        seed: int | None = None,
        **settings: Any,
    ) -> None:
        self.settings = EmulatorSettings(**settings)
        self.seed = secrets.randbits(32) if seed is None else seed
        self.agent_rid = AGENT_RID
        self.token = "emulated-user-token"  # noqa: S105 - no secret, a name for a made-up user
        self.client_id = "emulated-client"
        self.client_secret = "emulated-client-secret"  # noqa: S105 - as made up as its client
        chance = random.Random(self.seed)  # noqa: S311 - chance to repeat, not to keep secrets
        self._clock = ServerClock(
            clock, offset_s=self.settings.clock_offset_s, digits=self.settings.fraction_digits
        )
        self._faults = Faults(faults, chance)
        self._agents = Agents(agents or {}, any_agent=self.settings.any_agent)
        self._tokens = Tokens(self._clock, self.settings.token_lifetime_s)
        self._tokens.add_client(self.client_id, self.client_secret)
        self._sessions = Sessions(self.settings, self._clock)
        self._ledger = Ledger()
        self._watch = Watch()
        self._gates = Gates(self._watch)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._exchanges = Exchanges(
            self.settings, self._clock, self._sessions, self._ledger, self._watch, reply,
            spawn=self._spawn, pause=lambda latency_s: self._visits.pause(latency_s),
        )  # fmt: skip
        self._endpoints = Endpoints(
            self.settings, self._clock, self._agents, self._sessions, self._exchanges, self._ledger
        )
        self.calls: deque[Call] = deque(maxlen=self.settings.calls_kept)
        self._visits = Visits(
            settings=self.settings,
            clock=self._clock,
            tokens=self._tokens,
            faults=self._faults,
            gates=self._gates,
            watch=self._watch,
            ledger=self._ledger,
            limits=Limits(self.settings),
            sessions=self._sessions,
            exchanges=self._exchanges,
            endpoints=self._endpoints,
            delivery=Delivery(self.settings, self._clock),
            chance=chance,
            spawn=self._spawn,
            calls=self.calls,
        )
        self._listener = Listener(listen)

    # -------------------------------------------------------------------------- start and end

    async def start(self) -> None:
        """Listen. An emulator starts once.

        Raises:
            RuntimeError: it was started before.
            OSError: the address cannot be had.
        """
        self._clock.start()
        self._visits.started_s = asyncio.get_running_loop().time()
        await self._listener.start(build_app(self._visits.handle))
        logger.info("emulator listens on %s, seed %d", self.url, self.seed)

    async def aclose(self) -> None:
        """Stop at once: whatever hangs, waits or speaks is cut off. No task is left."""
        await self._listener.silence()  # first, or busy clients would keep it busy
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._listener.close()

    async def serve(self, *, on_start: Callable[[Self], object] | None = None) -> None:
        """Start, tell `on_start` (the address is known now), and serve until cancelled."""
        async with self:
            if on_start is not None:
                on_start(self)
            await asyncio.get_running_loop().create_future()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    @property
    def url(self) -> str:
        """Where it listens: "http://host:port", or "unix:///path"; "" while it does not."""
        return self._listener.url

    @property
    def host(self) -> str:
        """The same without the scheme, as the official SDK wants its host name."""
        return self.url.partition("://")[2]

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        """For as long as the block lasts nothing listens, and open connections are broken.

        What the server works on goes on, as if only the network had gone.
        """
        await self._listener.silence()
        try:
            yield
        finally:
            await self._listener.resume()

    # ------------------------------------------------------------------------------- steering

    def inject(self, *faults: Fault | str) -> None:
        """Put faults in force; each counts calls from now on."""
        for fault in faults:
            self._faults.add(fault)

    def clear_faults(self) -> None:
        """Put all faults out of force."""
        self._faults.clear()

    def hold(self, op: str, *, stage: Stage = "before") -> Gate:
        """A gate that holds the requests of an operation (or group) until they are let through.

        `async with emu.hold("create") as gate:` opens it at the end of the block; without a
        block, `gate.open()` does. "before": nothing has happened yet; "after": the effect stands,
        the answer waits.
        """
        return self._gates.add(members(op), stage)

    gate = hold

    def publish(self, agent_rid: str) -> str:
        """Publish the agent's next major version, and say which it is."""
        return str(self._agents.known(agent_rid).publish())

    def save(self, agent_rid: str) -> str:
        """Save the agent's next minor version, unpublished, and say which it is."""
        return str(self._agents.known(agent_rid).save())

    def unpublish(self, agent_rid: str) -> None:
        """The agent has no published version any more."""
        self._agents.known(agent_rid).published.clear()

    def forget_agent(self, agent_rid: str) -> None:
        """The agent is not found any more."""
        self._agents.forget(agent_rid)

    def restore_agent(self, agent_rid: str) -> None:
        """A forgotten agent is found again."""
        self._agents.restore(agent_rid)

    def deny(self, op: str, agent_rid: str | None = None) -> None:
        """Refuse an operation (or group) with its permission error, for one agent or all."""
        self._endpoints.denied |= {(name, agent_rid) for name in members(op)}

    def allow(self, op: str, agent_rid: str | None = None) -> None:
        """Take a `deny` of the same words back."""
        self._endpoints.denied -= {(name, agent_rid) for name in members(op)}

    def issue_token(
        self,
        user: str,
        *,
        client: str | None = None,
        scopes: Iterable[str] | None = None,
        lifetime_s: float | None = None,
    ) -> str:
        """A token for a user, as made by an OAuth client, with these scopes (None: all)."""
        return self._tokens.issue(user, client=client, scopes=scopes, lifetime_s=lifetime_s)

    def add_client(self, client_id: str, client_secret: str) -> None:
        """Know another OAuth client."""
        self._tokens.add_client(client_id, client_secret)

    def revoke_token(self, token: str) -> None:
        """The token is answered 401 from now on."""
        self._tokens.revoke(token)

    def expire_tokens(self) -> None:
        """All issued tokens are answered 401 from now on; new ones may be had."""
        self._tokens.expire_issued()

    def expire(self, session_rid: str) -> None:
        """The session dies now, whatever it showed; an exchange under way dies with it."""
        self._sessions.all[session_rid].killed = True
        self._watch.changed()

    def exchange_elsewhere(
        self, session_rid: str, text: str = "said elsewhere", answer: str = "answered elsewhere"
    ) -> ExchangeRecord:
        """Store an exchange that did not come through here; it is in no count but `recorded`."""
        return self._exchanges.add(self._sessions.all[session_rid], text, answer)

    # ------------------------------------------------------------------------------ inspection

    @property
    def sessions(self) -> Mapping[str, SessionRecord]:
        return self._sessions.all

    def is_alive(self, session_rid: str) -> bool:
        """Whether the session is known, and neither expired nor deleted nor killed."""
        session = self._sessions.all.get(session_rid)
        return session is not None and self._sessions.alive(session)

    def in_flight(self, op: str) -> int:
        """Requests of an operation (or group) that the server is busy with now.

        One whose client hung up counts until the server is done with it.
        """
        return sum(self._ledger.in_flight[name] for name in members(op))

    def requests(self, op: str) -> int:
        """Requests of an operation (or group) so far."""
        return sum(self._ledger.requests_by_operation[name] for name in members(op))

    def audit(self) -> Audit:
        """The counters now."""
        alive = sum(1 for session in self._sessions.all.values() if self._sessions.alive(session))
        return self._ledger.audit(seed=self.seed, sessions_alive=alive)

    def now(self) -> float:
        """The server's clock, in seconds since 1970."""
        return self._clock.now_ns() / 1e9

    async def wait_for(self, condition: Callable[[], object]) -> None:
        """Wait until a condition on the emulator holds.

        It is asked now, and whenever a request comes, moves on or ends, an exchange begins or
        ends, or a session is made or ended; the mere passing of time is no occasion.
        """
        await self._watch.until(condition)

    def __repr__(self) -> str:
        where = self.url or "not listening"
        return f"<Emulator {where} sessions={len(self._sessions.all)} seed={self.seed}>"

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            # A bug of the emulator or of a `reply`; nobody else may be there to see it.
            logger.error("a task of the emulator failed", exc_info=task.exception())
