"""What to do about each failure the remote can name: one sentence for each.

This room knows the error names of the contract ("Error body and codes") and what their cure is. It
decides nothing: which error of ours they become is `translate`'s.
"""

from __future__ import annotations

from typing import Final

_CONTEXT = "start over in a new session, or say it shorter"
_ONTOLOGY = (
    "the agent uses ontology entities that this token may not see: add them to the application's "
    "resources in Developer Console, or mend the agent in AIP Chatbot Studio"
)
_FUNCTION = "the agent uses a function that is gone or not visible to this token: mend the agent"
_VERSION = "use an existing version, major.minor such as 1.0, or none for the latest published"
_MODEL = "the agent's language model is not enabled here: choose another in AIP Chatbot Studio"
_PARAMETER = (
    "parameter_inputs must name the agent's application variables and give each as "
    '{"type": "string", "value": ...} or an objectSet'
)
_MODEL_BUSY = "the language model is throttled; wait, and send less at a time"
_DRIFTED = "the request does not fit this API any more; update session-pool"
_PAGE = "give a page size of 1 to 100, and page tokens unchanged and from the same listing"
_RETRY = "try again later; with the instance id Palantir support can look it up"
_SCOPES = (
    "give the application the scopes api:aip-agents-read and api:aip-agents-write, and this user "
    "access to the agent"
)

ADVICE: Final[dict[str, str]] = {
    "ActionTypeNotFound": _ONTOLOGY,
    "AgentIterationsExceededLimit": "the agent ran in circles; ask less at once",
    "AgentNotFound": (
        "check the RID, the application's resources in Developer Console (the agent's project, the "
        "AIP operations and the ontology types it uses), and this user's access to it"
    ),
    "AgentVersionNotFound": _VERSION,
    "ApiFeaturePreviewUsageOnly": "this API is in preview, and preview=true was lost",
    "ApiUsageDenied": _SCOPES,
    "CancelSessionFailedMessageNotInProgress": "the exchange is over, or has not begun yet",
    "Conjure:InvalidArgument": _DRIFTED,
    "Conjure:UnprocessableEntity": _DRIFTED,
    "Conjure:UnsupportedMediaType": "the request was changed on its way; look for a proxy",
    "ContentNotFound": "the session has no content that can be read",
    "ContextSizeExceededLimit": f"the conversation has outgrown the model's context; {_CONTEXT}",
    "Default:Internal": _RETRY,
    "Default:PermissionDenied": _SCOPES,
    "Default:Unauthorized": "the token is refused; give a valid one",
    "FunctionLocatorNotFound": _FUNCTION,
    "InvalidAgentVersion": _VERSION,
    "InvalidJson": _PARAMETER,
    "InvalidPageSize": _PAGE,
    "InvalidPageToken": _PAGE,
    "InvalidParameter": _PARAMETER,
    "InvalidParameterType": _PARAMETER,
    "NoPublishedAgentVersion": "publish the agent in AIP Chatbot Studio, or name an agent_version",
    "ObjectTypeIdsNotFound": _ONTOLOGY,
    "ObjectTypeRidsNotFound": _ONTOLOGY,
    "OntologyEntitiesNotFound": _ONTOLOGY,
    "RateLimitExceeded": _MODEL_BUSY,
    "RetryAttemptsExceeded": _MODEL_BUSY,
    "RetryDeadlineExceeded": _MODEL_BUSY,
    "SessionExecutionFailed": f"the agent failed at its work; {_RETRY}",
    "SessionNotFound": "the session has expired, was deleted, or belongs to another user",
    "SessionTraceIdAlreadyExists": "this exchange was sent before; look its outcome up",
    "SessionTraceNotFound": "no exchange with this trace is known, or not yet",
    "UnsupportedLanguageModelRid": _MODEL,
}
"""Every name of the contract but the `*PermissionDenied` ones, which share one cure."""

FALLBACK: Final = "see this error in the AIP Agents API documentation"


def advise(error_name: str) -> str:
    """Return what to do about an error of that name; a general word for names of tomorrow."""
    if error_name.endswith("PermissionDenied"):
        return _SCOPES
    return ADVICE.get(error_name, FALLBACK)
