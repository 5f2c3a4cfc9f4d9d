"""What the server and the connection say when something is wrong, in the store's own words.

The one place where errors of the driver become the pool's (architecture: one place per edge).
"""

from __future__ import annotations

import ssl
from typing import Final

import hiredis

from session_pool.errors import ConfigError, SessionPoolError, StoreError, StoreUnavailable

_REFUSED: Final = {
    "NOAUTH": "wants a user or password, and the store's URL has none that it takes",
    "WRONGPASS": "refuses the user or password in the store's URL; correct it",
    "NOPERM": "does not permit the user in the store's URL what the store needs; grant it "
    "~{prefix}* &{prefix}* +@all -@admin, or at least the commands of this message",
    "NOPROTO": "speaks no RESP3; the store needs Redis 6.2 or later, or Valkey",
    "CROSSSLOT": "says that keys of one namespace are in several slots; this is a defect",
}
_AWAY: Final = {
    "READONLY": "is a read-only replica now",
    "MASTERDOWN": "is a replica that has lost its primary",
    "LOADING": "is still loading its data",
    "BUSY": "is busy with a script",
    "CLUSTERDOWN": "says that its cluster is down",
    "TRYAGAIN": "is moving the namespace to another node",
    "MOVED": "has given the namespace to another node",
    "ASK": "is giving the namespace to another node",
    "NOREPLICAS": "has too few replicas to take writes",
    "MISCONF": "takes no writes, since it cannot save its data; see its log",
    "OOM": "has no memory left (maxmemory)",
    "NOSCRIPT": "forgets scripts as soon as it has learnt them",
    "UNKILLABLE": "is busy with a script",
}
LOST: Final = frozenset(("READONLY", "MASTERDOWN", "LOADING", "CLUSTERDOWN", "MOVED", "ASK"))
"""After these this is not the server to talk to, so the connection is made anew."""

PREFIX: Final = "session-pool:"


def code_of(error: BaseException) -> str:
    """The first word of what a server says when it refuses."""
    return str(error).split(" ", 1)[0]


def translated(error: BaseException, shown: str, doing: str) -> SessionPoolError:
    """An error of the driver, the connection or the server, as the pool knows errors.

    Args:
        error: what happened; its own text is repeated only where no secret can be in it.
        shown: the server, as `Address.shown` names it.
        doing: what was being done.

    Returns:
        StoreUnavailable where asking again may help; ConfigError where the URL, or the server's
        set-up, must be changed; StoreError for what is neither.
    """
    if isinstance(error, SessionPoolError):
        return error
    if isinstance(error, hiredis.ReplyError):
        code = code_of(error)
        if code in _REFUSED:
            return ConfigError(f"store: {shown} {_REFUSED[code].format(prefix=PREFIX)}")
        if code in _AWAY:
            return StoreUnavailable(f"{doing}: {shown} {_AWAY[code]}")
        return StoreError(f"{doing}: {shown} answers: {str(error)[:300]}")
    if isinstance(error, ssl.SSLCertVerificationError):
        why = getattr(error, "verify_message", "") or "it cannot be verified"
        return ConfigError(
            f"store: {shown} shows a certificate that is not trusted ({why}); name its authority "
            "with ?ssl_ca_certs=path"
        )
    if isinstance(error, ssl.SSLError):
        why = getattr(error, "reason", None) or type(error).__name__
        return StoreUnavailable(f"{doing}: {shown} cannot be reached by TLS: {why}")
    if isinstance(error, TimeoutError):
        return StoreUnavailable(f"{doing}: {shown} does not answer in time")
    if isinstance(error, OSError):
        said = error.strerror or str(error) or type(error).__name__
        return StoreUnavailable(f"{doing}: {shown} cannot be reached: {said}")
    if isinstance(error, hiredis.HiredisError):
        return StoreUnavailable(f"{doing}: {shown} does not speak the Redis protocol")
    return StoreError(f"{doing}: {shown}: {type(error).__name__}")
