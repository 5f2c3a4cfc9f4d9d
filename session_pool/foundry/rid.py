"""Resource identifiers: is this an agent's, and if not, what was probably meant?

This room knows the grammar of RIDs (contract, "Identifiers and values") and nothing else.
"""

from __future__ import annotations

import re
from typing import Final

from session_pool.errors import ConfigError

# service . instance . type . locator; the instance may be empty, hence the two dots of most RIDs.
_RID: Final = re.compile(
    r"ri\.(?P<service>[a-z][a-z0-9-]*)\.([a-z0-9][a-z0-9-]*)?\.(?P<type>[a-z][a-z0-9-]*)"
    r"\.(?P<locator>[a-zA-Z0-9._-]+)"
)
_EXAMPLE: Final = "ri.aip-agents..agent.<uuid>"


def check_agent_rid(value: object) -> str:
    """Return `value` if it is the RID of an AIP Agent.

    Args:
        value: what somebody wrote where an agent's RID belongs.

    Raises:
        ConfigError: it is none; the message guesses what it is instead.
    """
    if not isinstance(value, str):
        kind = type(value).__name__
        raise ConfigError(f"agent: its RID must be a string, {_EXAMPLE}, not a {kind}")
    found = _RID.fullmatch(value)
    if found and (found["service"], found["type"]) == ("aip-agents", "agent"):
        return value
    raise ConfigError(f"agent {_shown(value)} is not the RID of an agent: {_hint(value, found)}")


def _hint(value: str, found: re.Match[str] | None) -> str:
    if not value.strip():
        return f"it is empty; give the agent's RID, {_EXAMPLE}"
    if found and found["type"] == "session":
        return (
            "it names a session, which the pool makes by itself; "
            f"give the RID of the session's agent, {_EXAMPLE}"
        )
    if found:
        return f"it names a {found['type']!r} of {found['service']!r}; expected {_EXAMPLE}"
    if value != value.strip():
        return "take away the white space around it"
    if value.startswith("ri.aip-agents.agent."):
        return f"a dot is missing, the instance part is empty but not absent: {_EXAMPLE}"
    if value.startswith("ri."):
        return f"expected {_EXAMPLE}, as shown in the agent's address in AIP Chatbot Studio"
    return (
        "as a short name it is not known either; list it with its RID "
        f"(a section [agents.<name>] with rid = {_EXAMPLE!r}), or use the RID itself"
    )


def _shown(value: str) -> str:
    """Return `value` quoted and shortened: a prompt or token pasted here is not repeated."""
    return repr(value) if len(value) <= 80 else repr(value[:20] + "…")
