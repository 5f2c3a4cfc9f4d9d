"""Scripted faults: which call goes wrong, and how.

A fault is a small frozen value, so a failing test is a list of lines to replay. `Faults` counts
calls and says which faults strike one; carrying them out is the business of `visits` and
`delivery`. This room knows the names of operations and errors, and no request.

The one-line form, for command lines, is `operation:which:kind[:option=value]…`::

    create:3:lost_after                 the third creation takes effect, its answer is lost
    create:2:AgentNotFound              a named error of the contract
    exchange:*:429:retry_after=2        every exchange is throttled
    get:/5:delay:delay=0.5              every fifth get takes half a second longer
    any:1%:503                          one call in a hundred, by the seed
    create:4:SessionExecutionFailed:times=3:effect=yes      the 4th to 6th fail, and take effect
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from random import Random
from typing import Any, Final

from .errors import ERRORS
from .operations import members

KINDS: Final[Mapping[str, str]] = {
    "lost_before": "connection reset, nothing happened",
    "lost_during": "connection reset as an exchange begins; it goes on (others: as lost_after)",
    "lost_after": "connection reset after the effect",
    "cut_before": "answer breaks off in the middle, nothing happened",
    "cut_after": "answer breaks off in the middle, the effect stands; at_bytes",
    "hang_before": "no answer ever, nothing happened",
    "hang_after": "no answer ever, the effect stands",
    "delay_before": "delay_s of waiting before the effect",
    "delay_after": "delay_s of waiting between effect and answer",
    "slow_body": "the body comes octet by octet, delay_s apart",
    "malformed": "the body is no JSON (a stream: no UTF-8); the effect stands",
    "missing_field": "the body lacks `field` (dots go deeper); the effect stands",
    "429": "throttled, without a body; retry_after_s, retry_hint, due_to",
    "503": "the same with 503",
    "401": "the token is refused",
    "403": "a refusal without a name of this API",
    "500": "an internal error without a name of this API",
    "empty_404": "the API is not on this stack",
    "error": "the error named in `error`, in no table if need be; status, code",
    "early_expiry": "the session dies by_s before its estimate (default: at half of its life)",
    "late_expiry": "the session lives by_s beyond its estimate (default: as long again)",
    "wrong_estimate": "the estimate is by_s off; negative: early (default: half of its life)",
    "expired_at_birth": "the estimate is by_s in the past (default 60), and the session is dead",
    "indefinite": "the session never dies, its estimate is in the far future",
}
LIFE: Final = frozenset(
    {"early_expiry", "late_expiry", "wrong_estimate", "expired_at_birth", "indefinite"}
)
REFUSALS: Final = frozenset({"429", "503", "401", "403", "500", "empty_404", "error"})

_ALIASES: Final = {"hang": "hang_before", "delay": "delay_before", "cut": "cut_after"}


@dataclass(frozen=True, slots=True)
class Fault:
    """One scripted fault.

    Attributes:
        op: an operation, or a group: "exchange", "api" (all but the token endpoints), "any".
        kind: one of `KINDS`, or a named error of the contract.
        nth: it strikes from this matching call on (the first is 1), counted since it was given.
        times: how often at most; None: once where `nth` is given, else without end.
        every: it strikes each so-many-th matching call only.
        probability: the chance that it strikes, 0 to 1, by the emulator's seed.
        effect: for refusals: the request takes effect all the same.
        retry_after_s: `Retry-After`, seconds, rounded up.
        retry_after_date: write `Retry-After` as a date by the server's clock instead.
        retry_hint, due_to: `QoS-Retry-Hint` and `QoS-Due-To`.
        delay_s: of delays, and between the octets of a slow body.
        by_s: how far a life is off.
        at_bytes: octets of the body sent before it is cut; None: half of it.
        field: the field that is missing, on the wire's own name.
        error, status, code: of the kind "error".

    Raises:
        ValueError: an unknown operation or kind, or a number that cannot be meant.
    """

    op: str
    kind: str
    nth: int | None = None
    times: int | None = None
    every: int | None = None
    probability: float | None = None
    effect: bool = False
    retry_after_s: float | None = None
    retry_after_date: bool = False
    retry_hint: str | None = None
    due_to: str | None = None
    delay_s: float = 1.0
    by_s: float | None = None
    at_bytes: int | None = None
    field: str = "rid"
    error: str | None = None
    status: int = 400
    code: str = "INVALID_ARGUMENT"

    def __post_init__(self) -> None:
        members(self.op)
        kind = _ALIASES.get(self.kind, self.kind)
        if kind in ERRORS:
            object.__setattr__(self, "error", kind)
            kind = "error"
        if kind not in KINDS:
            near = difflib.get_close_matches(kind, [*KINDS, *ERRORS], n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"unknown kind {self.kind!r}{hint}")
        object.__setattr__(self, "kind", kind)
        if kind == "error" and not self.error:
            raise ValueError("kind 'error' needs error=<name>")
        for name in ("nth", "times", "every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: {value} is less than 1")
        if self.probability is not None and not 0 <= self.probability <= 1:
            raise ValueError(f"probability: {self.probability} is not from 0 to 1")
        if self.delay_s < 0 or (self.retry_after_s is not None and self.retry_after_s < 0):
            raise ValueError("delay_s and retry_after_s cannot be negative")

    @classmethod
    def parse(cls, line: str) -> Fault:
        """Read the one-line form.

        Raises:
            ValueError: saying which part of the line is wrong, and what could stand there.
        """
        parts = line.strip().split(":")
        if len(parts) < 3:
            raise ValueError(
                f"fault {line.strip()!r}: expected operation:which:kind[:option=value]…"
            )
        try:
            # Named errors may hold a colon of their own ("Conjure:InvalidArgument").
            if f"{parts[2]}:{parts[3] if len(parts) > 3 else ''}" in ERRORS:
                parts[2:4] = [f"{parts[2]}:{parts[3]}"]
            op, which, kind, *options = parts
            given: dict[str, Any] = _which(which)
            for option in options:
                name, value = _option(option)
                given[name] = value
            return cls(op=_snake(op), kind=kind, **given)
        except ValueError as error:
            raise ValueError(f"fault {line.strip()!r}: {error}") from None


def _snake(op: str) -> str:
    """`blockingContinue` and `blocking-continue` are `blocking_continue`; `*` is `any`."""
    if op == "*":
        return "any"
    spread = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in op)
    return spread.replace("-", "_").lstrip("_")


def _which(which: str) -> dict[str, Any]:
    try:
        if which == "*":
            return {}
        if which.startswith("/"):
            return {"every": int(which[1:])}
        if which.endswith("%"):
            return {"probability": float(which[:-1]) / 100}
        return {"nth": int(which)}
    except ValueError:
        raise ValueError(
            f"{which!r} says no calls: a number, * for all, /5 for each fifth, 10% for chance"
        ) from None


_BOOLS: Final = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
_READERS: Final = {
    "times": int, "status": int, "at_bytes": int,
    "retry_after_s": float, "delay_s": float, "by_s": float,
    "effect": bool, "retry_after_date": bool,
}  # fmt: skip
_OPTIONS: Final = tuple(
    one.name for one in fields(Fault) if one.name not in {"op", "kind", "nth", "every"}
)


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    name = name.replace("-", "_")
    if name not in _OPTIONS and f"{name}_s" in _OPTIONS:
        name = f"{name}_s"
    if not equals or name not in _OPTIONS:
        raise ValueError(f"{text!r} is no option=value; options are {', '.join(_OPTIONS)}")
    reader = float if name == "probability" else _READERS.get(name, str)
    try:
        if reader is bool:
            return name, _BOOLS[value.lower()]
        return name, reader(value)
    except (KeyError, ValueError):
        kind = "yes or no" if reader is bool else "a number"
        raise ValueError(f"{name}: {value!r} is not {kind}") from None


@dataclass(slots=True)
class _Counted:
    fault: Fault
    ops: frozenset[str]
    seen: int = 0
    struck: int = 0

    def strikes(self, chance: Random) -> bool:
        fault = self.fault
        self.seen += 1
        if fault.nth is not None and self.seen < fault.nth:
            return False
        times = fault.times if fault.times is not None else (1 if fault.nth is not None else None)
        if times is not None and self.struck >= times:
            return False
        if fault.every is not None and self.seen % fault.every:
            return False
        if fault.probability is not None and chance.random() >= fault.probability:
            return False
        self.struck += 1
        return True


@dataclass(frozen=True, slots=True)
class Plan:
    """The faults that strike one call, in the order in which they were given."""

    faults: tuple[Fault, ...] = ()

    def of(self, *kinds: str) -> Fault | None:
        """The first fault of one of these kinds, or None."""
        return next((fault for fault in self.faults if fault.kind in kinds), None)

    def each(self, kind: str) -> tuple[Fault, ...]:
        """All faults of this kind."""
        return tuple(fault for fault in self.faults if fault.kind == kind)

    def refusal(self, *, effect: bool) -> Fault | None:
        """The first refusal that leaves the effect standing, or the first that does not."""
        return next(
            (f for f in self.faults if f.kind in REFUSALS and f.effect is effect),
            None,
        )

    @property
    def life(self) -> Fault | None:
        """The first fault about how long a session lives."""
        return self.of(*LIFE)


class Faults:
    """The faults in force; counts the calls that each of them matches.

    Args:
        faults: values, or their one-line form.
        chance: where probabilities come from.
    """

    def __init__(self, faults: Iterable[Fault | str], chance: Random) -> None:
        self._chance = chance
        self._counted: list[_Counted] = []
        for fault in faults:
            self.add(fault)

    def add(self, fault: Fault | str) -> Fault:
        """Put a fault in force from the next call on."""
        value = Fault.parse(fault) if isinstance(fault, str) else fault
        self._counted.append(_Counted(value, members(value.op)))
        return value

    def clear(self) -> None:
        """Put all faults out of force."""
        self._counted.clear()

    def plan(self, op: str) -> Plan:
        """Count a call, and say what strikes it."""
        if not self._counted:
            return Plan()
        matching = [counted for counted in self._counted if op in counted.ops]
        # Each one is asked, so that each counts this call whatever the others do.
        return Plan(tuple([c.fault for c in matching if c.strikes(self._chance)]))
