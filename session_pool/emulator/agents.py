"""The agents of the stack and their versions (contract sections 2, 3 and 6.1).

Knows nothing of users, sessions or requests; who asks for what is not here is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

from .errors import ApiError, refusal

RID: Final = re.compile(
    r"ri\.[a-z][a-z0-9-]*\.(?:[a-z0-9][a-z0-9-]*)?\.[a-z][a-z0-9-]*\.[a-zA-Z0-9._-]+"
)
_AGENT_RID: Final = re.compile(r"ri\.aip-agents\.(?:[a-z0-9][a-z0-9-]*)?\.agent\.[a-zA-Z0-9._-]+")
_VERSION: Final = re.compile(r"([0-9]+)\.([0-9]+)")


class Version(NamedTuple):
    """An agent version; publishing raises the major part, saving the minor one."""

    major: int
    minor: int

    @classmethod
    def read(cls, text: str) -> Version | None:
        """A version from `major.minor`, or None where the text is none."""
        match = _VERSION.fullmatch(text)
        return cls(int(match[1]), int(match[2])) if match else None

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"

    def wire(self) -> dict[str, Any]:
        """An `AgentVersion` of the API."""
        return {"string": str(self), "version": {"major": self.major, "minor": self.minor}}


@dataclass(frozen=True, slots=True)
class AgentSetup:
    """What an agent is at the start.

    Attributes:
        versions: all of its versions, as `major.minor`.
        published: which of them are published; None: all.
        display_name: as Agent Get shows it.
        parameters: application variables, id to "string" or "objectSet"; None: any is taken.

    Raises:
        ValueError: a version that is none, or a published one that is not among the versions.
    """

    versions: tuple[str, ...] = ("1.0",)
    published: tuple[str, ...] | None = None
    display_name: str = "Emulated agent"
    parameters: Mapping[str, Literal["string", "objectSet"]] | None = None

    def __post_init__(self) -> None:
        for version in self.versions:
            if Version.read(version) is None:
                raise ValueError(f"versions: {version!r} is not major.minor")
        for version in self.published or ():
            if version not in self.versions:
                raise ValueError(f"published: {version!r} is not among the versions")


@dataclass(slots=True)
class Agent:
    """An agent as it is now."""

    rid: str
    setup: AgentSetup
    versions: set[Version] = field(default_factory=set)
    published: set[Version] = field(default_factory=set)

    def __post_init__(self) -> None:
        published = self.setup.versions if self.setup.published is None else self.setup.published
        self.versions = _read_all(self.setup.versions)
        self.published = _read_all(published)

    def version(self, asked: str | None) -> Version:
        """The version asked for, or the latest published one.

        Raises:
            ApiError: InvalidAgentVersion, AgentVersionNotFound or NoPublishedAgentVersion.
        """
        if asked is None:
            if not self.published:
                raise refusal("NoPublishedAgentVersion", agentRid=self.rid)
            return max(self.published)
        version = Version.read(asked)
        if version is None:
            raise refusal("InvalidAgentVersion", agentRid=self.rid, version=asked)
        if version not in self.versions:
            raise refusal("AgentVersionNotFound", agentRid=self.rid, agentVersionString=asked)
        return version

    def publish(self) -> Version:
        """Publish what there is as the next major version."""
        version = Version(max(self.versions, default=Version(0, 0)).major + 1, 0)
        self.versions.add(version)
        self.published.add(version)
        return version

    def save(self) -> Version:
        """Save without publishing: the next minor version."""
        latest = max(self.versions, default=Version(0, 0))
        version = Version(latest.major, latest.minor + 1)
        self.versions.add(version)
        return version

    def wire(self, version: Version) -> dict[str, Any]:
        """An `Agent` of the API."""
        kinds: dict[str, dict[str, Any]] = {
            "string": {"type": "string"},
            "objectSet": {"type": "objectSet", "expectedObjectTypes": []},
        }
        return {
            "rid": self.rid,
            "version": str(version),
            "metadata": {"displayName": self.setup.display_name, "suggestedPrompts": []},
            "parameters": {
                name: {"parameterType": kinds[kind], "access": "READ_WRITE"}
                for name, kind in (self.setup.parameters or {}).items()
            },
        }


def _read_all(texts: Iterable[str]) -> set[Version]:
    return {version for text in texts if (version := Version.read(text)) is not None}


class Agents:
    """All agents of the stack.

    Args:
        setups: RID to what it is at the start.
        any_agent: agents that nobody listed exist too, each with the default set-up.
    """

    def __init__(self, setups: Mapping[str, AgentSetup], *, any_agent: bool) -> None:
        self._agents = {rid: Agent(rid, setup) for rid, setup in setups.items()}
        self._any_agent = any_agent
        self._forgotten: set[str] = set()

    def find(self, rid: str) -> Agent:
        """The agent of this RID.

        Raises:
            ApiError: AgentNotFound; Conjure:InvalidArgument where it is no RID at all.
        """
        if not RID.fullmatch(rid):
            raise refusal("Conjure:InvalidArgument")
        if rid not in self._forgotten:
            if rid not in self._agents and self._any_agent and _AGENT_RID.fullmatch(rid):
                self._agents[rid] = Agent(rid, AgentSetup())
            if rid in self._agents:
                return self._agents[rid]
        raise refusal("AgentNotFound", agentRid=rid)

    def known(self, rid: str) -> Agent:
        """The same for the one who runs the emulator.

        Raises:
            KeyError: there is no such agent.
        """
        try:
            return self.find(rid)
        except ApiError as error:
            raise KeyError(f"no agent {rid!r}: {error.name}") from None

    def forget(self, rid: str) -> None:
        """The agent is found no more."""
        self._forgotten.add(rid)

    def restore(self, rid: str) -> None:
        """A forgotten agent is found again."""
        self._forgotten.discard(rid)
