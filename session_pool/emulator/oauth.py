"""Who a bearer token stands for, and the token endpoints (contract section 8).

Any token that nobody issued is a user of its own, named by a hash of it, so that no token is ever
in a record. It knows no agents and no sessions.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import refusal
from .times import ServerClock, later


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls.

    Attributes:
        user: whose sessions these are.
        client: the OAuth client, or None for a user's own token; listings show a client only
            what it created itself (contract 6.8).
        scopes: what the token may do; None: everything.
    """

    user: str
    client: str | None = None
    scopes: frozenset[str] | None = None

    def may(self, scope: str) -> bool:
        """Whether the token has this scope."""
        return self.scopes is None or scope in self.scopes


@dataclass(frozen=True, slots=True)
class _Issued:
    principal: Principal
    expires_ns: int


class OAuthError(Exception):
    """A refusal of a token endpoint, in OAuth's own words (RFC 6749 section 5.2)."""

    def __init__(self, error: str, status: int) -> None:
        super().__init__(error)
        self.error = error
        self.status = status


@dataclass(slots=True)
class Tokens:
    """All tokens and clients.

    Attributes:
        clock: the server's.
        lifetime_s: of the tokens that it issues.
    """

    clock: ServerClock
    lifetime_s: float
    _clients: dict[str, str] = field(default_factory=dict, repr=False)
    _issued: dict[str, _Issued] = field(default_factory=dict, repr=False)
    _revoked: set[str] = field(default_factory=set, repr=False)

    def add_client(self, client_id: str, client_secret: str) -> None:
        """Know an OAuth client; it acts as a service user of its own."""
        self._clients[client_id] = client_secret

    def issue(
        self,
        user: str,
        *,
        client: str | None = None,
        scopes: Iterable[str] | None = None,
        lifetime_s: float | None = None,
    ) -> str:
        """Make a token. `lifetime_s` None means the usual one; inf never expires."""
        token = secrets.token_urlsafe(24)
        granted = None if scopes is None else frozenset(scopes)
        lifetime = self.lifetime_s if lifetime_s is None else lifetime_s
        self._issued[token] = _Issued(
            Principal(user, client, granted), later(self.clock.now_ns(), lifetime)
        )
        return token

    def revoke(self, token: str) -> None:
        """The token is refused from now on."""
        self._revoked.add(token)

    def expire_issued(self) -> None:
        """All tokens issued so far are refused from now on."""
        self._revoked.update(self._issued)

    def principal(self, authorization: str | None) -> Principal:
        """Who an `Authorization` header stands for.

        Raises:
            ApiError: Default:Unauthorized, for none, an expired or a revoked token.
        """
        scheme, _, token = (authorization or "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token or token in self._revoked:
            raise refusal("Default:Unauthorized")
        issued = self._issued.get(token)
        if issued is None:
            return Principal("user-" + hashlib.sha256(token.encode()).hexdigest()[:12])
        if self.clock.now_ns() >= issued.expires_ns:
            raise refusal("Default:Unauthorized")
        return issued.principal

    def grant(self, form: Mapping[str, str]) -> dict[str, Any]:
        """Answer a token request of the client credentials grant.

        Raises:
            OAuthError: invalid_client, or unsupported_grant_type.
        """
        client = self._client(form)
        if form.get("grant_type") != "client_credentials":
            raise OAuthError("unsupported_grant_type", 400)
        # No scope sent means all of the application's; `offline_access` opens no endpoint.
        scopes = frozenset(form.get("scope", "").split()) - {"offline_access"}
        token = self.issue(f"service-user-{client}", client=client, scopes=scopes or None)
        return {"access_token": token, "token_type": "bearer", "expires_in": int(self.lifetime_s)}

    def revoke_request(self, form: Mapping[str, str]) -> None:
        """Answer a revocation request; revoking what is none is no error (RFC 7009).

        Raises:
            OAuthError: invalid_client.
        """
        self._client(form)
        self.revoke(form.get("token", ""))

    def _client(self, form: Mapping[str, str]) -> str:
        client, secret = form.get("client_id", ""), form.get("client_secret", "")
        known = self._clients.get(client)
        if known is None or not secrets.compare_digest(known.encode(), secret.encode()):
            raise OAuthError("invalid_client", 401)
        return client
