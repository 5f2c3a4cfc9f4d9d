"""Where the token comes from: given, in a file, or fetched for a service user and kept fresh.

This room knows tokens and their lives. It sends nothing by itself: the client hands it a function
that posts a form to the stack's token endpoint. No token and no secret reaches a repr, an error or
a log (B29). (Contract, "Authentication".)
"""

from __future__ import annotations

import asyncio
import base64
import copy
import json
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Protocol, runtime_checkable

from session_pool.errors import (
    AuthError,
    ConfigError,
    PoolClosed,
    RemoteMalformed,
    SessionPoolError,
)
from session_pool.foundry import wire
from session_pool.foundry.api import Background
from session_pool.foundry.secret import SecretFile, masked, reveal
from session_pool.foundry.translate import Operation

_log: Final = logging.getLogger("session_pool.auth")

_TOKEN: Final = re.compile(r"[\x21-\x7e]+")
_AHEAD: Final = 0.75  # of a token's life; the official SDK's choice, leaves a quarter for retries
_LAST_CALL_S: Final = 30.0  # before its end a token is not given out any more if a new one is to
_LAST_CALL: Final = 0.1  # be had; at most this share of its life, for very short ones
_FETCH_TIMEOUT_S: Final = 20.0
_RETRY_FROM_S: Final = 1.0
_RETRY_UP_TO_S: Final = 60.0

Clock = Callable[[], float]

PostForm = Callable[[Mapping[str, str], float], Awaitable[bytes]]
"""Posts a form to the token endpoint within so many seconds; the body of a 2xx, else an error of
`translate.of_token_answer` or `of_exception`."""


class Auth(Protocol):
    """Whose token the requests carry. Anything with these two will do."""

    async def token(self) -> str:
        """Return a token to use now.

        Raises:
            AuthError: there is none to be had.
            RemoteUnavailable: who gives it cannot be reached just now.
        """
        ...

    async def renew(self, stale: str) -> str:
        """Return a token other than `stale`, which was refused with 401.

        Raises:
            AuthError: there is no other, or none to be had.
            RemoteUnavailable: who gives it cannot be reached just now.
        """
        ...


@runtime_checkable
class NeedsHost(Protocol):
    """An `Auth` that asks the stack itself for tokens, and is bound to it by the client."""

    def bind(self, post_form: PostForm) -> None: ...
    async def unbind(self) -> None: ...
    def background(self) -> Background: ...


class StaticToken:
    """A token that is given: a user's, for development, or one that others keep fresh in a file.

    Args:
        token: the bare token, or the file it lies in.

    Raises:
        ConfigError: a given token is no text, empty, begins with "Bearer", or cannot go into a
            header.
    """

    def __init__(self, token: str | SecretFile) -> None:
        given: object = token
        if not isinstance(given, str | SecretFile):
            kind = type(given).__name__
            raise ConfigError(f"token must be a text or a SecretFile, not a {kind}")
        self._token = token
        if isinstance(token, str):
            _check(token)

    async def token(self) -> str:
        """Return the token, from its file as that is now.

        Raises:
            ConfigError: the file cannot be read, or holds no token.
        """
        return _check(reveal(self._token))

    async def renew(self, stale: str) -> str:
        """Return what the file holds now, if it is another.

        Raises:
            AuthError: it is the same, or there is no file.
            ConfigError: as for `token`.
        """
        fresh = await self.token()
        if fresh != stale:
            return fresh
        if isinstance(self._token, SecretFile):
            raise AuthError(
                f"the token is refused (401) and {self._token.path} holds no other; "
                "write a valid token into it",
                status=401,
            )
        raise AuthError(
            "the token is refused (401): it has expired, was revoked, or is not for this stack; "
            "give a valid one (user tokens live for hours or days: for more use ClientCredentials)",
            status=401,
        )

    def identity(self) -> str | None:
        """Return whose token it is (the subject of a JWT), or None where that cannot be read."""
        return _subject(reveal(self._token))

    def __repr__(self) -> str:
        return f"StaticToken({masked(self._token)})"


class ClientCredentials:
    """A service user's tokens by the OAuth2 client credentials grant, renewed ahead of their end.

    One fetch serves all who wait for it and belongs to none of them: cancelling one, the first
    included, takes it from nobody.

    Args:
        client_id: of the application in Developer Console.
        client_secret: its secret, or the file it lies in.
        scopes: those to ask for; none asks for all of the application's.
        clock: seconds, for the tokens' lives; None is the running loop's.

    Raises:
        ConfigError: an empty id or secret.
    """

    def __init__(
        self,
        client_id: str,
        client_secret: str | SecretFile,
        scopes: Sequence[str] = (),
        *,
        clock: Clock | None = None,
    ) -> None:
        if not client_id.strip():
            raise ConfigError("client_id is empty; copy it from the application's page")
        if isinstance(client_secret, str) and not client_secret.strip():
            raise ConfigError("client_secret is empty; give it, or the file it lies in")
        if isinstance(scopes, str):
            raise ConfigError("scopes is one text; give a list of scopes")
        self._client_id = client_id
        self._client_secret = client_secret
        self._scopes = tuple(scopes)
        self._clock = clock
        self._post_form: PostForm | None = None
        self._flight: asyncio.Task[str] | None = None
        self._changed = asyncio.Event()
        self._current: str | None = None
        self._renew_at = self._last_call_at = self._ends_at = 0.0

    # ------------------------------------------------------------- what the client does with it

    def bind(self, post_form: PostForm) -> None:
        """Take the way to the token endpoint; the client does this as it opens.

        Raises:
            ConfigError: it is bound already: each client needs its own.
        """
        if self._post_form is not None:
            raise ConfigError("auth: these ClientCredentials serve a client; make one for each")
        self._post_form = post_form
        self._changed = asyncio.Event()

    async def unbind(self) -> None:
        """Forget the way and the token; a fetch in flight is given up, and who waits is told."""
        self._post_form = None
        self._current = None
        if (flight := self._flight) is not None:
            flight.cancel()
            await asyncio.wait((flight,))

    def background(self) -> Background:
        """Return the renewal ahead of time, endless, for the pool to run."""
        return (self.keep_fresh,)

    # ------------------------------------------------------------------------------- the token

    async def token(self) -> str:
        """Return the current token, or fetch one.

        Near the end of its life a new one is fetched first; if that fails in passing, the old one
        goes as long as it lives.

        Raises:
            AuthError: the credentials are refused.
            ConfigError: the secret's file cannot be read.
            RemoteUnavailable, RemoteThrottled: the token endpoint cannot be had just now;
                `sent` and `begun` are False, since the request that wants the token is not sent.
            PoolClosed: the client is not open, or was closed meanwhile.
        """
        if self._current is not None and self._now() < self._last_call_at:
            return self._current
        try:
            return await self._fetched()
        except SessionPoolError as error:
            if self._current is not None and error.retryable and self._now() < self._ends_at:
                return self._current
            raise

    async def renew(self, stale: str) -> str:
        """Return the current token if it is not `stale`, else a new one; raises as `token`."""
        if self._current is not None and self._current != stale:
            return self._current
        return await self._fetched()

    def identity(self) -> str:
        """Return the client id: a service user is its application."""
        return self._client_id

    async def keep_fresh(self) -> None:
        """Renew each token when three quarters of its life are over, without end.

        A failure is retried with growing pauses while the old token serves, and is logged once
        for each streak.
        """
        failures = 0
        while True:
            changed = self._changed
            due_s = 0.0
            if self._current is not None:
                due_s = max(self._renew_at - self._now(), _RETRY_FROM_S)
            if failures:
                due_s = min(_RETRY_FROM_S * 2 ** (failures - 1), _RETRY_UP_TO_S)
            if due_s > 0 and await _within(due_s, changed):
                failures = 0  # somebody else's renewal, after a 401
                continue
            try:
                await self._fetched()
            except PoolClosed:
                raise
            except SessionPoolError as error:
                failures = min(failures + 1, 10)
                if failures == 1:
                    _log.warning("the token could not be renewed ahead, retrying: %s", error)
            else:
                failures = 0

    async def _fetched(self) -> str:
        if self._flight is None:
            self._flight = asyncio.create_task(self._fetch(), name="session-pool token fetch")
            self._flight.add_done_callback(self._landed)
        flight = self._flight
        # `wait` leaves the flight alone when the one who waits is cancelled.
        await asyncio.wait((flight,))
        if flight.cancelled():
            raise PoolClosed("the client was closed while it fetched a token")
        if (error := flight.exception()) is not None:
            # A copy for each: raised by many, one instance would gather all their tracebacks.
            raise copy.copy(error) from error.__cause__
        return flight.result()

    def _landed(self, flight: asyncio.Task[str]) -> None:
        if self._flight is flight:
            self._flight = None
        if not flight.cancelled():
            flight.exception()  # seen, in case all who waited have gone

    async def _fetch(self) -> str:
        if self._post_form is None:
            raise PoolClosed("the credentials are not bound to a stack; open the client first")
        form = {
            "grant_type": "client_credentials",
            "client_id": self._client_id,
            "client_secret": reveal(self._client_secret),
        }
        if self._scopes:
            form["scope"] = " ".join(self._scopes)
        asked = self._now()  # its life is counted from before, which is never too long
        answer = wire.read(
            wire.WireToken, await self._post_form(form, _FETCH_TIMEOUT_S), Operation.TOKEN
        )
        if not _TOKEN.fullmatch(answer.access_token):
            raise RemoteMalformed(f"{Operation.TOKEN}: the token in the answer cannot be one")
        self._current = answer.access_token
        life_s = max(0.0, float("inf") if answer.expires_in is None else answer.expires_in)
        self._ends_at = asked + life_s
        self._renew_at = asked + life_s * _AHEAD
        self._last_call_at = self._ends_at - min(_LAST_CALL_S, life_s * _LAST_CALL)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        return self._current

    def _now(self) -> float:
        return (self._clock or asyncio.get_running_loop().time)()

    def __repr__(self) -> str:
        return f"ClientCredentials({self._client_id!r}, {masked(self._client_secret)})"


async def _within(seconds: float, event: asyncio.Event) -> bool:
    """Wait for an event at most so long; tell whether it came."""
    try:
        async with asyncio.timeout(None if seconds == float("inf") else seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


def _check(token: str) -> str:
    """Return a token that can go into a header, or say what is wrong with it without showing it."""
    if token[:7].lower() == "bearer ":
        raise ConfigError("token begins with 'Bearer '; give the bare token")
    if not _TOKEN.fullmatch(token):
        raise ConfigError("token is empty or has white space or other odd characters in it")
    return token


def _subject(token: str) -> str | None:
    """Return the subject of a JWT, unverified; None for any other token."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return None
    subject = claims.get("sub") if isinstance(claims, dict) else None
    return subject if isinstance(subject, str) and subject else None
