"""What a pool is given is of a kind that it can use: one clear sentence for what is not.

Whether a value can be meant is judged where it is used; here is what would otherwise be taken for
something else (`sole_owner="no"` is true) or fail far from where it was said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from session_pool.errors import ConfigError
from session_pool.foundry import SecretFile
from session_pool.policy import AgentPolicy, RequestLimits


class _Kind(NamedTuple):
    words: str
    fits: Callable[[Any], bool]
    optional: bool = False


_FLAG: Final = _Kind("True or False", lambda it: isinstance(it, bool))
_KINDS: Final = {
    "url": _Kind("a text, https://host", lambda it: isinstance(it, str)),
    "token": _Kind(
        "a text or a SecretFile", lambda it: isinstance(it, str | SecretFile), optional=True
    ),
    "auth": _Kind(
        "a StaticToken(…), ClientCredentials(…), or what has their token() and renew()",
        lambda it: _has(it, "token", "renew"),
        optional=True,
    ),
    "store": _Kind(
        "a URL such as memory:// or sqlite:///pool.db",
        lambda it: isinstance(it, str) or _has(it, "open", "take"),
    ),
    "policy": _Kind("an AgentPolicy(…)", lambda it: isinstance(it, AgentPolicy), optional=True),
    "agents": _Kind(
        "a mapping of names to Agent(…)", lambda it: isinstance(it, Mapping), optional=True
    ),
    "limits": _Kind("a RequestLimits(…)", lambda it: isinstance(it, RequestLimits), optional=True),
    "sole_owner": _FLAG,
    "allow_http": _FLAG,
}


def check_kinds(**given: Any) -> None:
    """Refuse an argument of a pool that is of another kind.

    Args:
        given: arguments by name.

    Raises:
        ConfigError: it names the argument, what it must be and what it is; never its value, which
            may be a secret.
    """
    for name, value in given.items():
        kind = _KINDS[name]
        if not ((kind.optional and value is None) or kind.fits(value)):
            raise ConfigError(f"{name}: must be {kind.words}, not {_told(value)}")


def _has(value: Any, *methods: str) -> bool:
    return not isinstance(value, type) and all(callable(getattr(value, it, None)) for it in methods)


def _told(value: Any) -> str:
    if value is None:
        return "None"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
