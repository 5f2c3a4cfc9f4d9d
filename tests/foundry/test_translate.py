"""Every failure the contract or the HTTP library knows has a place, and says what to do."""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import Any

import aiohttp
import pytest
from aiohttp import client_exceptions, http_exceptions
from aiohttp.client_reqrep import ConnectionKey
from multidict import CIMultiDict

from session_pool.errors import (
    AgentUnavailable,
    AuthError,
    ConfigError,
    RemoteError,
    RemoteMalformed,
    RemoteRejected,
    RemoteThrottled,
    RemoteUnavailable,
    SessionGone,
    SessionPoolError,
)
from session_pool.foundry import ThrottledForGood
from session_pool.foundry.advice import ADVICE, FALLBACK, advise
from session_pool.foundry.translate import (
    FOREIGN,
    MAX_RETRY_AFTER_S,
    Operation,
    of_answer,
    of_exception,
    of_token_answer,
    retry_after_s,
)
from tests.foundry.stub import INSTANCE, error_json

BAD_REQUEST = [
    "AgentIterationsExceededLimit",
    "CancelSessionFailedMessageNotInProgress",
    "ContextSizeExceededLimit",
    "InvalidAgentVersion",
    "InvalidJson",
    "InvalidParameter",
    "InvalidParameterType",
    "NoPublishedAgentVersion",
    "RateLimitExceeded",
    "RetryAttemptsExceeded",
    "RetryDeadlineExceeded",
    "SessionTraceIdAlreadyExists",
    "UnsupportedLanguageModelRid",
    "ApiFeaturePreviewUsageOnly",
    "InvalidPageSize",
    "InvalidPageToken",
    "Conjure:InvalidArgument",
    "ActionTypeNotFound",
]
FORBIDDEN = [
    "CreateSessionPermissionDenied",
    "DeleteSessionPermissionDenied",
    "BlockingContinueSessionPermissionDenied",
    "StreamingContinueSessionPermissionDenied",
    "CancelSessionPermissionDenied",
    "GetRagContextForSessionPermissionDenied",
    "UpdateSessionTitlePermissionDenied",
    "GetAllSessionsAgentsPermissionDenied",
    "ListSessionsForAgentsPermissionDenied",
    "ApiUsageDenied",
    "Default:PermissionDenied",
]
NOT_FOUND = [
    "AgentNotFound",
    "AgentVersionNotFound",
    "ContentNotFound",
    "FunctionLocatorNotFound",
    "ObjectTypeIdsNotFound",
    "ObjectTypeRidsNotFound",
    "OntologyEntitiesNotFound",
    "SessionNotFound",
    "SessionTraceNotFound",
]
CONTRACT = [
    *((name, 400) for name in BAD_REQUEST),
    ("Conjure:UnprocessableEntity", 422),
    ("Conjure:UnsupportedMediaType", 415),
    ("Default:Unauthorized", 401),
    *((name, 403) for name in FORBIDDEN),
    *((name, 404) for name in NOT_FOUND),
    ("SessionExecutionFailed", 500),
    ("Default:Internal", 500),
]
THROTTLES = {"RateLimitExceeded", "RetryAttemptsExceeded", "RetryDeadlineExceeded"}
OPERATIONS = [operation for operation in Operation if operation is not Operation.TOKEN]


def answered(
    operation: Operation,
    status: int,
    body: Any = None,
    headers: dict[str, str] | None = None,
) -> SessionPoolError:
    raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    return of_answer(operation, status, CIMultiDict(headers or {}), raw)


def expected(operation: Operation, name: str, status: int) -> type[SessionPoolError]:
    """The contract's table, read a second time."""
    if status == 401:
        return AuthError
    if name in THROTTLES:
        return RemoteThrottled
    if status >= 500:
        return RemoteUnavailable
    if name == "SessionNotFound":
        if operation is Operation.CREATE:
            return RemoteUnavailable
        return RemoteRejected if operation is Operation.LIST else SessionGone
    return AgentUnavailable if operation is Operation.CREATE else RemoteRejected


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(("name", "status"), CONTRACT)
def test_every_name_of_the_contract_has_a_place(
    operation: Operation, name: str, status: int
) -> None:
    body = error_json(name, details="what the user said", message="and was told")
    error = answered(operation, status, body)
    assert type(error) is expected(operation, name, status)
    assert name in str(error)
    assert operation in str(error)
    assert "the user said" not in repr(error)
    assert "was told" not in repr(error)
    if isinstance(error, RemoteError | AgentUnavailable | AuthError):
        assert (error.error_name, error.status) == (name, status)
        assert error.error_instance_id == INSTANCE


@pytest.mark.parametrize(("name", "status"), CONTRACT)
def test_every_name_of_the_contract_says_what_to_do(name: str, status: int) -> None:
    assert advise(name) != FALLBACK
    if name != "SessionNotFound":
        assert advise(name) in str(answered(Operation.CREATE, status, error_json(name)))
        assert INSTANCE in str(answered(Operation.CREATE, status, error_json(name)))


def test_no_advice_is_for_a_name_that_the_contract_does_not_have() -> None:
    assert set(ADVICE) <= {name for name, _ in CONTRACT}


@pytest.mark.parametrize("name", sorted(THROTTLES))
def test_throttles_of_the_400_class_come_from_within_the_work(name: str) -> None:
    error = answered(Operation.BLOCKING, 400, error_json(name, details="…"))
    assert isinstance(error, RemoteThrottled)
    assert error.begun
    assert error.retryable


@pytest.mark.parametrize("status", [429, 503])
def test_throttles_by_status_begun_nothing(status: int) -> None:
    error = answered(Operation.BLOCKING, status, b"busy", {"Retry-After": "7"})
    assert isinstance(error, RemoteThrottled)
    assert not error.begun
    assert error.retry_after_s == 7.0


def test_do_not_retry_is_a_throttle_that_is_not_retryable() -> None:
    error = answered(Operation.CREATE, 429, None, {"qos-retry-hint": "do-not-retry"})
    assert isinstance(error, ThrottledForGood)
    assert not error.retryable
    assert not error.begun
    other = answered(Operation.CREATE, 429, None, {"QoS-Retry-Hint": "propagate"})
    assert other.retryable


@pytest.mark.parametrize("body", [b"", b"<html>Not Found</html>", b"{}", b"[1]", b"null"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_404_without_an_error_in_it_is_an_absent_api(operation: Operation, body: bytes) -> None:
    error = answered(operation, 404, body)
    assert isinstance(error, AgentUnavailable)
    assert error.error_name is None
    assert "preview" in str(error)
    assert "not on this stack" in str(error)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_names_of_tomorrow_have_a_place(operation: Operation) -> None:
    error = answered(operation, 409, error_json("SomethingNew"))
    assert type(error) is (AgentUnavailable if operation is Operation.CREATE else RemoteRejected)
    assert "SomethingNew" in str(error)


@pytest.mark.parametrize(
    "body",
    [
        {"errorName": "my private words, in a name", "errorInstanceId": "private\nwords"},
        {"errorName": ["private words"], "parameters": "private words"},
        {"errorName": "AgentNotFound", "parameters": {"agentRid": "private words"}},
        b'"private words',
        b"[" * 100_000,
    ],
)
def test_what_does_not_look_like_an_identifier_is_not_repeated(body: Any) -> None:
    assert "private" not in repr(answered(Operation.GET, 400, body))


def test_identifiers_among_the_parameters_are_shown() -> None:
    told = error_json("InvalidParameterType", parameter="port", receivedType="objectSet")
    text = str(answered(Operation.BLOCKING, 400, told))
    assert "parameter port" in text
    assert "receivedType objectSet" in text


@pytest.mark.parametrize(
    ("name", "needle"),
    [
        ("AgentNotFound", "Developer Console"),
        ("NoPublishedAgentVersion", "publish"),
        ("ContextSizeExceededLimit", "new session"),
        ("CreateSessionPermissionDenied", "scopes"),
        ("ApiFeaturePreviewUsageOnly", "preview=true"),
    ],
)
def test_the_cure_is_named(name: str, needle: str) -> None:
    assert needle in str(answered(Operation.CREATE, 400, error_json(name)))


# ------------------------------------------------------------------------------ Retry-After


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "0"}, 0.0),
        ({"Retry-After": "12"}, 12.0),
        ({"Retry-After": " 1.5 "}, 1.5),
        ({"Retry-After": "-3"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "9" * 400}, None),
        ({"Retry-After": "999999999"}, MAX_RETRY_AFTER_S),
        # A date is held against the answer's own, and never against this machine's clock (B20).
        ({"Retry-After": "Tue, 01 Oct 2024 22:05:00 GMT"}, None),
        (
            {
                "Retry-After": "Tue, 01 Oct 2024 22:05:00 GMT",
                "Date": "Tue, 01 Oct 2024 22:04:30 GMT",
            },
            30.0,
        ),
        (
            {
                "Retry-After": "Tue, 01 Oct 2024 22:04:00 GMT",
                "Date": "Tue, 01 Oct 2024 22:04:30 GMT",
            },
            0.0,
        ),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(CIMultiDict(headers)) == seconds


# ---------------------------------------------------------------------- the token endpoint


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 302])
def test_refused_credentials_are_an_auth_error(status: int) -> None:
    error = of_token_answer(status, CIMultiDict(), b'{"error": "invalid_client"}')
    assert isinstance(error, AuthError)


@pytest.mark.parametrize("status", [500, 502, 504])
def test_a_failing_token_endpoint_is_passing_and_nothing_was_sent(status: int) -> None:
    error = of_token_answer(status, CIMultiDict(), b"")
    assert isinstance(error, RemoteUnavailable)
    assert not error.sent


def test_a_throttling_token_endpoint_is_obeyed() -> None:
    error = of_token_answer(429, CIMultiDict({"retry-after": "3"}), b"")
    assert isinstance(error, RemoteThrottled)
    assert error.retry_after_s == 3
    assert not error.begun


# --------------------------------------------------------------------------- exceptions

_KEY = ConnectionKey("stack.example.com", 443, True, True, None, None, None)
_REQUEST_INFO = aiohttp.RequestInfo(None, "POST", CIMultiDict(), None)  # type: ignore[arg-type] # never looked at
_ARGUMENTS: list[tuple[Any, ...]] = [
    (),
    ("https://secret.example.com",),
    (_KEY, OSError(111, "secret")),
    (_KEY, ssl.SSLCertVerificationError("secret")),
    ("/secret.sock", _KEY, OSError(2, "secret")),
    (b"secret", b"secret", "secret.example.com", 443),
    (_REQUEST_INFO, ()),
    ("secret", "secret"),
    (7, "secret"),
]


def made(kind: type[BaseException]) -> BaseException:
    """Make an exception of any class of the library, whatever its constructor wants."""
    for arguments in _ARGUMENTS:
        try:
            error = kind(*arguments)
            str(error)
        except (TypeError, AttributeError, ValueError):
            continue
        return error
    raise AssertionError(f"no way to make {kind}")


def raisable() -> list[type[BaseException]]:
    """Every exception class of aiohttp's client, of its parser, and of the system underneath."""
    found = {
        kind
        for module in (client_exceptions, http_exceptions)
        for kind in vars(module).values()
        if isinstance(kind, type)
        and issubclass(kind, BaseException)
        and kind.__module__.startswith("aiohttp")
        and not issubclass(kind, TypeError)  # WebSockets' own, of a misuse
    }
    system = {OSError, ConnectionResetError, BrokenPipeError, TimeoutError, ssl.SSLError}
    return sorted(found | system | {asyncio.TimeoutError}, key=lambda kind: kind.__name__)


UNSENT = {
    "ClientConnectorCertificateError",
    "ClientConnectorDNSError",
    "ClientConnectorError",
    "ClientConnectorSSLError",
    "ClientHttpProxyError",
    "ClientProxyConnectionError",
    "ClientSSLError",
    "ConnectionTimeoutError",
    "ServerFingerprintMismatch",
    "UnixClientConnectorError",
}


@pytest.mark.parametrize("kind", raisable())
def test_every_exception_of_the_library_has_a_place(kind: type[BaseException]) -> None:
    assert issubclass(kind, FOREIGN)
    error = of_exception(Operation.CREATE, made(kind))
    assert "secret" not in str(error)
    if isinstance(error, RemoteUnavailable):
        assert error.sent == (kind.__name__ not in UNSENT)
        assert error.status is None
    elif issubclass(kind, aiohttp.ClientResponseError | http_exceptions.HttpProcessingError):
        assert type(error) is RemoteMalformed
    else:
        assert type(error) is ConfigError
        assert "url" in str(error)


@pytest.mark.parametrize(
    ("kind", "needle"),
    [
        (aiohttp.ClientConnectorCertificateError, "SSL_CERT_FILE"),
        (aiohttp.ClientConnectorSSLError, "TLS"),
        (aiohttp.ClientConnectorDNSError, "DNS"),
        (aiohttp.ClientConnectorError, "cannot be reached"),
        (aiohttp.ConnectionTimeoutError, "firewall"),
    ],
)
def test_connection_failures_name_the_fix(kind: type[BaseException], needle: str) -> None:
    assert needle in str(of_exception(Operation.GET, made(kind)))


@pytest.mark.parametrize("kind", [TimeoutError, aiohttp.ServerDisconnectedError, OSError])
def test_what_broke_before_sending_is_certain(kind: type[BaseException]) -> None:
    error = of_exception(Operation.GET, made(kind), sent=False)
    assert isinstance(error, RemoteUnavailable)
    assert not error.sent
    assert "no connection" in str(error)
