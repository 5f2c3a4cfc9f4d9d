"""An entry of a day's life, and counts to judge it by."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from hypothesis import strategies as st

from session_pool.model import FOREVER, Counts, Entry, Facts, PoolKey, Session, State
from session_pool.policy import AgentPolicy
from session_pool.space import Guard

KEY: Final = PoolKey("stack.example.com", "default", "ri.aip-agents..agent.1")
TERMS: Final = AgentPolicy().terms()
BORN: Final = datetime(2026, 1, 1, tzinfo=UTC)
DAY_S: Final = 86400.0
SESSION: Final = Session(
    "ri.aip-agents..session.1", KEY.agent_rid, "1.0", BORN, BORN, BORN + timedelta(days=1), 0
)

few = st.integers(0, 40)


def entry(state: State, *, conversation: str | None = None, **fields: Any) -> Entry:
    """An entry of a day's life, made at second 0."""
    made = Entry(
        "e1", state, 1, 1, SESSION.rid, "1.0", False, conversation, "", "", FOREVER, 0.0,
        DAY_S, DAY_S, 0.0, Facts(session=SESSION, lifetime_s=DAY_S), "",
    )  # fmt: skip
    return made._replace(**fields)


def counts(*, new: int = 0, **states: int) -> Counts:
    return Counts(dict(states), new, new, {})


def holds(guard: Guard, now: Counts) -> bool:
    def number(name: str) -> int:
        return now.new if name == "new" else now.states.get(name, 0)

    return sum(map(number, guard.plus)) - sum(map(number, guard.minus)) <= guard.most
