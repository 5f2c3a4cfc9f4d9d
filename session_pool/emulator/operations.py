"""The operations of the API: one table for routes, scopes, refusals and fault scripts.

A row of contract section 4 is a row here. This room is data: it knows no server and no state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

READ: Final = "api:aip-agents-read"
WRITE: Final = "api:aip-agents-write"

_AGENTS: Final = "/api/v2/aipAgents/agents"
_AGENT: Final = _AGENTS + "/{agent_rid}"
_SESSIONS: Final = _AGENT + "/sessions"
_SESSION: Final = _SESSIONS + "/{session_rid}"
_AUTH: Final = "/multipass/api/oauth2"


@dataclass(frozen=True, slots=True)
class Operation:
    """One endpoint.

    Attributes:
        name: what fault scripts, gates and counters call it.
        method, path: as routed; path parameters are `agent_rid`, `session_rid`, `trace_id`, and
            `version`.
        scope: the OAuth scope it needs, or None for the token endpoints, which need no bearer.
        denied: the name of its refusal (403), or None where the contract lists none.
    """

    name: str
    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    scope: str | None
    denied: str | None = None


OPERATIONS: Final = (
    # allSessions sits where an agent RID sits, so it must be matched first.
    Operation(
        "all_sessions",
        "GET",
        _AGENTS + "/allSessions",
        WRITE,
        "ListSessionsForAgentsPermissionDenied",
    ),
    Operation("create", "POST", _SESSIONS, WRITE, "CreateSessionPermissionDenied"),
    Operation("list", "GET", _SESSIONS, READ),
    Operation("get", "GET", _SESSION, READ),
    Operation("delete", "DELETE", _SESSION, WRITE, "DeleteSessionPermissionDenied"),
    Operation(
        "blocking_continue",
        "POST",
        _SESSION + "/blockingContinue",
        WRITE,
        "BlockingContinueSessionPermissionDenied",
    ),
    Operation(
        "streaming_continue",
        "POST",
        _SESSION + "/streamingContinue",
        WRITE,
        "StreamingContinueSessionPermissionDenied",
    ),
    Operation("cancel", "POST", _SESSION + "/cancel", WRITE, "CancelSessionPermissionDenied"),
    Operation(
        "rag_context",
        "PUT",
        _SESSION + "/ragContext",
        WRITE,
        "GetRagContextForSessionPermissionDenied",
    ),
    Operation(
        "update_title",
        "PUT",
        _SESSION + "/updateTitle",
        WRITE,
        "UpdateSessionTitlePermissionDenied",
    ),
    Operation("content", "GET", _SESSION + "/content", READ),
    Operation("trace", "GET", _SESSION + "/sessionTraces/{trace_id}", READ),
    Operation("agent", "GET", _AGENT, READ),
    Operation("versions", "GET", _AGENT + "/agentVersions", READ),
    Operation("version", "GET", _AGENT + "/agentVersions/{version}", READ),
    Operation("token", "POST", _AUTH + "/token", None),
    Operation("revoke", "POST", _AUTH + "/revoke_token", None),
)

BY_NAME: Final = {operation.name: operation for operation in OPERATIONS}

EXCHANGES: Final = frozenset({"blocking_continue", "streaming_continue"})

GROUPS: Final = {
    "exchange": EXCHANGES,
    "any": frozenset(BY_NAME),
    # Everything behind a bearer token, so that a script can spare the token endpoints.
    "api": frozenset(operation.name for operation in OPERATIONS if operation.scope is not None),
}


def members(op: str) -> frozenset[str]:
    """The operations that a name means: itself, or those of a group ("exchange", "api", "any").

    Raises:
        ValueError: the name is neither an operation nor a group.
    """
    if op in GROUPS:
        return GROUPS[op]
    if op in BY_NAME:
        return frozenset({op})
    known = ", ".join(sorted([*BY_NAME, *GROUPS]))
    raise ValueError(f"unknown operation {op!r}; known are {known}")
