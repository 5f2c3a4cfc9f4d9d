"""Every knob of the emulator, with its default, and how much the default is worth.

What nobody documents about the API is a setting here, not a guess in the code. None of the
defaults has been verified on a real stack. This room is data; it decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from math import isfinite
from typing import Any, Final, Literal, NamedTuple, get_args, get_origin, get_type_hints

from .errors import ERRORS
from .operations import OPERATIONS

Status = Literal["documented", "inferred", "unknown", "knob"]
"""documented: some page says so. inferred: our reading. unknown: nobody says. knob: for tests."""


EXTENDING: Final = frozenset(
    ("exchange", *(one.name for one in OPERATIONS if "{session_rid}" in one.path))
)
"""What may extend a session's life: a whole exchange, or the use of it in any other way."""


def _knob(default: Any, section: str, status: Status, meaning: str) -> Any:
    return field(
        default=default, metadata={"section": section, "status": status, "meaning": meaning}
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EmulatorSettings:
    """All settings; each is a keyword of `Emulator`. Verified on a real stack: none of them.

    Raises:
        ValueError: a value that cannot be meant; it names the field and says what would do.
    """

    # --- life of a session (contract 6.2, 6.3)
    lifetime_s: float = _knob(
        86400.0, "6.2", "inferred", "idle lifetime that estimates show; inf is a far future"
    )
    expiry_error_s: float = _knob(
        0.0, "6.2", "unknown", "a session dies this long after its estimate; negative: before"
    )
    expired_error: str = _knob(
        "SessionNotFound", "6.2", "inferred", "what using an expired session answers"
    )
    extended_by: tuple[str, ...] = _knob(
        ("exchange",), "6.3", "inferred", 'what extends the life; also "get", "content", …'
    )
    expiry_during_exchange: Literal["survives", "dies"] = _knob(
        "survives", "6.2", "unknown", "a session whose time comes while it answers"
    )
    fresh_title: str = _knob("New session", "10", "unknown", "title of a fresh session")
    fresh_message_count: int = _knob(0, "10", "unknown", "messageCount of a fresh session")
    title_touches: bool = _knob(False, "6.3", "unknown", "updateTitle changes updatedTime")

    # --- exchanges (contract 6.4 to 6.7)
    concurrent_continue: Literal["reject", "interleave", "serialise"] = _knob(
        "reject", "6.4", "unknown", "a second continue while one is under way"
    )
    concurrent_status: Literal[400, 409] = _knob(
        400, "6.4", "unknown", "status of that rejection; its name is a generic one"
    )
    on_disconnect: Literal["finish", "abandon"] = _knob(
        "finish", "6.5", "unknown", "an exchange whose client hangs up"
    )
    stream_headers: Literal["first_byte", "at_once"] = _knob(
        "first_byte", "6.5", "unknown", "when a stream's status line is sent"
    )
    stream_chunk_bytes: int = _knob(
        7, "6.5", "knob", "octets in a chunk of a stream; they may split a character"
    )
    content_lag_s: float = _knob(
        0.0, "6.5", "unknown", "time after its end until content and messageCount show an exchange"
    )
    trace_lag_s: float = _knob(
        0.0, "6.7", "unknown", "time after its begin until the trace of an exchange is found"
    )
    unrecorded_trace: Literal["complete", "in_progress", "not_found"] = _knob(
        "complete", "6.6", "unknown", "the trace of an exchange that ended without being stored"
    )
    cancel_lag_s: float = _knob(
        0.0, "6.6", "documented", "time after its begin until an exchange can be cancelled"
    )
    fresh_content: Literal["empty", "not_found"] = _knob(
        "empty", "4", "unknown", "content of a session without exchanges"
    )
    context_limit: int | None = _knob(
        None, "6.10", "knob", "exchanges after which ContextSizeExceededLimit is answered"
    )
    token_counts: bool = _knob(True, "3", "documented", "answers carry totalTokensUsed")

    # --- ownership and agents (contract 6.1, 6.8, 6.11)
    foreign_session: Literal["not_found", "denied"] = _knob(
        "not_found", "6.11", "unknown", "another user's session"
    )
    any_agent: bool = _knob(
        True, "6.1", "knob", 'any well-formed agent RID exists, with version "1.0" published'
    )

    # --- pages, gates and answers (contract 1, 2, 6.8)
    max_page_size: int = _knob(
        100, "6.8", "documented", "largest page, and size where none is asked"
    )
    oversized_page: Literal["reject", "cap"] = _knob(
        "reject", "6.8", "unknown", "a pageSize above the largest"
    )
    preview_required: bool = _knob(True, "1", "documented", "refuse requests without preview=true")
    no_content_status: Literal[200, 204] = _knob(
        204, "1", "inferred", "status of delete and updateTitle"
    )
    error_descriptions: bool = _knob(False, "5", "unknown", "errors carry errorDescription")
    extra_keys: bool = _knob(False, "5", "knob", "answers and errors carry keys nobody knows")
    fraction_digits: int | Literal["vary"] = _knob(
        9,
        "2",
        "inferred",
        'digits of a second in timestamps: 0 to 9, or "vary" from one to the next',
    )
    clock_offset_s: float = _knob(
        0.0, "11", "knob", "how far the server's clock and Date are ahead; may be negative"
    )

    # --- time it takes (contract 6.5, 11)
    create_latency_s: float = _knob(0.0, "11", "knob", "time a creation takes")
    exchange_latency_s: float = _knob(0.0, "11", "knob", "time an answer takes to be written")
    first_byte_delay_s: float = _knob(0.0, "6.5", "knob", "silence before a stream's first octet")
    latency_s: float = _knob(0.0, "11", "knob", "time every other operation takes")
    token_latency_s: float = _knob(0.0, "8", "knob", "time the token endpoints take")
    latency_jitter: float = _knob(
        0.0, "11", "knob", "share of a latency that chance adds or takes, 0 to 1, by the seed"
    )

    # --- limits and credentials (contract 7, 8)
    requests_per_minute: int | None = _knob(None, "7", "knob", "requests of one user in a minute")
    concurrent_requests: int | None = _knob(None, "7", "knob", "requests of one user at once")
    throttle_status: Literal[429, 503] = _knob(429, "7", "documented", "what going over answers")
    token_lifetime_s: float = _knob(3600.0, "8", "unknown", "expires_in of an issued token")

    # --- the emulator itself
    calls_kept: int = _knob(10_000, "-", "knob", "how many of the latest calls are remembered")

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for one in fields(self):
            _check(one.name, getattr(self, one.name), hints[one.name])
        for op in self.extended_by:
            if op not in EXTENDING:
                known = ", ".join(sorted(EXTENDING))
                raise ValueError(f"extended_by: unknown operation {op!r}; known are {known}")
        if self.expired_error not in ERRORS:
            raise ValueError(f"expired_error: unknown error name {self.expired_error!r}")
        if self.latency_jitter > 1:
            raise ValueError("latency_jitter: a share from 0 to 1")
        if not (self.fraction_digits == "vary" or 0 <= self.fraction_digits <= 9):
            raise ValueError('fraction_digits: 0 to 9, or "vary"')


_SIGNED: Final = frozenset({"expiry_error_s", "clock_offset_s"})
_POSITIVE: Final = frozenset({"stream_chunk_bytes", "max_page_size", "calls_kept"})


_KINDS: Final[dict[Any, str]] = {
    float: "a number",
    int: "a whole number",
    bool: "True or False",
    str: "a text",
    tuple: "a tuple of names",
    type(None): "None",
}


def _check(name: str, value: Any, hint: Any) -> None:
    """Refuse a value that cannot be meant, by the name of its field."""
    if not _fits(value, hint):
        verb = "none of" if get_origin(hint) is Literal else "not"
        raise ValueError(f"{name}: {value!r} is {verb} {_wanted(hint)}")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    least = 1 if name in _POSITIVE else 0
    if name not in _SIGNED and not value >= least:
        raise ValueError(f"{name}: {value!r} is less than {least}")
    if name != "lifetime_s" and not isfinite(value):
        raise ValueError(f"{name}: must be finite")


def _fits(value: Any, hint: Any) -> bool:
    origin = get_origin(hint)
    if origin is Literal:
        return value in get_args(hint)
    if origin is tuple:
        return isinstance(value, tuple | list)
    if origin is not None:
        return any(_fits(value, choice) for choice in get_args(hint))
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, int | float if hint is float else hint)


def _wanted(hint: Any) -> str:
    origin = get_origin(hint)
    if origin is Literal:
        return ", ".join(repr(choice) for choice in get_args(hint))
    if origin is None or origin is tuple:
        return _KINDS[origin or hint]
    return " or ".join(_wanted(choice) for choice in get_args(hint))


class SettingRow(NamedTuple):
    """One line of the table of settings."""

    name: str
    default: str
    section: str
    status: Status
    verified: bool
    meaning: str


def settings_table() -> tuple[SettingRow, ...]:
    """All settings, in order, as a README shows them; `section` is the contract's."""
    return tuple(
        SettingRow(
            one.name,
            repr(one.default),
            one.metadata["section"],
            one.metadata["status"],
            False,  # nobody has had a real stack to try one on
            one.metadata["meaning"],
        )
        for one in fields(EmulatorSettings)
    )


def settings_markdown() -> str:
    """The same as a Markdown table."""
    lines = [
        "| setting | default | contract | status | verified on a real stack | meaning |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| `{row.name}` | `{row.default}` | {row.section} | {row.status} "
        f"| {'yes' if row.verified else 'no'} | {row.meaning} |"
        for row in settings_table()
    ]
    return "\n".join(lines) + "\n"
