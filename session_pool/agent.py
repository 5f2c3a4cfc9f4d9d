"""An agent as a user names it: a RID, and a policy of its own if it has one."""

from __future__ import annotations

from dataclasses import dataclass

from session_pool.foundry import check_agent_rid
from session_pool.policy import AgentPolicy


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent under a short name: `agents={"orders": Agent(rid)}`.

    Args:
        rid: `ri.aip-agents..agent.<uuid>`.
        policy: the whole policy for it; None takes the pool's.

    Raises:
        ConfigError: `rid` is not the RID of an agent; the message guesses what it is.
    """

    rid: str
    policy: AgentPolicy | None = None

    def __post_init__(self) -> None:
        check_agent_rid(self.rid)
