"""How one entry changes, as the protocol says it, for the naive model."""

from __future__ import annotations

from typing import Any, Final

from session_pool.model import FOREVER, NO_FACTS, Entry, PoolKey
from session_pool.space import Put

KEY: Final = PoolKey("stack.example.com", "default", "ri.aip-agents..agent.1")
FREE: Final = ("idle", "ageing")


def blank(entry_id: str, now: float) -> Entry:
    """What an insertion changes."""
    return Entry(
        entry_id, "chore", 0, 0, "", "", False, None, "", "", FOREVER, now, FOREVER, FOREVER,
        FOREVER, NO_FACTS, "",
    )  # fmt: skip


def changed(entry: Entry, put: Put, now: float) -> Entry:
    """An entry after a put."""
    new: dict[str, Any] = {"version": entry.version + 1, "op": put.op, "state": put.state}
    for name in ("rid", "agent_version", "pinned", "facts"):
        if getattr(put, name) is not None:
            new[name] = getattr(put, name)
    if put.fresh_in_s is not None:
        new["fresh_until"] = now + put.fresh_in_s
    if put.expires_in_s is not None:
        new["expires"] = now + put.expires_in_s
    fresh_until = new.get("fresh_until", entry.fresh_until)
    if put.state != entry.state:
        new["since"] = now
    if put.state == "leased":
        new["deadline"] = entry.lapses
    else:
        new |= {"holder": "", "lease": "", "lapses": FOREVER}
        if put.deadline_in_s is not None:
            new["deadline"] = now + put.deadline_in_s
        elif entry.state == "leased":
            new["deadline"] = fresh_until
    if put.state == "idle":
        new["deadline"] = min(new.get("deadline", entry.deadline), fresh_until)
    if put.unbind or put.state in FREE:
        new["conversation"] = None
    return entry._replace(**new)
