"""Live, exclusively leased conversation sessions of Foundry's AIP Agents, for asyncio."""

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
