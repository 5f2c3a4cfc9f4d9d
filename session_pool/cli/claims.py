"""What the demo claims of the pool, each judged on evidence that the pool did not write.

Pure: from `Evidence` to claims and their words. Where the evidence comes from is `evidence`, how
it is shown is `screen`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from session_pool import PoolStats
from session_pool.emulator import Audit

NOTICED_S: Final = 0.1
"""A first turn that reached the server within this many seconds did not wait for a session."""

GRACE_S: Final = 1.0
"""On top of a creation's time, for a machine that is busy with other things."""

STATES: Final = ("idle", "leased", "parked", "quarantined", "retiring", "retired")
"""Where the sessions of B24 are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What was seen.

    Attributes:
        audit: the server's counters, at the very end.
        answered, failed, unfinished: texts by what became of them; the last were interrupted.
        waits_s: for each conversation, seconds from asking its first turn to its arrival.
        creation_s: the longest time that the server takes for a creation.
        replaced: idle sessions retired because their replacement was ready.
        left_to_expire: never-used sessions that expired while the pool kept them.
        lost: answered turns whose conversation's session had died, by the server's record.
        announced: those of them whose reply said so.
        misled: other turns whose reply spoke of a loss, or knew of no past that there was.
        looks, unbalanced: how often the account of B24 was looked at, and did not add up.
        stats: the pool's, as the last text had been answered.
        made: sessions that the pool counts as created, at the very end.
        unsettled: creations whose answer never came, at the very end.
    """

    audit: Audit
    answered: int
    failed: int
    unfinished: int
    waits_s: tuple[float, ...]
    creation_s: float
    replaced: int
    left_to_expire: int
    lost: int
    announced: int
    misled: int
    looks: int
    unbalanced: int
    stats: PoolStats
    made: int
    unsettled: int


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim, and whether it holds.

    Attributes:
        name: as the JSON calls it.
        ok: whether it holds.
        value: what was found, as the JSON has it.
        finding: the same in words.
        promise: what is promised, in one plain sentence.
    """

    name: str
    ok: bool
    value: int | Mapping[str, int | float]
    finding: str
    promise: str


def judge(seen: Evidence) -> tuple[Claim, ...]:
    """Every claim, judged."""
    audit = seen.audit
    return (
        _none(
            "exchanges_on_dead_sessions",
            audit.exchanges_on_dead_sessions,
            "no text goes to a session that has ended",
        ),
        _none(
            "overlapping_exchanges",
            audit.overlapping_exchanges,
            "a session serves one exchange at a time",
        ),
        _none(
            "sessions_with_two_marks",
            audit.sessions_with_two_marks,
            "nobody reads another conversation's history",
        ),
        _none(
            "turns_that_lost_a_living_session",
            audit.turns_that_lost_a_living_session,
            "while it lives, its talk keeps it",
        ),
        _none(
            "texts_sent_twice",
            audit.double_begun_texts,
            "agents act on what they read, so once is enough",
        ),
        _answered(seen),
        _waited(seen),
        Claim(
            "sessions_replaced_before_they_expired",
            seen.left_to_expire == 0,
            {"replaced": seen.replaced, "left_to_expire": seen.left_to_expire},
            f"sessions replaced before they expired: {seen.replaced}"
            + (f", too late: {seen.left_to_expire}" if seen.left_to_expire else ""),
            "no idle one is left to expire",
        ),
        Claim(
            "losses_announced",
            seen.announced == seen.lost and seen.misled == 0,
            {"announced": seen.announced, "of": seen.lost, "misled": seen.misled},
            f"losses announced: {seen.announced} of {seen.lost}"
            + (f", wrongly told: {seen.misled}" if seen.misled else ""),
            "who lost the past is told so, and nobody else",
        ),
        _conserved(seen),
    )


def balanced(stats: PoolStats) -> bool:
    """Whether every session is accounted for, for each agent and all together (B24)."""
    return all(
        one.created + one.adopted == sum(getattr(one, state) for state in STATES)
        for one in (stats, *stats.agents.values())
    )


def _none(name: str, count: int, promise: str) -> Claim:
    return Claim(name, count == 0, count, f"{name.replace('_', ' ')}: {count}", promise)


def _answered(seen: Evidence) -> Claim:
    sent = seen.answered + seen.failed
    value = {"answered": seen.answered, "of": sent, "unfinished": seen.unfinished}
    finding = f"turns answered: {seen.answered} of {sent}"
    if seen.unfinished:
        finding += f", and {seen.unfinished} interrupted"
    return Claim(
        "turns_answered", seen.failed == 0, value, finding,
        "an expired session costs nobody an answer",
    )  # fmt: skip


def _waited(seen: Evidence) -> Claim:
    waited = [wait_s for wait_s in seen.waits_s if wait_s > NOTICED_S]
    longest_s = max(seen.waits_s, default=0.0)
    finding = f"first turns that waited: {len(waited)} of {len(seen.waits_s)}"
    return Claim(
        "first_turns_that_waited",
        longest_s <= seen.creation_s + GRACE_S,
        {"waited": len(waited), "of": len(seen.waits_s), "longest_s": round(longest_s, 3)},
        f"{finding}, {longest_s:.2f} s at most" if waited else finding,
        "and none for longer than a creation",
    )


def _conserved(seen: Evidence) -> Claim:
    stats, server = seen.stats, seen.audit.sessions_created
    terms = {state: getattr(stats, state) for state in STATES}
    value = {"created": stats.created, "adopted": stats.adopted, **terms}
    value |= {"looks": seen.looks, "unbalanced": seen.unbalanced}
    value |= {"created_by_the_end": seen.made, "made_by_the_server": server}
    shown = " + ".join(f"{count} {state}" for state, count in terms.items() if count) or "0"
    known = seen.made <= server <= seen.made + seen.unsettled
    return Claim(
        "conservation",
        balanced(stats) and seen.unbalanced == 0 and known,
        value,
        f"conservation: {stats.created + stats.adopted} created = {shown}"
        + ("" if known else f", but the server made {server}"),
        "none is lost",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The demo's outcome.

    Attributes:
        claims: as judged.
        evidence: on what.
        seed: to run the same again.
        seconds: how long it ran.
        lifetime_s: of a session, after its last exchange.
        interrupted: it was told to end early.
    """

    claims: tuple[Claim, ...]
    evidence: Evidence
    seed: int
    seconds: float
    lifetime_s: float
    interrupted: bool

    @property
    def failed(self) -> tuple[Claim, ...]:
        """The claims that do not hold."""
        return tuple(claim for claim in self.claims if not claim.ok)

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints; every value is plain."""
        return {
            "ok": not self.failed,
            "interrupted": self.interrupted,
            "seed": self.seed,
            "seconds": round(self.seconds, 3),
            "lifetime_s": self.lifetime_s,
            "claims": {
                claim.name: {
                    "ok": claim.ok,
                    "value": claim.value,
                    "text": f"{claim.finding} - {claim.promise}",
                }
                for claim in self.claims
            },
            "audit": asdict(self.evidence.audit),
            "stats": _plain(self.evidence.stats),
        }


def _plain(stats: PoolStats) -> dict[str, Any]:
    """The numbers, with two quantiles of each histogram (`JSON` has no infinity)."""
    told: dict[str, Any] = {}
    for name in PoolStats.__dataclass_fields__:
        value = getattr(stats, name)
        if name == "agents":
            if value:
                told[name] = {agent: _plain(one) for agent, one in value.items()}
        elif isinstance(value, int):
            told[name] = value
        else:
            for percent in (50, 99):
                bound_s = value.quantile(percent / 100)
                told[f"{name}_p{percent}_s"] = bound_s if bound_s < float("inf") else None
    return told
