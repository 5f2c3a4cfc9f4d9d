"""The JSON of the API, and what it means in the nouns of the model.

Answers are read strictly where the pool builds on them and leniently elsewhere: keys that are new
are ignored, a title or an expiry that is missing degrades (B32), anything else that is missing or
of another type is a `RemoteMalformed` that names the field and never quotes it (B29). Requests
leave out what was not given. This room knows shapes; it sends nothing and reads no clock.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final, NamedTuple, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationError,
)
from pydantic.alias_generators import to_camel

from session_pool.errors import ConfigError, RemoteMalformed
from session_pool.foundry.translate import Operation
from session_pool.model import Exchange, Session

_END_OF_TIME: Final = datetime.max.replace(tzinfo=UTC)


def _rfc_3339(value: object) -> object:
    """Let RFC 3339 pass to pydantic's own reader, and far-future years, which Python cannot hold.

    A number, quoted or not, would be taken for seconds of the epoch, which the contract does not
    know. Nanoseconds are cut to microseconds by pydantic. Java prints years beyond 9999 with a
    plus; such a session lives for ever as far as we are concerned (B16).
    """
    if isinstance(value, str):
        if re.match(r"\d{4}-\d\d-\d\dT", value):
            return value
        if re.match(r"\+?\d{5,10}-\d\d-\d\dT", value):
            return _END_OF_TIME
    raise ValueError("not an instant")


def _in_utc(value: datetime) -> datetime:
    """The same instant, with nothing of pydantic's in it.

    Its time zones crash the interpreter as that ends, where they are freed late: what is kept of a
    session for as long as the process lives must not hold one.
    """
    try:
        return value.astimezone(UTC)
    except OverflowError:  # within hours of the first or the last instant that Python can hold
        return value.replace(tzinfo=UTC)


Instant = Annotated[AwareDatetime, BeforeValidator(_rfc_3339), AfterValidator(_in_utc)]


class _Wire(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel,
        defer_build=True,  # validators are built at their first use, not at import
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )


class SessionMetadata(_Wire):
    """`SessionMetadata`; the contract requires all, the two with a default may be missing."""

    created_time: Instant
    updated_time: Instant
    message_count: int
    estimated_expires_time: Instant | None = None
    title: str = ""


class WireSession(_Wire):
    """`Session`."""

    rid: str
    agent_rid: str
    agent_version: str
    metadata: SessionMetadata

    @property
    def has_estimate(self) -> bool:
        """Whether the remote said when it expires."""
        return self.metadata.estimated_expires_time is not None

    def noun(self) -> Session:
        """Return it as the model has it. Without an estimate it expires as it was updated: no life
        is promised, so that it is looked at before it is used (B32)."""
        seen = self.metadata
        return Session(
            rid=self.rid,
            agent_rid=self.agent_rid,
            agent_version=self.agent_version,
            created_time=seen.created_time,
            updated_time=seen.updated_time,
            estimated_expires_time=seen.estimated_expires_time or seen.updated_time,
            message_count=seen.message_count,
            title=seen.title,
        )


class WireSessionPage(_Wire):
    """The answer of List Sessions; an absent and an empty token both mean the last page."""

    data: tuple[WireSession, ...] = ()
    next_page_token: str | None = None


class WireResult(_Wire):
    """`SessionExchangeResult`."""

    agent_markdown_response: str
    session_trace_id: str
    parameter_updates: dict[str, Any] = {}
    total_tokens_used: int | None = None
    interrupted_output: bool = False

    def noun(self) -> Exchange:
        """Return it as the model has it."""
        return Exchange(
            text=self.agent_markdown_response,
            trace_id=self.session_trace_id,
            tokens_used=self.total_tokens_used,
            parameter_updates=self.parameter_updates,
            interrupted=self.interrupted_output,
        )


class WireExchange(_Wire):
    """`SessionExchange`, as far as it is used."""

    result: WireResult


class WireContent(_Wire):
    """`Content`: exchanges, oldest first."""

    exchanges: tuple[WireExchange, ...]


class WireCancelled(_Wire):
    """The answer of Cancel Session."""

    result: WireResult | None = None


class WireTrace(_Wire):
    """`SessionTrace`, as far as it is used."""

    status: str


class WireToken(_Wire):
    """The token endpoint's answer (RFC 6749, 5.1), whose keys are in snake case."""

    model_config = ConfigDict(alias_generator=None)

    access_token: str
    expires_in: float | None = None


Shape = TypeVar("Shape", bound=_Wire)


def read(shape: type[Shape], body: bytes, operation: Operation) -> Shape:
    """Read an answer's body.

    Args:
        shape: the model to read it as.
        body: the whole body.
        operation: whose answer it is, for the message.

    Raises:
        RemoteMalformed: it is no JSON, or does not fit; the message names the first field at
            fault and how many there are.
    """
    try:
        return shape.model_validate_json(body)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
    # Outside the handler, and so without a context: pydantic's error holds the whole input.
    where = ".".join(str(step) for step in faults[0]["loc"]) or "body"
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    raise RemoteMalformed(
        f"{operation}: the answer does not fit the API: {where}: {faults[0]['type']}{more}; "
        "the API is in preview and may have changed, look for a newer session-pool"
    )


class Said(NamedTuple):
    """One message to an agent, with the identifiers it can be found by."""

    text: str
    trace_id: str
    message_id: str | None
    parameter_inputs: Mapping[str, Any] | None
    contexts_override: Sequence[Any] | None

    def body(self) -> bytes:
        """Return the request's body. `parameterInputs` is required, so it is there even empty.

        Raises:
            ConfigError: parameters or contexts that cannot be JSON.
        """
        contexts = self.contexts_override
        given = {
            "userInput": {"text": self.text},
            "parameterInputs": _plain("parameter_inputs", dict, self.parameter_inputs or {}),
            "contextsOverride": None
            if contexts is None
            else _plain("contexts_override", list, contexts),
            "sessionTraceId": self.trace_id,
            "messageId": self.message_id,
        }
        return encode(given)

    def __repr__(self) -> str:
        return f"Said(trace_id={self.trace_id!r})"


def _plain(name: str, kind: type, given: Any) -> Any:
    """Return what a caller gave as JSON has it; what cannot be, is not quoted (B29)."""
    try:
        plain = kind(given) if not isinstance(given, str | bytes) else None
        json.dumps(plain, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        plain = None
    if plain is None:
        shape = "mapping" if kind is dict else "sequence"
        raise ConfigError(
            f"{name} must be a {shape} of what JSON can carry, as the API's page has it"
        )
    return plain


def encode(options: Mapping[str, Any]) -> bytes:
    """Return a JSON object of the options that are not None.

    ASCII only, so that a text with half a surrogate pair, as some chat clients send, is no error
    that would carry it around.
    """
    given = {name: value for name, value in options.items() if value is not None}
    return json.dumps(given, allow_nan=False, separators=(",", ":")).encode("ascii")
