"""Opening the PostgreSQL store: who may, what is made, and one clear sentence for each refusal."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator

import pytest

from session_pool.errors import ConfigError, SessionPoolError, StoreMismatch, StoreUnavailable
from session_pool.stores.open import migrate, open_store
from session_pool.stores.postgres import bell, schema
from session_pool.stores.postgres.address import address_of
from session_pool.stores.postgres.schema import VERSION
from session_pool.stores.postgres.store import PostgresStore
from tests.servers.postgres import shared_server


@pytest.fixture(scope="module")
def made_database() -> str:
    """A database of this module's; it goes with the server."""
    shared_server().sql("CREATE DATABASE empty")
    return "empty"


@pytest.fixture
def database(made_database: str) -> str:
    """An empty database."""
    shared_server().wipe(database=made_database)
    return made_database


@pytest.fixture
def plain_role(database: str) -> Iterator[str]:
    """A role without rights."""
    server = shared_server()
    server.sql("CREATE ROLE plain LOGIN PASSWORD 'secret'")
    yield "plain"
    server.sql("DROP OWNED BY plain", database=database)
    server.sql("DROP ROLE plain")


async def opens(url: str) -> None:
    store = open_store(url, clock=lambda: 0.0)
    await store.open()
    await store.aclose()


async def refusal(url: str, kind: type[SessionPoolError] = ConfigError) -> str:
    with pytest.raises(kind) as caught:
        await opens(url)
    assert type(caught.value) is kind or kind is StoreMismatch
    text = str(caught.value)
    assert text.startswith("store: ")
    assert "secret" not in text
    return text


async def test_the_first_to_open_makes_the_schema(database: str) -> None:
    url = shared_server().url(database=database)
    await opens(url)
    await opens(url)
    assert "already" in await asyncio.to_thread(migrate, url)


async def test_migrate_makes_it_once_whoever_else_is_at_it(database: str) -> None:
    url = shared_server().url(database=database)
    said = await asyncio.gather(*(asyncio.to_thread(migrate, url) for _ in range(4)))
    assert sorted("made" in line for line in said) == [False, False, False, True]
    assert sum("already" in line for line in said) == 3
    await asyncio.gather(*(opens(url) for _ in range(4)))


async def test_several_may_open_an_empty_database_at_once(database: str) -> None:
    url = shared_server().url(database=database)
    await asyncio.gather(*(opens(url) for _ in range(5)))


async def test_a_role_that_may_not_make_the_schema_is_told_what_to_do(
    database: str, plain_role: str
) -> None:
    url = shared_server().url(user=plain_role, database=database)
    assert "session-pool migrate" in await refusal(url)
    with pytest.raises(ConfigError, match="CREATE on the database"):
        await asyncio.to_thread(migrate, url)


async def test_a_role_needs_no_more_than_the_rights_that_are_named(
    database: str, plain_role: str
) -> None:
    server = shared_server()
    await asyncio.to_thread(migrate, server.url(database=database))
    url = server.url(user=plain_role, database=database)
    assert "GRANT" in (await refusal(url)).upper()
    server.sql(
        f"GRANT USAGE ON SCHEMA session_pool TO {plain_role}; GRANT SELECT, INSERT, UPDATE, DELETE "
        f"ON ALL TABLES IN SCHEMA session_pool TO {plain_role}",
        database=database,
    )
    await opens(url)


@pytest.mark.parametrize(("version", "cure"), [(VERSION + 1, "upgrade"), (0, "migrate")])
async def test_another_version_of_the_schema_is_refused(
    database: str, version: int, cure: str
) -> None:
    url = shared_server().url(database=database)
    await opens(url)
    shared_server().sql(f"UPDATE session_pool.release SET version = {version}", database=database)
    text = await refusal(url, StoreMismatch)
    assert cure in text
    assert "session-pool migrate" in text


async def test_migrate_goes_forward_and_never_back(database: str) -> None:
    url = shared_server().url(database=database)
    await opens(url)
    shared_server().sql("UPDATE session_pool.release SET version = 0", database=database)
    assert f"from version 0 to {VERSION}" in await asyncio.to_thread(migrate, url)
    await opens(url)
    shared_server().sql("UPDATE session_pool.release SET version = 99", database=database)
    with pytest.raises(StoreMismatch, match="later release"):
        await asyncio.to_thread(migrate, url)


async def test_a_schema_of_that_name_without_our_tables_is_refused(database: str) -> None:
    shared_server().sql("CREATE SCHEMA session_pool", database=database)
    url = shared_server().url(database=database)
    assert "session-pool migrate" in await refusal(url, StoreMismatch)
    assert "made" in await asyncio.to_thread(migrate, url)
    await opens(url)


async def test_a_wrong_password_is_named_and_not_shown(plain_role: str, database: str) -> None:
    server = shared_server()
    rules = server.folder / "data" / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text("host all plain 127.0.0.1/32 scram-sha-256\n" + before)
    server.sql("SELECT pg_reload_conf()")
    try:
        text = await refusal(f"postgresql://plain:notsecret@127.0.0.1:{server.port}/{database}")
        assert "password" in text
    finally:
        rules.write_text(before)
        server.sql("SELECT pg_reload_conf()")


async def test_no_such_database_is_named() -> None:
    assert "there is no database" in await refusal(shared_server().url(database="nowhere"))


async def test_no_server_is_unavailable_and_not_misconfigured() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        text = await refusal(f"postgresql://u:secret@127.0.0.1:{port}/db", StoreUnavailable)
    assert f"127.0.0.1:{port}/db" in text


async def test_a_role_that_only_reads_is_refused(plain_role: str, database: str) -> None:
    shared_server().sql("ALTER ROLE plain SET default_transaction_read_only = on")
    text = await refusal(shared_server().url(user=plain_role, database=database))
    assert "read-only" in text


async def test_what_keeps_rings_away_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bell, "HELLO_S", 0.05)
    monkeypatch.setattr(bell.Bell, "_on_notice", lambda *_: None)
    assert "PgBouncer" in await refusal(shared_server().url())


@pytest.mark.parametrize(
    ("url", "names"),
    [
        ("postgresql://u:secret@host", "database"),
        ("postgresql://u:secret@host/a/b", "database"),
        ("postgresql://u:secret@host/db?namespace=a/b", "namespace"),
        ("postgresql://u:secret@host/db?namespace=", "namespace"),
        ("postgresql://u:secret@host/db?pool_size=5", "pool_size"),
        ("postgresql://u:secret@host/db?password=secret", "password"),
        ("postgresql://u:secret@host/db?namespace=a&namespace=b", "twice"),
        ("postgresql://u:secret@host/db?namespace", "cannot be read"),
        ("postgresql://u:secret@[host/db", "cannot be read"),
        ("postgresql://u:se#cret@host/db", "#"),
        ("postgresql://u:12?secret=b@host/db", "'?'"),
        ("postgresql://u:secret@host:port/db", "port"),
    ],
)
def test_a_url_that_cannot_be_meant_is_refused(url: str, names: str) -> None:
    with pytest.raises(ConfigError) as caught:
        address_of(url)
    assert str(caught.value).startswith("store: ")
    assert names in str(caught.value)
    assert "cret" not in str(caught.value)


def test_no_repr_shows_the_password() -> None:
    address = address_of("postgresql://u:secret@host:5/db?namespace=mine&sslmode=require")
    assert repr(address) == "Address(host:5/db, namespace=mine)"
    assert "secret" not in repr(PostgresStore(address))
    assert address.dsn == "postgresql://u:secret@host:5/db?sslmode=require"


async def test_namespaces_share_a_database_and_nothing_else() -> None:
    url = shared_server().url()
    one = open_store(f"{url}&namespace=one", clock=lambda: 0.0)
    two = open_store(f"{url}&namespace=two", clock=lambda: 0.0)
    await one.open()
    await two.open()
    assert await one.identify("p", "a") == "a"
    assert await one.identify("p", "b") == "a"
    assert await two.identify("p", "b") == "b"
    assert one.epoch != two.epoch
    await one.aclose()
    await two.aclose()


async def test_a_standby_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = schema._INTRODUCTION.replace("pg_is_in_recovery()", "true")
    monkeypatch.setattr(schema, "_INTRODUCTION", shown)
    assert "standby" in await refusal(shared_server().url())


async def test_a_server_of_an_older_release_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "OLDEST", 990000)
    assert "must be 14 or later" in await refusal(shared_server().url())


async def test_closing_twice_is_harmless() -> None:
    before = threading.active_count()
    store = open_store(shared_server().url(), clock=lambda: 0.0)
    await store.aclose()
    await store.open()
    await store.aclose()
    await store.aclose()
    assert threading.active_count() == before
