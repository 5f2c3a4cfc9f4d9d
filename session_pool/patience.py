"""Numbers, as a caller gives them: what cannot be meant is refused by name, before anything waits.

Pure: no I/O, no clock. A NaN in a heap of deadlines would hold up everybody else's (B7).
"""

from __future__ import annotations

from typing import SupportsFloat

from session_pool.errors import ConfigError


def seconds(given: object, name: str, hint: str = "", *, more_than_0: bool = False) -> float:
    """Seconds that somebody may wait, or wish for.

    Args:
        given: a number, 0 or more; infinity is for ever.
        name: of the argument, for the message.
        hint: what else could be meant, for the message.
        more_than_0: no time at all cannot be meant.

    Raises:
        ConfigError: no number, a negative one, not a number (NaN), or one beyond all floats.
    """
    hint = f"; {hint}" if hint else ""
    # A protocol is asked for last: looking for it costs more than a lease.
    if not isinstance(given, (float, int)) and (
        isinstance(given, str | bytes) or not isinstance(given, SupportsFloat)
    ):
        kind = type(given).__name__
        raise ConfigError(f"{name} must be a number of seconds, not a {kind}{hint}")
    try:
        value = float(given)
    except OverflowError:
        raise ConfigError(f"{name} is too large a number of seconds{hint}") from None
    if not value >= 0:  # a NaN is not either
        raise ConfigError(f"{name} must not be negative{hint}")
    if more_than_0 and value == 0:
        raise ConfigError(f"{name} must be more than 0: answers take time{hint}")
    return value


def seconds_or_none(
    given: object, name: str, hint: str, *, more_than_0: bool = False
) -> float | None:
    """`seconds`, where None has a meaning of its own, which the hint tells."""
    return None if given is None else seconds(given, name, hint, more_than_0=more_than_0)


def whole(given: object, name: str) -> int:
    """A number of things.

    Raises:
        ConfigError: no whole number, or a negative one.
    """
    if not isinstance(given, int) or given < 0:
        raise ConfigError(f"{name} must be a whole number, 0 or more")
    return given
