"""All agents of one pool: the listed ones, and those that were asked for by RID."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Final

from session_pool.agent import Agent
from session_pool.desk import Desk
from session_pool.errors import ConfigError
from session_pool.figures import Figures
from session_pool.foundry import check_agent_rid
from session_pool.model import PoolKey
from session_pool.policy import AgentPolicy
from session_pool.telemetry import log
from session_pool.works import Works

PRINCIPAL: Final = "default"
"""The only principal, until named ones come."""


class Desks:
    """The desks of a pool, by name, RID and key.

    Args:
        works: the pool's means.
        host: of the stack.
        policy: for agents that have none of their own.
        agents: the listed ones.

    Attributes:
        figures: keeps the counts fresh while somebody looks at them.
    """

    def __init__(
        self, works: Works, host: str, policy: AgentPolicy, agents: Mapping[str, Agent]
    ) -> None:
        self.by_key: dict[PoolKey, Desk] = {}
        self.by_name: dict[str, Desk] = {}
        self.figures = Figures(works, self.all)
        self._works = works
        self._host = host
        self._policy = policy
        self._listed = tuple(agents)
        for name, agent in agents.items():
            self._add(name, agent.rid, agent.policy or policy, listed=True)

    def all(self) -> list[Desk]:
        """Every desk of an agent that this process serves."""
        return [desk for desk in self.by_key.values() if not desk.stranger]

    def at(self, key: PoolKey) -> Desk | None:
        """The desk of a key, one of another process's agents included; None for another's key.

        What falls due is everybody's. Of an agent that nobody asked for here its sessions are
        looked after, by the policy of agents that have none of their own; how many are wanted is
        not known here, so none is made and none is in excess.
        """
        desk = self.by_key.get(key)
        if desk is None and key[:2] == (self._host, PRINCIPAL):
            desk = self.by_key[key] = self._desk(key.agent_rid, key, self._policy)
            desk.stranger = True
        return desk

    def of(self, agent: str) -> Desk:
        """The desk of an agent; one that is not listed is opened at its first mention.

        Raises:
            ConfigError: neither a listed name nor the RID of an agent.
        """
        desk = self.by_name.get(agent)
        if desk is not None:
            return desk
        if not str(agent).startswith("ri."):
            raise unknown(agent, self._listed)
        return self._add(agent, check_agent_rid(agent), self._policy, listed=False)

    async def cold(self, until: float) -> Desk | None:
        """A listed agent that has not its `min_idle` sessions ready, if there is one.

        Raises:
            StoreUnavailable: it was away until then, by the loop's clock.
        """
        for desk in self.all():
            read = partial(self._works.store.read, desk.key)
            counts, noted = await self._works.again(read, until)
            desk.take_note(noted, self._works.clock())
            if desk.listed and counts.of("idle", "ageing") < desk.terms.min_idle:
                return desk
        return None

    def _add(self, name: str, rid: str, policy: AgentPolicy, *, listed: bool) -> Desk:
        desk = self.by_name.get(rid)
        if desk is None:
            key = PoolKey(self._host, PRINCIPAL, rid)
            if policy.reuse == "anyone":
                log.warning(
                    'reuse="anyone" for %s: whoever gets a session of it reads what others said '
                    "in it; meant for stateless work only",
                    name,
                )
            desk = self.by_key.get(key) or self._desk(name, key, policy, listed=listed)
            desk.stranger = False
            self.by_name[rid] = self.by_key[key] = desk
        self.by_name[name] = desk
        return desk

    def _desk(self, name: str, key: PoolKey, policy: AgentPolicy, *, listed: bool = False) -> Desk:
        works = self._works
        return Desk(
            name,
            key,
            policy,
            listed=listed,
            holder=works.holder,
            local=works.local,
            bus=works.bus,
        )


def unknown(agent: str, listed: Iterable[str]) -> ConfigError:
    """The error of a word that is neither a listed agent's name nor a RID."""
    known = ", ".join(sorted(listed)) or "none is listed"
    return ConfigError(
        f"agent: {agent!r} is neither a listed name ({known}) nor an agent RID "
        "(ri.aip-agents..agent.<uuid>)"
    )
