"""An agent as a user names it: a RID, and a policy of its own if it has one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from session_pool.errors import ConfigError
from session_pool.foundry import check_agent_rid
from session_pool.policy import AgentPolicy


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent under a short name: `agents={"orders": Agent(rid)}`.

    Args:
        rid: `ri.aip-agents..agent.<uuid>`.
        policy: the whole policy for it; None takes the pool's.

    Raises:
        ConfigError: `rid` is not the RID of an agent; the message guesses what it is. Or `policy`
            is none.
    """

    rid: str
    policy: AgentPolicy | None = None

    def __post_init__(self) -> None:
        check_agent_rid(self.rid)
        given: object = self.policy
        if given is not None and not isinstance(given, AgentPolicy):
            raise ConfigError(f"policy: must be an AgentPolicy(…), not a {type(given).__name__}")


def checked(agents: Mapping[str, Agent]) -> dict[str, Agent]:
    """The listed agents, if they can be meant.

    Raises:
        ConfigError: something else stands for an agent, or one is listed twice with two policies.
    """
    rids: dict[str, str] = {}
    for name, agent in agents.items():
        if not isinstance(agent, Agent):
            raise ConfigError(f"agents.{name}: must be an Agent(rid, policy=None)")
        first = rids.setdefault(agent.rid, name)
        if agents[first].policy != agent.policy:
            raise ConfigError(f"agents.{name}: {first} is the same agent; give both one policy")
    return dict(agents)
