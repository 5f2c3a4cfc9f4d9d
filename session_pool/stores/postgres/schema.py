"""How the tables and functions come into the database, and whether those there are this release's.

The schema is named after the product and holds its version. Who opens a store in a database that
has none yet makes it, if its role may; one of another version is left to `session-pool migrate`.
"""

from __future__ import annotations

import asyncio
from importlib import resources
from typing import Any, Final

import asyncpg

from session_pool.errors import ConfigError, StoreMismatch
from session_pool.stores.base import unbegun
from session_pool.stores.postgres.address import Address, address_of
from session_pool.stores.postgres.troubles import OURS, SchemaGoneError, translated
from session_pool.stores.postgres.wire import Wire

VERSION: Final = 1
"""Of tables and functions together; they are replaced as one."""

SCRIPTS: Final = (
    "schema.sql", "entries.sql", "lines.sql", "asking.sql", "operations.sql", "upkeep.sql",
)  # fmt: skip

LOCK: Final = 0x5E5510
"""Of all advisory locks in a database the one under which the schema is made."""

OLDEST: Final = 140000
"""PostgreSQL 14: assignments to fields within fields, which the functions are full of."""

CONNECT_S: Final = 5.0
"""How long a connection may take to come about."""

SETTINGS: Final = {
    "synchronous_commit": "off",  # a crash that loses the last commits changes the epoch (B27)
    "plan_cache_mode": "force_generic_plan",  # one plan per statement, made once
    "enable_seqscan": "off",  # made while the tables are empty, it must hold when they are full
    "enable_bitmapscan": "off",
    "jit": "off",
    "TimeZone": "UTC",
}

_INTRODUCTION: Final = (
    "SELECT pg_is_in_recovery() AS standby, current_setting('transaction_read_only') AS read_only,"
    " current_setting('server_version_num')::int AS version, "
    + ", ".join(f"set_config('{name}', '{value}', false)" for name, value in SETTINGS.items())
)  # fmt: skip

_STANDING: Final = (
    "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'session_pool') AS schema,"
    " EXISTS (SELECT FROM pg_class WHERE relname = 'release' AND relnamespace ="
    " (SELECT oid FROM pg_namespace WHERE nspname = 'session_pool')) AS release"
)
# Tables are asked, since the functions that look names up may answer from before the lock was had.
_BEGUN: Final = "SELECT EXISTS (SELECT FROM session_pool.spaces WHERE name = $1)"


async def connected(address: Address, name: str) -> Wire:
    """A connection with our settings, to a server that can be used.

    Raises:
        ConfigError: it can never be used like this.
        StoreUnavailable: it cannot be reached.
    """
    connection: Wire | None = None
    try:
        connection = await asyncpg.connect(address.dsn, timeout=CONNECT_S)
        row = await connection.fetchrow(_INTRODUCTION, timeout=CONNECT_S)
        await connection.execute(f"SET application_name = 'session_pool {name}'", timeout=CONNECT_S)
        _check_server(row, address.where)
    except BaseException as error:
        if connection is not None:
            connection.terminate()
        if isinstance(error, OURS):
            raise translated(error, "connecting", address.where) from error
        raise
    return connection


def _check_server(row: Any, where: str) -> None:
    if row["version"] < OLDEST:
        raise ConfigError(
            f"store: {where} is PostgreSQL {row['version'] // 10000}; it must be 14 or later"
        )
    if row["standby"]:
        raise ConfigError(f"store: {where} is a standby, so read-only; name the primary in the URL")
    if row["read_only"] == "on":
        raise ConfigError(
            f"store: {where} is read-only (default_transaction_read_only); use a role that writes"
        )


async def check(connection: Wire, address: Address) -> None:
    """Make the schema where there is none; refuse one of another version.

    Raises:
        ConfigError: there is none, and this role may not make it, or the address says not to.
        StoreMismatch: it is of another version.
    """
    standing = await connection.fetchrow(_STANDING)
    if not standing["schema"]:
        if not address.begin:
            raise unbegun(address.where, "schema session_pool")
        await _make(connection)
    elif not standing["release"]:
        raise SchemaGoneError(
            f"store: the schema session_pool at {address.where} has no tables of ours; "
            "run: session-pool migrate"
        )
    _compare(await _version(connection), address.where)
    if not address.begin and not await connection.fetchval(_BEGUN, address.namespace):
        raise unbegun(address.where, f"namespace {address.namespace}")


async def _version(connection: Wire) -> int | None:
    version: int | None = await connection.fetchval("SELECT max(version) FROM session_pool.release")
    return version


def _compare(version: int | None, where: str) -> None:
    if version == VERSION:
        return
    if version is not None and version > VERSION:
        raise StoreMismatch(
            f"store: the schema session_pool at {where} is of version {version}, of a later "
            f"release; this one has {VERSION}: upgrade session-pool here "
            "(session-pool migrate only goes forward)"
        )
    raise StoreMismatch(
        f"store: the schema session_pool at {where} is of version {version or 0}, and this "
        f"release has {VERSION}; stop the pools that use it and run: session-pool migrate"
    )


async def _make(connection: Wire) -> int | None:
    """Make the schema, or bring it to this version; the version that was there."""
    async with connection.transaction():
        await connection.execute(f"SELECT pg_advisory_xact_lock({LOCK})")
        standing = await connection.fetchrow(_STANDING)
        was = await _version(connection) if standing["release"] else None
        if was is not None and was >= VERSION:  # somebody else has, meanwhile
            return was
        if not standing["schema"]:
            await connection.execute("CREATE SCHEMA session_pool")
        await connection.execute("SET LOCAL search_path = session_pool, pg_temp")
        await connection.execute("SET LOCAL client_min_messages = error")
        folder = resources.files(__package__)
        for script in SCRIPTS:
            await connection.execute(folder.joinpath(script).read_text("utf-8"))
        await connection.execute("DELETE FROM release")
        await connection.execute("INSERT INTO release VALUES ($1)", VERSION)
        return was


def migrate(url: str) -> str:
    """See `stores.open.migrate`; safe to run twice, and from several processes at once."""
    return asyncio.run(_migrate(address_of(url)))


async def _migrate(address: Address) -> str:
    connection = await connected(address, "migrate")
    try:
        was = await _make(connection)
        _compare(await _version(connection), address.where)
    except OURS as error:
        raise translated(error, "migrate", address.where) from error
    finally:
        await connection.close(timeout=CONNECT_S)
    if was is None:
        return f"{address.where}: made the schema session_pool, version {VERSION}"
    if was == VERSION:
        return f"{address.where}: the schema session_pool is of version {VERSION} already"
    return f"{address.where}: brought the schema session_pool from version {was} to {VERSION}"
