"""Where the remote is: the stack's base URL, and the paths of the endpoints under it.

This room knows URLs and sends nothing. (Contract, "Base, headers, preview" and "Endpoints".)
"""

from __future__ import annotations

import ipaddress
from typing import Final
from urllib.parse import quote, urlsplit

from session_pool.errors import ConfigError

TOKEN_PATH: Final = "/multipass/api/oauth2/token"  # noqa: S105 - a path, not a password


def check_url(url: str, *, allow_http: bool = False) -> str:
    """Return the base URL of a stack, without a slash at its end.

    Args:
        url: `https://host[:port]`.
        allow_http: also take plain `http` for hosts beyond loopback, where a token can be read on
            the way.

    Raises:
        ConfigError: no scheme or another one, no host, a broken port, user info, a path, a query
            or a fragment, or plain `http` beyond loopback. It names `url` and the fix.
    """
    if not isinstance(url, str):
        raise ConfigError(f"url must be a text, https://host, not a {type(url).__name__}")
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname, parts.port
    except ValueError:
        # Not chained and not quoted: user info may stand in it.
        raise ConfigError("url cannot be read; give https://host or https://host:port") from None
    if "@" in parts.netloc:
        raise ConfigError("url carries user info; take it out, credentials go to token or auth")
    if parts.scheme not in {"http", "https"} or not host:
        bare = url.strip().partition("://")[2] or url.strip()
        guess = bare.split("/")[0].split("?")[0] or "stack.example.com"
        if "@" in guess:
            guess = "stack.example.com"
        raise ConfigError(f"url needs the scheme https and a host; did you mean https://{guess} ?")
    if any(letter.isspace() for letter in host):
        raise ConfigError("url has white space in its host; give https://host")
    shown = f"[{host}]" if ":" in host else host
    base = f"{parts.scheme}://{shown}" + (f":{port}" if port else "")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ConfigError(f"url is more than the stack's address; give {base} alone")
    if parts.scheme == "http" and not allow_http and not _is_loopback(host):
        raise ConfigError(
            f"url {base} would send the token unencrypted; use https://, "
            "or set allow_http if that is meant"
        )
    return base


def host_of(url: str) -> str:
    """Return by what name a stack is known, however its address is written.

    The host in small letters, with its port unless that is the scheme's own: all processes that
    mean the same stack are to share its sessions and its limits.

    Args:
        url: what `check_url` took, or a mere label where another client is used; that stays as it
            is.
    """
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname, parts.port
    except ValueError:
        return url
    if host is None:
        return url
    shown = f"[{host}]" if ":" in host else host
    usual = {"https": 443, "http": 80}.get(parts.scheme)
    return shown if port in (None, usual) else f"{shown}:{port}"


def sessions_path(agent_rid: str) -> str:
    """Return the path of an agent's sessions, below the API base."""
    return f"/api/v2/aipAgents/agents/{_part(agent_rid)}/sessions"


def session_path(agent_rid: str, session_rid: str, *rest: str) -> str:
    """Return the path of one session, or of what lies under it."""
    return "/".join((sessions_path(agent_rid), *map(_part, (session_rid, *rest))))


def _part(value: str) -> str:
    """Return one path part, percent-encoded with no character safe.

    Raises:
        ConfigError: nothing, or dots only: servers and proxies would walk to another path.
    """
    if not value.strip("."):
        raise ConfigError(f"{value!r} cannot be an identifier; give a RID")
    return quote(value, safe="")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
