"""The verbs of whoever operates a pool, as its users see them (B25).

What a `SessionPool` has beside acquiring: keeping an agent warm, stopping and starting it, taking
sessions out of use. Here it is checked what was said; `operating` carries it out.
"""

from __future__ import annotations

from collections.abc import Callable

from session_pool.desk import Desk
from session_pool.door import Door
from session_pool.errors import ConfigError
from session_pool.operating import Operator
from session_pool.patience import seconds_or_none

FOR_EVER = "None waits for ever"
"""Said with a timeout that cannot be meant."""


class Verbs:
    """What an operator tells a pool; every process that shares its store goes by it.

    Given twice, each is harmless. One that is cancelled has happened or goes on by itself, but for
    `ready` and `warm`, which only wait no more.
    """

    _door: Door
    _desk: Callable[[str], Desk]
    _operator: Operator

    async def ready(self, timeout: float | None = None) -> None:
        """Wait until every listed agent has its `min_idle` sessions ready.

        Args:
            timeout: seconds; None waits for ever.

        Raises:
            ConfigError: a timeout that cannot be meant.
            AcquireTimeout: they were not in time; its cause is the last error.
            AgentUnavailable, AuthError: sessions of an agent cannot be created.
            PoolPaused: an agent that lacks sessions is paused.
            PoolClosed: the pool is closed.
            StoreUnavailable: the store was away until then.
        """
        self._door.check()
        await self._operator.ready(seconds_or_none(timeout, "timeout", FOR_EVER))

    async def warm(self, agent: str, n: int, timeout: float | None = None) -> None:
        """Have at least `n` sessions ready now, once; afterwards the policy's `min_idle` holds.

        Args:
            agent: its name in `agents`, or its RID.
            n: how many, the agent's `max_idle` at most.
            timeout: seconds to wait for them; None waits for ever.

        Raises:
            ConfigError: no such agent, or an `n` that cannot be meant.
            PoolPaused: the agent is paused.
            and as `ready`.

        Cancelling it leaves the creations in flight, whose sessions will lie ready.
        """
        desk = self._desk(agent)
        given: object = n
        if not isinstance(given, int) or isinstance(given, bool) or given < 0:
            raise ConfigError("n must be a number of sessions, 0 or more")
        if n > desk.terms.max_idle:
            raise ConfigError(
                f"n: {n} is more than the policy's max_idle ({desk.terms.max_idle}); what is above "
                "that would be retired at once"
            )
        await self._operator.warm(desk, n, seconds_or_none(timeout, "timeout", FOR_EVER))

    async def pause(self, agent: str) -> None:
        """Hand out and create nothing of an agent, in any process, until it is resumed.

        Who waits, and who comes, gets PoolPaused; leases go on and end as always.

        Args:
            agent: its name in `agents`, or its RID.

        Raises:
            ConfigError: no such agent.
            PoolClosed: the pool is not open.
            StoreUnavailable: the store was away for the policy's `acquire_timeout_s`; whether it
                has happened is not known then, and doing it again is harmless.
        """
        desk = self._desk(agent)
        await self._operator.pause(desk)

    async def resume(self, agent: str) -> None:
        """End a pause or a drain: hand out again, and refill what is kept ready.

        Args and errors are those of `pause`.
        """
        desk = self._desk(agent)
        await self._operator.resume(desk)

    async def drain(self, agent: str) -> None:
        """Pause an agent, and retire what lies ready: now, and as leases and quarantines end.

        What belongs to a conversation is left to its expiry. Args and errors are those of `pause`.
        """
        desk = self._desk(agent)
        await self._operator.drain(desk)

    async def recycle(self, agent: str) -> None:
        """Give no session made before this call to a new conversation or an anonymous lease.

        What lies ready is retired and replaced; conversations keep the sessions that they have.
        Args and errors are those of `pause`.
        """
        desk = self._desk(agent)
        await self._operator.recycle(desk)

    async def evict(self, rid: str, force: bool = False) -> None:
        """Take one session out of use, whoever has it.

        One that lies ready is retired now. The lease of one that is held is lost: here at once, in
        another process at its next renewal or record; it is retired as its quarantine ends (B22).
        Its conversation goes on in a new one, and is told so ("evicted", B5).

        Args:
            rid: the session's.
            force: also one that is kept for a conversation, which loses its context.

        Raises:
            ConfigError: a conversation's session without `force`, or no session of an agent that
                this pool knows.
            PoolClosed, StoreUnavailable: as `pause`.
        """
        self._door.check()
        await self._operator.evict(rid, force=force)
