"""Refusals of creations: why no session can be made, and of whom that is true (B10).

A definite refusal concerns an agent, or only one of its versions that was asked for by number. It
is kept on the key's note, so that every process goes by it. Pure like `rules`: no I/O, no clock. An
age is the note's, and what the refusal had when that was written, so no two clocks are compared.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from session_pool.errors import AgentUnavailable, AuthError
from session_pool.model import Counts, Terms
from session_pool.space import Failure, Guard, Note, Refused

MOST: Final = 8
"""Versions that a note remembers as refused, the latest ones: more than callers of one agent ask
for in vain by mistake, and few enough to be read with every news. One that is forgotten is tried
again as if it had never been."""

OF_THE_VERSION: Final = frozenset({"AgentVersionNotFound", "InvalidAgentVersion"})
"""Names that tell of the version alone, whoever asked for it (API, "Create Session")."""

OF_THE_AGENT: Final = frozenset(
    {"AgentNotFound", "NoPublishedAgentVersion", "ApiFeaturePreviewUsageOnly", "ApiUsageDenied"}
)
"""Names that are true of the agent, or of the stack, whichever version was asked for."""

BORN_EXPIRED: Final = Failure(
    "agent",
    "sessions of this agent are born expired: their estimatedExpiresTime is missing or not after "
    "their updatedTime; check the agent's retention, or report it to the stack's operators",
)
"""What a note says where a creation was of no use."""


def failure_of(error: AgentUnavailable | AuthError) -> Failure:
    """The error as a note can carry it to other processes."""
    return Failure(
        "auth" if isinstance(error, AuthError) else "agent",
        str(error),
        error.error_name,
        error.error_instance_id,
        error.status,
    )


def error_of(failure: Failure) -> AgentUnavailable | AuthError:
    """The failure as an error to raise, the same in every process."""
    kind = AuthError if failure.kind == "auth" else AgentUnavailable
    return kind(
        failure.message,
        error_name=failure.error_name,
        error_instance_id=failure.error_instance_id,
        status=failure.status,
    )


def concerned(failure: Failure, asked: str | None, usual: str | None) -> str | None:
    """The version that alone a failure concerns; None: the agent, whatever is asked of it.

    The error's own name decides, where it tells. Else what was asked for does: what another version
    meets than the one that everybody gets says nothing of that one (a function, a model or an
    object type that only this version uses; sessions that only it bears expired).

    Args:
        failure: of a creation.
        asked: the version that it named; None is the latest published one.
        usual: the version of the policy.
    """
    name, status = failure.error_name or "", failure.status
    if asked is None or failure.kind == "auth":
        return None
    if name in OF_THE_VERSION:
        return asked
    if name in OF_THE_AGENT or name.endswith("PermissionDenied") or status in (401, 403):
        return None
    absent = not name and status is not None and (status == 404 or 300 <= status < 400)
    return None if absent or asked == usual else asked


# ------------------------------------------------------------------------------------- on the note


def of_version(note: Note, version: str | None) -> Refused | None:
    """What a note knows of a version by number."""
    return next((one for one in note.refused if one.agent_version == version), None)


def with_failure(note: Note, failure: Failure, version: str | None, probe: str) -> Note:
    """The note once a creation was refused.

    Args:
        note: as it stands.
        failure: why.
        version: the one that it concerns; None: the agent.
        probe: an id that no entry has had.
    """
    if version is None:
        return note._replace(failure=failure)
    others = [one for one in note.refused if one.agent_version != version]
    return note._replace(refused=(*others, Refused(version, failure, 0.0, probe))[-MOST:])


def without_failure(note: Note, *versions: str | None) -> Note:
    """The note once a session was made of these versions: the one asked for, and the one it has."""
    left = tuple(one for one in note.refused if one.agent_version not in versions)
    return note._replace(refused=left)


def aged(note: Note, before: Note, by_s: float) -> Note:
    """The note as it is to be written: what stands in it already stays as old as it is.

    Args:
        note: the new one.
        before: the one that it replaces, `by_s` old.
        by_s: seconds.
    """
    if not note.refused:
        return note
    known = set(before.refused)
    refused = (
        one._replace(age_s=one.age_s + by_s) if one in known else one for one in note.refused
    )
    return note._replace(refused=tuple(refused))


# ---------------------------------------------------------------------------------- what is tried


class Choice(NamedTuple):
    """What the next creation is of.

    Attributes:
        agent_version: None is the latest published one.
        probe: the id that its entry must have, since the version was refused; "": any.
        waited_for: somebody in line wants it, as far as this process knows; else it is to lie
            ready.
    """

    agent_version: str | None
    probe: str = ""
    waited_for: bool = True


def for_warmth(counts: Counts, terms: Terms, target: int, most: int) -> tuple[Guard, ...] | None:
    """`rules.creations` where those in line may want what cannot be had: for the target alone (B8).

    Args:
        counts: of the key.
        terms: the agent's.
        target: idle sessions wanted.
        most: what the budget allows at once.
    """
    creating, ceiling = counts.of("creating"), min(terms.max_creating, most)
    if creating >= ceiling or counts.of("creating", "idle") >= target:
        return None
    return (
        Guard(("creating",), (), ceiling - 1),
        Guard(("creating", "idle"), (), target - 1),
    )
