"""Live, exclusively leased conversation sessions of Foundry's AIP Agents, for asyncio."""

from importlib import import_module

from session_pool.config import Agent
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


def __getattr__(name: str) -> object:
    # The emulator is for development: it is there when asked for, and costs nothing until then.
    if name == "emulator":
        return import_module("session_pool.emulator")
    raise AttributeError(f"module 'session_pool' has no attribute {name!r}")
