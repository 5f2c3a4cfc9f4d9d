"""What `session-pool status` shows: how the agents of a shared store stand, for people or as JSON.

Pure: from what the store said to text. Where it comes from and when, `orders` knows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from session_pool.office import Standing
from session_pool.sections import without_secrets

NUMBERS: Final = (
    "idle", "leased", "parked", "creating", "quarantined", "retiring", "waiting", "unsettled",
    "created", "adopted", "retired",
)  # fmt: skip
"""Of an agent, in the order of B24: where its sessions are, who waits, and the totals."""

WIDTH: Final = 80
GAP: Final = 2


def as_json(store: str, standings: Sequence[Standing]) -> dict[str, Any]:
    """All of it, by agent.

    Args:
        store: its URL; a password in it is masked (B29).
        standings: of the agents.
    """
    return {
        "store": without_secrets(store),
        "agents": {
            one.name: {
                "agent_rid": one.agent_rid,
                "state": one.state,
                **{name: getattr(one.stats, name) for name in NUMBERS},
            }
            for one in standings
        },
    }


def table(standings: Sequence[Standing]) -> str:
    """A column for each agent; as many beside each other as fit."""
    blocks: list[list[Standing]] = []
    left = 0
    for one in standings:
        width = GAP + _width(one)
        if not blocks or width > left:
            blocks.append([])
            left = WIDTH - len("quarantined")
        blocks[-1].append(one)
        left -= width
    return "\n\n".join("\n".join(_lines(block)) for block in blocks)


def _width(one: Standing) -> int:
    return max(len(one.name), len("drained"))


def _lines(block: Sequence[Standing]) -> Iterator[str]:
    yield _line("", [one.name for one in block], block)
    yield _line("state", [one.state for one in block], block)
    for name in NUMBERS:
        yield _line(name, [str(getattr(one.stats, name)) for one in block], block)


def _line(label: str, cells: Sequence[str], block: Sequence[Standing]) -> str:
    told = [f"{cell:>{GAP + _width(one)}}" for cell, one in zip(cells, block, strict=True)]
    return f"{label:<{len('quarantined')}}{''.join(told)}"
