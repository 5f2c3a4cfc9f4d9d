"""Reading what clients send: bodies, page parameters and tokens, and refusing what is ill-formed.

It knows the shapes of the contract (sections 2 to 4) and the agent's variables, and nothing of the
server's state.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import Any, Final

from .agents import AgentSetup
from .errors import refusal
from .exchanges import Request

_UUID: Final = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")


def read_object(body: bytes, content_type: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ApiError: Conjure:UnsupportedMediaType, InvalidJson, or Conjure:InvalidArgument where it is
            JSON and no object.
    """
    if content_type != "application/json":
        raise refusal("Conjure:UnsupportedMediaType")
    try:
        value = json.loads(body)
    except ValueError:
        raise refusal("InvalidJson") from None
    if not isinstance(value, dict):
        raise refusal("Conjure:InvalidArgument")
    return value


def text_of(body: Mapping[str, Any], name: str) -> str | None:
    """An optional string of a body.

    Raises:
        ApiError: Conjure:InvalidArgument where it is something else.
    """
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise refusal("Conjure:InvalidArgument")
    return value


def need(value: str | None) -> str:
    """A string that must be there.

    Raises:
        ApiError: Conjure:InvalidArgument where it is not.
    """
    if value is None:
        raise refusal("Conjure:InvalidArgument")
    return value


def uuid_of(body: Mapping[str, Any], name: str) -> str | None:
    """An optional UUID of a body.

    Raises:
        ApiError: Conjure:InvalidArgument where it is something else.
    """
    value = text_of(body, name)
    if value is not None and not _UUID.fullmatch(value):
        raise refusal("Conjure:InvalidArgument")
    return value


def user_text(body: Mapping[str, Any]) -> str:
    """`userInput.text`.

    Raises:
        ApiError: Conjure:InvalidArgument where it is not there.
    """
    user_input = body.get("userInput")
    if not isinstance(user_input, dict):
        raise refusal("Conjure:InvalidArgument")
    return need(text_of(user_input, "text"))


def read_continue(
    body: Mapping[str, Any], setup: AgentSetup, about: Mapping[str, str], *, streaming: bool
) -> Request:
    """The body of a continue.

    Args:
        setup: of the agent, for its variables.
        about: `agentRid` and `sessionRid`, for errors.

    Raises:
        ApiError: Conjure:InvalidArgument, InvalidJson, InvalidParameter or InvalidParameterType.
    """
    return Request(
        text=user_text(body),
        parameters=read_parameters(body, setup, about),
        contexts=_contexts(body),
        trace_id=uuid_of(body, "sessionTraceId"),
        message_id=uuid_of(body, "messageId") if streaming else None,
        streaming=streaming,
    )


def read_parameters(
    body: Mapping[str, Any], setup: AgentSetup, about: Mapping[str, str]
) -> dict[str, Any]:
    """`parameterInputs`: each value says its type, and is of the agent's variables.

    Raises:
        ApiError: InvalidJson for a value that names no type (the classic mistake of a bare
            string), InvalidParameter for an unknown variable, InvalidParameterType for another
            type than the variable's, Conjure:InvalidArgument where the map is missing.
    """
    given = body.get("parameterInputs")
    if not isinstance(given, dict):
        raise refusal("Conjure:InvalidArgument")
    for name, value in given.items():
        kind = value.get("type") if isinstance(value, dict) else None
        well_formed = (kind == "string" and isinstance(value.get("value"), str)) or (
            kind == "objectSet" and "objectSet" in value and "ontology" in value
        )
        if not well_formed:
            raise refusal("InvalidJson")
        if setup.parameters is None:
            continue
        if name not in setup.parameters:
            raise refusal("InvalidParameter", **about, parameter=name)
        if setup.parameters[name] != kind:
            raise refusal(
                "InvalidParameterType",
                **about,
                parameter=name,
                expectedType=setup.parameters[name],
                receivedType=kind,
            )
    return given


def _contexts(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """`contextsOverride`, grouped as `content` shows it; None where it was not sent."""
    given = body.get("contextsOverride")
    if given is None:
        return None
    groups: dict[str, list[Any]] = {"objectContext": [], "functionRetrievedContext": []}
    if not isinstance(given, list):
        raise refusal("Conjure:InvalidArgument")
    for one in given:
        kind = one.get("type") if isinstance(one, dict) else None
        if kind not in groups:
            raise refusal("InvalidJson")
        groups[kind].append(one)
    return {
        "objectContexts": groups["objectContext"],
        "functionRetrievedContexts": groups["functionRetrievedContext"],
    }


def page_size(query: Mapping[str, str], largest: int, *, cap: bool) -> int:
    """`pageSize`, or the largest where it was not sent.

    Raises:
        ApiError: InvalidPageSize for zero, a negative one, and one above the largest unless `cap`;
            Conjure:InvalidArgument for what is no number.
    """
    text = query.get("pageSize")
    if text is None:
        return largest
    try:
        size = int(text)
    except ValueError:
        raise refusal("Conjure:InvalidArgument") from None
    if size < 1 or (size > largest and not cap):
        raise refusal("InvalidPageSize", pageSize=size)
    return min(size, largest)


def page_token(scope: str, position: tuple[int, str]) -> str:
    """An opaque token for the place where the next page of this listing starts."""
    raw = json.dumps([scope, *position]).encode()
    return "v1." + base64.urlsafe_b64encode(raw).decode()


def page_position(query: Mapping[str, str], scope: str) -> tuple[int, str] | None:
    """The place that `pageToken` names; None for the first page.

    Raises:
        ApiError: InvalidPageToken for what is none of this listing's.
    """
    token = query.get("pageToken")
    if not token:
        return None
    try:
        kind, instant, rid = json.loads(base64.urlsafe_b64decode(token.removeprefix("v1.")))
    except (ValueError, TypeError, binascii.Error):
        raise refusal("InvalidPageToken", pageToken=token) from None
    if kind != scope or not isinstance(instant, int) or not isinstance(rid, str):
        raise refusal("InvalidPageToken", pageToken=token)
    return instant, rid
