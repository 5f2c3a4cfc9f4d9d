"""What who ran out of time is told: where it went, and which limit was in the way (B7)."""

from __future__ import annotations

from typing import Final

from session_pool.desk import Desk
from session_pool.errors import AcquireTimeout
from session_pool.foundry import Budget, Urgency
from session_pool.space import Refusal, Ticket

HOLDERS: Final = 5
"""Holders named by a timeout: the oldest ones."""


def time_went_into(answer: Refusal | Ticket, desk: Desk, budget: Budget) -> tuple[str, str | None]:
    """The phase that used the time up, and the limit that was in the way, if one was.

    Args:
        answer: the store's last.
        desk: the agent's.
        budget: of the principal.
    """
    if answer.needs == "own":
        return "conversation", "conversation"
    if answer.needs == "room":
        return "line", "max_leased"
    if answer.counts.of("creating") >= desk.terms.max_creating:
        return "creation", "max_creating"
    return "creation", "budget" if budget.room(Urgency.CREATE) == 0 else None


def timed_out(desk: Desk, waited_s: float, phase: str, capped_by: str | None) -> AcquireTimeout:
    """The error to raise, its cause the last one that this agent met.

    Args:
        desk: the agent's.
        waited_s: seconds since it was asked.
        phase, capped_by: as of `AcquireTimeout`.
    """
    leases = [lease for ref in desk.leases.values() if (lease := ref()) is not None]
    oldest = sorted(leases, key=lambda lease: lease.held_s, reverse=True)[:HOLDERS]
    holders = tuple(f"{lease.where}, held for {lease.held_s:.0f} s" for lease in oldest)
    because = f", capped by {capped_by}" if capped_by else ""
    silent = ", which did not answer in time" if phase == "store" else ""
    cause = f"; the last error: {desk.last_error}" if desk.last_error else ""
    error = AcquireTimeout(
        f"no session of {desk.name} within {waited_s:.1f} s: the time went into the "
        f"{phase}{silent}{because}{cause}",
        phase=phase,
        capped_by=capped_by,
        waited_s=waited_s,
        stats=desk.stats(),
        holders=holders,
    )
    error.__cause__ = desk.last_error
    return error
