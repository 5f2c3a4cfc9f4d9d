"""The one place where the remote's failures become ours.

In: an HTTP answer (status, headers, body) or an exception of aiohttp or the system, and the
operation it met. Out: an error of `session_pool.errors` that says what to do. This room sends
nothing and decides no retry; but what may be sent again (B30) rests on what it says of `sent` and
`begun`, so where it does not know, it says that the request may have been begun.

Three traps of the contract are known here and nowhere else: the model's throttles come as 400; of
the 404s only SessionNotFound means that a session is gone, and from a creation not even that; an
empty 404 means that the API is not there.

Messages carry the operation, the error's name and instance, and those of its parameters that are
identifiers. `details`, `message` and anything with white space in it may quote the conversation
and are dropped (B29).
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import ClassVar, Final, NamedTuple, Self, TypedDict

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from session_pool.errors import (
    AgentUnavailable,
    AuthError,
    ConfigError,
    RemoteMalformed,
    RemoteRejected,
    RemoteThrottled,
    RemoteUnavailable,
    SessionGone,
    SessionPoolError,
)
from session_pool.foundry.advice import advise

FOREIGN: Final = (aiohttp.ClientError, HttpProcessingError, OSError, asyncio.TimeoutError)
"""What can come out of an HTTP call; `of_exception` has an answer for each subclass."""

MAX_RETRY_AFTER_S: Final = 3600.0
"""A longer `Retry-After` is taken for this: an absurd one must not silence a pool for days."""

_FROM_WITHIN: Final = {"RateLimitExceeded", "RetryAttemptsExceeded", "RetryDeadlineExceeded"}
_ABSENT_API: Final = (
    "no such endpoint (404 without an error in it): the AIP Agents API is in preview and is not on "
    "this stack, or url points elsewhere; ask the stack's administrator to enable it"
)
_UNTRUSTED: Final = (
    "no TLS connection, the remote's certificate is not trusted; if the stack has a private CA, "
    "set SSL_CERT_FILE to its certificate, and check that url names the host in the certificate"
)
_NO_TLS: Final = (
    "no TLS connection, the two sides do not understand each other; check that url has the port "
    "that speaks https, and that no proxy is in between"
)
_SHOWN_PARAMETERS: Final = (
    "agentRid", "sessionRid", "agentVersionString", "version", "messageId", "sessionTraceId",
    "parameter", "expectedType", "receivedType", "functionRid", "functionVersion", "actionRid",
    "languageModelRid", "modelPurpose",
)  # fmt: skip
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9:._-]{0,99}")
_INSTANCE: Final = re.compile(r"[A-Za-z0-9-]{1,64}")
_IDENTIFIER: Final = re.compile(r"[A-Za-z0-9._:-]{1,200}")


class Operation(StrEnum):
    """What was asked of the remote, in the words of `Api`."""

    TOKEN = "token"  # noqa: S105 - the name of an operation
    CREATE = "create_session"
    GET = "get_session"
    LIST = "list_sessions"
    DELETE = "delete_session"
    BLOCKING = "blocking_continue"
    STREAMING = "streaming_continue"
    CANCEL = "cancel"
    CONTENT = "content"
    TRACE = "trace_complete"


class ThrottledForGood(RemoteThrottled):
    """The remote throttles, and asks not to send this very request again.

    That is what `QoS-Retry-Hint: do-not-retry` means: the work itself is what it cannot take, so
    the same request would only meet the same answer. It was not begun all the same, and other
    requests may go on; a caller that would send it again looks at `retryable`.
    """

    retryable: ClassVar[bool] = False


class _Told(NamedTuple):
    """What an error's body says, as far as it may be repeated."""

    name: str | None = None
    instance: str | None = None
    parameters: tuple[tuple[str, str], ...] = ()

    @classmethod
    def read(cls, body: bytes) -> Self:
        try:
            found = json.loads(body)
        except (ValueError, RecursionError):
            return cls()
        if not isinstance(found, dict):
            return cls()
        told = found.get("parameters")
        parameters = told if isinstance(told, dict) else {}
        return cls(
            _matching(_NAME, found.get("errorName")),
            _matching(_INSTANCE, found.get("errorInstanceId")),
            tuple(
                (key, value)
                for key in _SHOWN_PARAMETERS
                if (value := _matching(_IDENTIFIER, parameters.get(key)))
            ),
        )

    def sentence(self, operation: Operation, status: int, otherwise: str = "") -> str:
        """Return "operation: Name (status, where, instance): what to do".

        `otherwise` is what to do about an answer that gives no name.
        """
        shown = [f"HTTP {status}", *(f"{key} {value}" for key, value in self.parameters)]
        if self.instance:
            shown.append(f"instance {self.instance}")
        head = f"{operation}: {self.name or 'refused'} ({', '.join(shown)})"
        return f"{head}: {advise(self.name) if self.name else otherwise}"


class _Known(TypedDict):
    """What each of our errors takes of an answer."""

    error_name: str | None
    error_instance_id: str | None
    status: int | None


def of_answer(
    operation: Operation, status: int, headers: Mapping[str, str], body: bytes
) -> SessionPoolError:
    """Return the error that an answer other than 2xx amounts to.

    Args:
        operation: what was asked; for `TOKEN` there is `of_token_answer`.
        status: the HTTP status. A 401 here is one that a renewed token did not cure.
        headers: case-insensitive.
        body: the beginning of it, JSON or not.
    """
    told = _Told.read(body)
    known = _Known(error_name=told.name, error_instance_id=told.instance, status=status)
    if status == 401:
        text = "the token is refused; give a valid one, and check that it is for this stack"
        return AuthError(told.sentence(operation, status, text), **known)
    if status in (429, 503):
        return _throttled(told, operation, known, headers, begun=False)
    if told.name in _FROM_WITHIN:
        return _throttled(told, operation, known, headers, begun=True)
    if status >= 500:
        text = "the remote failed; try again later"
        return RemoteUnavailable(told.sentence(operation, status, text), sent=True, **known)
    if told.name == "SessionNotFound" and operation is Operation.CREATE:
        text = f"{operation}: SessionNotFound (HTTP {status}), of a creation passing; try again"
        return RemoteUnavailable(text, sent=False, **known)
    if told.name == "SessionNotFound" and operation is not Operation.LIST:
        return SessionGone(told.sentence(operation, status))
    if status == 404 and told.name is None:
        return AgentUnavailable(told.sentence(operation, status, _ABSENT_API), **known)
    text = "the remote gave no reason that can be read"
    if 300 <= status < 400:
        text = "url is redirected, and a token does not follow; give the final address as url"
    refused = AgentUnavailable if operation is Operation.CREATE else RemoteRejected
    return refused(told.sentence(operation, status, text), **known)


def of_token_answer(status: int, headers: Mapping[str, str], body: bytes) -> SessionPoolError:
    """Return the error that the token endpoint's answer other than 2xx amounts to.

    Nothing of it was sent to the API itself, so `sent` and `begun` are False throughout.
    """
    told = _Told.read(body)
    known = _Known(error_name=told.name, error_instance_id=told.instance, status=status)
    if status in (429, 503):
        return _throttled(told, Operation.TOKEN, known, headers, begun=False)
    if status >= 500:
        text = "the token endpoint failed; try again later"
        return RemoteUnavailable(told.sentence(Operation.TOKEN, status, text), sent=False, **known)
    if status in (400, 401, 403):
        text = (
            "the credentials are refused; check client_id, client_secret and scopes in Developer "
            "Console, and that the client credentials grant is enabled for the application"
        )
    else:
        text = "there is no token endpoint; check that url is the address of a Foundry stack"
    return AuthError(told.sentence(Operation.TOKEN, status, text), **known)


def of_exception(
    operation: Operation, error: BaseException, *, sent: bool = True
) -> SessionPoolError:
    """Return the error that an exception of the HTTP library or the system amounts to.

    Args:
        operation: what was asked.
        error: one of `FOREIGN`. Its own text is not repeated.
        sent: whether the request can have reached the remote, as far as the caller knows. Where
            the exception itself tells that it cannot, that counts.
    """
    match error:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ServerFingerprintMismatch():
            text, sent = _UNTRUSTED, False
        case aiohttp.ClientSSLError():
            text, sent = _NO_TLS, False
        case aiohttp.ClientConnectorDNSError():
            text, sent = "the host is not known to DNS; check the spelling of url, and VPN", False
        case aiohttp.ClientProxyConnectionError() | aiohttp.ClientHttpProxyError():
            text, sent = "the proxy cannot be reached, or refuses; check its address", False
        case aiohttp.ConnectionTimeoutError():
            text, sent = "no connection in time; check url, VPN and firewall", False
        case aiohttp.ClientConnectorError():
            text, sent = "the host cannot be reached; check url and its port, VPN, firewall", False
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError() | aiohttp.RedirectClientError():
            return ConfigError(f"{operation}: url is none that can be asked; give https://host")
        case aiohttp.ClientResponseError() | HttpProcessingError():
            return RemoteMalformed(f"{operation}: the answer is not HTTP as it should be")
        case TimeoutError():
            text = "no answer in time" if sent else "no connection in time; check url and network"
        case aiohttp.ClientPayloadError():
            text = "the answer was cut short"
        case _:
            text = "the connection broke" if sent else "no connection; check url and network"
    return RemoteUnavailable(f"{operation}: {text}", sent=sent)


def _throttled(
    told: _Told, operation: Operation, known: _Known, headers: Mapping[str, str], *, begun: bool
) -> RemoteThrottled:
    kind = RemoteThrottled
    if headers.get("QoS-Retry-Hint", "").strip().lower() == "do-not-retry":
        kind = ThrottledForGood
    return kind(
        told.sentence(operation, known["status"] or 0, "too many requests; send fewer"),
        retry_after_s=retry_after_s(headers),
        begun=begun,
        **known,
    )


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return how long `Retry-After` asks to wait, in seconds; None without one that can be read.

    It may be a number of seconds or an HTTP date. A date is held against the answer's own `Date`
    and never against this machine's clock (B20); without a `Date` it says nothing.
    """
    value = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", value):
        return min(float(value), MAX_RETRY_AFTER_S)
    until, said = http_date_s(value), http_date_s(headers.get("Date", ""))
    if until is None or said is None:
        return None
    return min(max(0.0, until - said), MAX_RETRY_AFTER_S)


def http_date_s(value: str) -> float | None:
    """Return an HTTP date as seconds of the epoch, or None if it is none."""
    try:
        found = parsedate_to_datetime(value)
    except ValueError:
        return None
    return found.replace(tzinfo=found.tzinfo or UTC).timestamp()


def _matching(pattern: re.Pattern[str], value: object) -> str | None:
    """Return `value` if it is text of that form, else None."""
    return value if isinstance(value, str) and pattern.fullmatch(value) else None
