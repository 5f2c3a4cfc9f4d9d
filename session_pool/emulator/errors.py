"""The errors of the contract: name, error code, status and parameters (contract section 5).

Data and one exception. It knows no request and no state: whoever raises says what it is about.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """A named error: its `errorCode`, HTTP status, and the parameters it is sent with."""

    name: str
    code: str
    status: int
    parameters: tuple[str, ...] = ()


_BOTH: Final = ("agentRid", "sessionRid")


def _table() -> dict[str, ErrorKind]:
    rows: list[ErrorKind] = []

    def rows_of(code: str, status: int, **names: tuple[str, ...]) -> None:
        rows.extend(ErrorKind(name, code, status, given) for name, given in names.items())

    rows_of(
        "INVALID_ARGUMENT",
        400,
        ActionTypeNotFound=(*_BOTH, "actionRid"),
        AgentIterationsExceededLimit=(*_BOTH, "details"),
        ApiFeaturePreviewUsageOnly=(),
        CancelSessionFailedMessageNotInProgress=(*_BOTH, "messageId"),
        ContextSizeExceededLimit=(*_BOTH, "details"),
        InvalidAgentVersion=("agentRid", "version"),
        InvalidJson=(),
        InvalidPageSize=("pageSize",),
        InvalidPageToken=("pageToken",),
        InvalidParameter=(*_BOTH, "parameter"),
        InvalidParameterType=(*_BOTH, "parameter", "expectedType", "receivedType"),
        NoPublishedAgentVersion=("agentRid",),
        RateLimitExceeded=(*_BOTH, "details"),
        RetryAttemptsExceeded=(*_BOTH, "details"),
        RetryDeadlineExceeded=(*_BOTH, "details"),
        SessionTraceIdAlreadyExists=(*_BOTH, "sessionTraceId"),
        UnsupportedLanguageModelRid=(*_BOTH, "languageModelRid", "modelPurpose"),
    )
    rows_of(
        "NOT_FOUND",
        404,
        AgentNotFound=("agentRid",),
        AgentVersionNotFound=("agentRid", "agentVersionString"),
        ContentNotFound=_BOTH,
        FunctionLocatorNotFound=(*_BOTH, "functionRid", "functionVersion"),
        ObjectTypeIdsNotFound=(*_BOTH, "objectTypeIds"),
        ObjectTypeRidsNotFound=(*_BOTH, "objectTypeRids"),
        OntologyEntitiesNotFound=(*_BOTH, "objectTypeRids", "linkTypeRids"),
        SessionNotFound=_BOTH,
        SessionTraceNotFound=(*_BOTH, "sessionTraceId"),
    )
    rows_of(
        "PERMISSION_DENIED",
        403,
        ApiUsageDenied=("missingScope",),
        BlockingContinueSessionPermissionDenied=_BOTH,
        CancelSessionPermissionDenied=_BOTH,
        CreateSessionPermissionDenied=("agentRid",),
        DeleteSessionPermissionDenied=_BOTH,
        GetAllSessionsAgentsPermissionDenied=(),
        GetRagContextForSessionPermissionDenied=_BOTH,
        ListSessionsForAgentsPermissionDenied=(),
        StreamingContinueSessionPermissionDenied=_BOTH,
        UpdateSessionTitlePermissionDenied=_BOTH,
    )
    rows_of("INTERNAL", 500, SessionExecutionFailed=(*_BOTH, "message", "details"))
    rows += [
        ErrorKind("Conjure:InvalidArgument", "INVALID_ARGUMENT", 400),
        ErrorKind("Conjure:UnsupportedMediaType", "INVALID_ARGUMENT", 415),
        ErrorKind("Conjure:UnprocessableEntity", "INVALID_ARGUMENT", 422),
        ErrorKind("Default:Unauthorized", "UNAUTHORIZED", 401),
        ErrorKind("Default:PermissionDenied", "PERMISSION_DENIED", 403),
        ErrorKind("Default:Conflict", "CONFLICT", 409),
        ErrorKind("Default:RequestEntityTooLarge", "REQUEST_ENTITY_TOO_LARGE", 413),
        ErrorKind("Default:Internal", "INTERNAL", 500),
    ]
    return {row.name: row for row in rows}


ERRORS: Final = _table()

# Faults of an agent's configuration: they name a session unless they come from a creation.
_CONFIGURATION: Final = frozenset(
    {
        "ActionTypeNotFound",
        "FunctionLocatorNotFound",
        "ObjectTypeIdsNotFound",
        "ObjectTypeRidsNotFound",
        "OntologyEntitiesNotFound",
        "UnsupportedLanguageModelRid",
    }
)

# What a scripted error says where nothing real stands behind it. `missingScope` has no filler: it
# is left out where it is not known.
_FILLERS: Final[Mapping[str, Any]] = {
    "agentRid": "ri.aip-agents..agent.00000000-0000-4000-8000-000000000007",
    "sessionRid": "ri.aip-agents..session.00000000-0000-4000-8000-000000000008",
    "actionRid": "ri.actions.main.action-type.00000000-0000-4000-8000-000000000001",
    "agentVersionString": "1.0",
    "details": "made up by the emulator",
    "expectedType": "string",
    "functionRid": "ri.function-registry.main.function.00000000-0000-4000-8000-000000000002",
    "functionVersion": "1.0.0",
    "languageModelRid": "ri.language-model-service..language-model.emulated",
    "linkTypeRids": ["ri.ontology.main.relation.00000000-0000-4000-8000-000000000003"],
    "message": "made up by the emulator",
    "messageId": "00000000-0000-4000-8000-000000000004",
    "modelPurpose": "PRIMARY_AGENT",
    "objectTypeIds": ["emulated-type"],
    "objectTypeRids": ["ri.ontology.main.object-type.00000000-0000-4000-8000-000000000005"],
    "pageSize": 0,
    "pageToken": "emulated",
    "parameter": "emulated",
    "receivedType": "objectSet",
    "sessionTraceId": "00000000-0000-4000-8000-000000000006",
    "version": "emulated",
}


class ApiError(Exception):
    """A refusal, as the API words it.

    Attributes:
        name: `errorName`; None for an answer without a body (throttled, or an empty 404).
        status, code: as in the table.
        parameters: what it is about; identifiers only, never texts of a conversation.
        headers: further headers of the answer.
    """

    def __init__(
        self,
        name: str | None,
        *,
        status: int,
        code: str = "",
        parameters: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{status} {name or 'without a name'}")
        self.name = name
        self.status = status
        self.code = code
        self.parameters = dict(parameters or {})
        self.headers = dict(headers or {})

    def body(self, *, described: bool = False) -> dict[str, Any] | None:
        """The JSON body, with a fresh instance id; None where the answer has none."""
        if self.name is None:
            return None
        body: dict[str, Any] = {
            "errorCode": self.code,
            "errorName": self.name,
            "errorInstanceId": str(uuid.uuid4()),
            "parameters": self.parameters,
        }
        if described:
            body["errorDescription"] = f"{self.name}, as the emulator tells it."
        return body


def refusal(name: str, **known: Any) -> ApiError:
    """A named error of the contract with the parameters it should have.

    Args:
        name: a name of the table.
        known: parameters by their name on the wire; those that the error has not are ignored,
            those that it has and are not known get a made-up value, or are left out.

    Raises:
        ValueError: the contract has no such name.
    """
    kind = ERRORS.get(name)
    if kind is None:
        raise ValueError(f"unknown error name {name!r}")
    parameters: dict[str, Any] = {}
    for parameter in kind.parameters:
        value = known.get(parameter)
        if value is None and not (parameter == "sessionRid" and name in _CONFIGURATION):
            value = _FILLERS.get(parameter)
        if value is not None:
            parameters[parameter] = value
    return ApiError(name, status=kind.status, code=kind.code, parameters=parameters)


def throttled(status: int, headers: Mapping[str, str] | None = None) -> ApiError:
    """A 429 or 503, which has no body that anybody reads."""
    return ApiError(None, status=status, headers=headers)


def no_such_api() -> ApiError:
    """The empty 404 of an endpoint that this stack has not."""
    return ApiError(None, status=404)
