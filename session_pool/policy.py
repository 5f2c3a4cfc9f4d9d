"""The options: how many sessions, how long, and what when it goes wrong, each with its reason.

They are frozen, refuse unknown names and contradictions by name, and are never silently repaired.
This room knows pydantic and the nouns; it decides nothing (that is `rules`). The README's table is
generated from the fields below.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from session_pool.errors import ConfigError
from session_pool.model import Terms

Count = Annotated[int, Field(ge=0, strict=True)]
AtLeastOne = Annotated[int, Field(ge=1, strict=True)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
AgentVersion = Annotated[str, Field(pattern=r"^\d+\.\d+$")]


def _option(default: Any, unit: str, because: str) -> Any:
    """A field with its unit and the reason of its default, both for the table in the README."""
    return Field(default=default, description=because, json_schema_extra={"unit": unit})


class Options(BaseModel):
    """The manners that all option models share: frozen, strict about names, clear when refusing."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, defer_build=True)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ConfigError(explain(type(self), error)) from None


def explain(options: type[BaseModel], error: ValidationError) -> str:
    """One line per mistake, each naming the field and the fix; input values are not repeated.

    Args:
        options: the model that refused, for its name and the names that it knows.
        error: pydantic's account of it.
    """
    lines = []
    for fault in error.errors(include_url=False, include_input=False):
        field = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            known = ", ".join(options.model_fields)
            lines.append(f"{options.__name__}.{field}: no such field; it has {known}")
        elif field:
            lines.append(f"{options.__name__}.{field}: {fault['msg']}")
        else:
            lines.append(f"{options.__name__}: {fault['msg'].removeprefix('Value error, ')}")
    return "\n".join(lines)


class AgentPolicy(Options):
    """What the pool does for one agent; counts and limits are per agent (B8, B14, `interfaces`).

    Raises:
        ConfigError: a field that does not exist, a value out of range, or two that contradict.
    """

    min_idle: Count = _option(1, "sessions", "one ready session hides the 0.8 s a creation takes")
    max_idle: Count = _option(100, "sessions", "more than a burst needs; the rest expires unused")
    max_leased: AtLeastOne = _option(
        100, "sessions", "a leak stops here instead of at the stack's own limit"
    )
    max_creating: AtLeastOne = _option(
        32, "creations", "just over an individual user's 30 requests at once"
    )
    max_waiting: Count = _option(
        1000, "callers", "a longer line could not be served within acquire_timeout_s"
    )
    max_parked: AtLeastOne = _option(
        1_000_000, "conversations", "about 1 KiB each; the one unused longest leaves first"
    )
    acquire_timeout_s: Seconds | None = _option(
        60.0, "s", "as long as a person waits for a chatbot; None waits for ever"
    )
    create_timeout_s: Positive = _option(10.0, "s", "twelve times the usual creation")
    exchange_timeout_s: Positive = _option(600.0, "s", "agents that run tools take minutes")
    min_remaining_s: Seconds = _option(300.0, "s", "a first exchange must fit before the end")
    doubt_s: Seconds = _option(30.0, "s", "estimates and clocks are this far off at most")
    refresh_ahead_s: Positive = _option(
        900.0, "s", "ten minutes to renew in before min_remaining_s bites"
    )
    unlisted_idle_s: Positive = _option(
        3600.0, "s", "an unlisted agent nobody asked for in this long is no longer kept warm"
    )
    park_timeout_s: Positive | None = _option(
        None, "s", "a conversation keeps its session for as long as it lives"
    )
    remember_s: Seconds = _option(2_592_000.0, "s", "30 days: a loss is announced even after leave")
    settle_s: Seconds = _option(60.0, "s", "an exchange begun unnoticed shows itself by then")
    verify_after_s: Positive = _option(
        1800.0, "s", "a session deleted elsewhere is noticed within half an hour"
    )
    reuse: Literal["never", "anyone"] = _option(
        "never", "", "a used session carries its history: nobody else may read it (B4)"
    )
    context_lost: Literal["announce", "raise"] = _option(
        "announce", "", "goes on in a new session and says so; `raise` stops until start_over()"
    )
    lease_ttl_s: Positive = _option(
        30.0, "s", "a crashed holder blocks its session this long (no end on memory://)"
    )
    error_ttl_s: Seconds = _option(30.0, "s", "how long a permanent fault fails newcomers fast")
    agent_version: AgentVersion | None = _option(
        None, "", "the latest published version at each creation"
    )
    delete_retired: Literal["unused", "all", "none"] = _option(
        "unused", "", "a used session may be somebody's record"
    )

    @model_validator(mode="after")
    def _no_contradiction(self) -> AgentPolicy:
        if not self.doubt_s < self.min_remaining_s:
            raise ValueError(
                f"doubt_s ({self.doubt_s:g}) must be less than min_remaining_s "
                f"({self.min_remaining_s:g}); lower doubt_s or raise min_remaining_s"
            )
        if not self.min_remaining_s < self.refresh_ahead_s:
            raise ValueError(
                f"min_remaining_s ({self.min_remaining_s:g}) must be less than refresh_ahead_s "
                f"({self.refresh_ahead_s:g}); lower min_remaining_s or raise refresh_ahead_s"
            )
        if self.min_idle > self.max_idle:
            raise ValueError(
                f"min_idle ({self.min_idle}) must not exceed max_idle ({self.max_idle}); "
                "lower min_idle or raise max_idle"
            )
        return self

    def terms(self) -> Terms:
        """The same values as the plain tuple that the rules work with."""
        return Terms(**{name: getattr(self, name) for name in Terms._fields})


class RequestLimits(Options):
    """What the stack lets one user do (B13; API page, "Limits").

    None means the preset of the credentials: 5,000 a minute and 30 at once for a user's token,
    10,000 a minute and 800 at once for a service user.

    Raises:
        ConfigError: a field that does not exist, or a value out of range.
    """

    requests_per_minute: AtLeastOne | None = _option(
        None, "requests/min", "the published limit for these credentials"
    )
    concurrent_requests: AtLeastOne | None = _option(
        None, "requests", "the published limit for these credentials"
    )
    upkeep_share: Annotated[float, Field(gt=0, le=1)] = _option(
        0.2, "of 1", "replacing and verifying may not crowd out those who wait"
    )
