"""Live, exclusively leased conversation sessions of Foundry's AIP Agents, for asyncio.

The public names, each loaded when it is first used: what only wants the version, or a command's
help, does not pay for an HTTP client (PEP 562).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from session_pool.agent import Agent
    from session_pool.conversation import Conversation, Reply
    from session_pool.errors import (
        AcquireTimeout,
        AgentUnavailable,
        AlreadyHeld,
        AuthError,
        ConfigError,
        ContextLost,
        ExchangeUncertain,
        LeaseLost,
        PoolClosed,
        PoolPaused,
        RemoteError,
        RemoteMalformed,
        RemoteRejected,
        RemoteThrottled,
        RemoteUnavailable,
        SessionGone,
        SessionPoolError,
        StoreError,
        StoreMismatch,
        StoreUnavailable,
        TooManyWaiting,
        VersionConflict,
    )
    from session_pool.foundry import ClientCredentials, SecretFile, StaticToken
    from session_pool.lease import Lease
    from session_pool.policy import AgentPolicy, RequestLimits
    from session_pool.pool import SessionPool
    from session_pool.telemetry import PoolStats

__all__ = [
    "SessionPool",
    "Agent",
    "AgentPolicy",
    "RequestLimits",
    "StaticToken",
    "ClientCredentials",
    "SecretFile",
    "Lease",
    "Conversation",
    "Reply",
    "PoolStats",
    "SessionPoolError",
    "ConfigError",
    "PoolClosed",
    "PoolPaused",
    "AcquireTimeout",
    "TooManyWaiting",
    "AlreadyHeld",
    "VersionConflict",
    "LeaseLost",
    "SessionGone",
    "ContextLost",
    "ExchangeUncertain",
    "AgentUnavailable",
    "AuthError",
    "RemoteError",
    "RemoteRejected",
    "RemoteThrottled",
    "RemoteUnavailable",
    "RemoteMalformed",
    "StoreError",
    "StoreUnavailable",
    "StoreMismatch",
]

_HOMES: Final = {
    "SessionPool": "pool",
    "Agent": "agent",
    "AgentPolicy": "policy",
    "RequestLimits": "policy",
    "StaticToken": "foundry",
    "ClientCredentials": "foundry",
    "SecretFile": "foundry",
    "Lease": "lease",
    "Conversation": "conversation",
    "Reply": "conversation",
    "PoolStats": "telemetry",
}
"""The room each public name comes from; all others are errors."""


def __getattr__(name: str) -> object:
    if name == "emulator":
        return import_module("session_pool.emulator")
    if name not in __all__:
        raise AttributeError(f"module 'session_pool' has no attribute {name!r}")
    room = import_module(f"session_pool.{_HOMES.get(name, 'errors')}")
    found: object = getattr(room, name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted((*globals(), *__all__))
