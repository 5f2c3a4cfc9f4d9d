"""The one place where the driver's exceptions become ours.

What the server says is not repeated: it may quote a conversation's name. Its code is.
"""

from __future__ import annotations

import ssl
from typing import Final

import asyncpg
from asyncpg import exceptions as driver

from session_pool.errors import (
    ConfigError,
    SessionPoolError,
    StoreError,
    StoreMismatch,
    StoreUnavailable,
)

ANOTHER_EPOCH: Final = "SPE01"
"""What the store's functions raise when the epoch is another than the caller's."""

NO_SCHEMA: Final = frozenset(("3F000", "42P01", "42883", "42704", "42703", "42804", "42846"))
"""Schema, table, function, type or column that is not there, or not of the type it should be."""

OUTDATED: Final = "cache lookup failed"
"""What a connection says of functions and types that were dropped, and perhaps made anew."""


class AnotherEpochError(StoreError):
    """The state is another than the one this instance knew; never leaves the store."""


class SchemaGoneError(StoreMismatch):
    """The tables or functions are not there, or not ours."""


OURS: Final[tuple[type[BaseException], ...]] = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    EOFError,
    TimeoutError,
    ValueError,
    TypeError,
)
"""Whatever the driver raises, and what the network below it does."""

ANY: Final[tuple[type[BaseException], ...]] = (*OURS, SessionPoolError)
"""The same, translated already or not."""


def translated(error: BaseException, doing: str, where: str) -> SessionPoolError:
    """What an exception of the driver means to whoever uses the store.

    Args:
        error: as it was raised.
        doing: what was being done, as a noun: "take", "connecting".
        where: host and database.
    """
    if isinstance(error, SessionPoolError):
        return error
    if isinstance(error, asyncpg.PostgresError):
        return _of_server(error, doing, where)
    if isinstance(error, driver.ClientConfigurationError):
        return ConfigError(
            f"store: the URL for {where} cannot be used: {type(error).__name__}; check the host, "
            "the port and the ssl options"
        )
    if isinstance(error, driver.DataError | UnicodeError):
        return ConfigError(f"store: {doing}: a text that PostgreSQL cannot keep; it must be UTF-8")
    if isinstance(error, TimeoutError | driver.QueryCanceledError):
        return StoreUnavailable(f"store: {doing}: no answer from {where} in time")
    if isinstance(error, ssl.SSLError):
        return StoreUnavailable(f"store: {doing}: no TLS with {where}: {error.reason or 'refused'}")
    if isinstance(error, OSError):
        said = error.strerror or type(error).__name__
        return StoreUnavailable(f"store: {doing}: {where} cannot be reached: {said}")
    return StoreUnavailable(
        f"store: {doing}: the connection to {where} was lost ({type(error).__name__})"
    )


def _of_server(error: asyncpg.PostgresError, doing: str, where: str) -> SessionPoolError:
    code = str(error.sqlstate or "")
    if code == ANOTHER_EPOCH:
        return AnotherEpochError("the state is another by now")
    if code.startswith("28"):
        return ConfigError(
            f"store: {where} refuses the user or the password; correct them in the URL"
        )
    if code == "3D000":
        return ConfigError(
            f"store: there is no database at {where}; create it, or correct the name in the URL"
        )
    if code == "42501":
        return ConfigError(
            f"store: {doing}: the role in the URL has not the rights it needs at {where}: either "
            "CREATE on the database, or let its owner run `session-pool migrate` and grant it "
            "USAGE on the schema session_pool and SELECT, INSERT, UPDATE, DELETE on its tables"
        )
    if code == "25006":
        return StoreUnavailable(f"store: {doing}: {where} is read-only; is it a standby?")
    if code == "53300":
        return StoreUnavailable(f"store: {doing}: {where} has no connection left to give")
    if code in NO_SCHEMA or OUTDATED in str(error):
        return SchemaGoneError(
            f"store: the schema session_pool at {where} is not this release's; "
            "run: session-pool migrate"
        )
    return StoreUnavailable(
        f"store: {doing}: {where} answers {type(error).__name__} ({code or 'no code'})"
    )
