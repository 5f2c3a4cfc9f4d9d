"""What cannot work is refused at the start, each in one sentence that says what to change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from struct import pack

import pytest

from session_pool.errors import ConfigError, StoreMismatch, StoreUnavailable
from session_pool.stores.open import migrate, open_store
from session_pool.stores.redis import RedisStore, link
from session_pool.stores.redis.address import address_of
from session_pool.stores.redis.asking import SCHEMA
from tests.servers.valkey import Server, free_port, shared
from tests.stores.redis_scene import namespace, process
from tests.stores.scene import KEY


async def opened(url: str) -> None:
    """Open a store, and close it."""
    store = open_store(url, clock=lambda: 0.0)
    try:
        await store.open()
    finally:
        await store.aclose()


@pytest.fixture(scope="module")
def guarded() -> Iterator[Server]:
    """A server with a password."""
    with Server("--requirepass", "hunter2") as server:
        yield server


# ---------------------------------------------------------------------------- the URL


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("redis://host:port", "host or port"),
        ("redis://host:99999", "host or port"),
        ("redis://host/one", "number of a database"),
        ("redis://host?namespase=x", "unknown option 'namespase'"),
        ("redis://host?namespace=a&namespace=b", "namespace="),
        ("redis://host?namespace=", "namespace="),
        ("redis://host?namespace=a%20b", "namespace="),
        ("redis://host?cluster=perhaps", "cluster="),
        ("redis://host/3?cluster=true", "database"),
        ("redis://host?ssl_ca_certs=x", "ssl_ca_certs="),
        ("rediss://host?ssl_ca_certs=/nowhere/ca.pem", "ssl_ca_certs"),
        ("redis://host?unix=/run/redis.sock", "unix="),
        ("redis://:pass#word@host", "'#'"),
        ("redis://:12?word@host", "'?'"),
        ("redis://:12?word=b@host", "'?'"),
        ("redis://:[word@host", "cannot be read"),
        ("redis://:\u2100word@host", "cannot be read"),
    ],
)
def test_a_url_that_cannot_be_meant_is_refused(url: str, named: str) -> None:
    with pytest.raises(ConfigError, match=r"^store: ") as refused:
        open_store(url, clock=lambda: 0.0)
    assert named in str(refused.value)
    assert "word" not in str(refused.value).replace("password", "")


def test_a_url_says_where_and_how() -> None:
    address = address_of("redis://us%40er:p%2Fw@[::1]:7/3?namespace=a.b-c_1")
    assert (address.host, address.port, address.database) == ("::1", 7, 3)
    assert (address.username, address.password, address.namespace) == ("us@er", "p/w", "a.b-c_1")
    assert address.shown == "redis://[::1]:7"
    assert "p/w" not in repr(address)
    assert address_of("rediss://host").tls is not None
    assert address_of("redis://").shown == "redis://localhost:6379"


# ---------------------------------------------------------------------------- the server


async def test_a_server_that_is_not_there() -> None:
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:\d+ cannot be reached"):
        await opened(f"redis://127.0.0.1:{free_port()}")


@pytest.mark.parametrize("who", ["", ":wrong@", "nobody:wrong@"])
async def test_a_password_that_is_missing_or_wrong(guarded: Server, who: str) -> None:
    with pytest.raises(ConfigError, match="password") as refused:
        await opened(f"redis://{who}127.0.0.1:{guarded.port}")
    assert "wrong@" not in str(refused.value)


async def test_the_right_password_opens(guarded: Server) -> None:
    await opened(f"redis://:hunter2@127.0.0.1:{guarded.port}")
    await opened(f"redis://default:hunter2@127.0.0.1:{guarded.port}/2")


async def test_a_user_that_may_not() -> None:
    with _with_user("weak", "on nopass ~* &* +@connection +info") as server:
        with pytest.raises(ConfigError, match="permit"):
            await opened(f"redis://weak:x@127.0.0.1:{server.port}")
        with pytest.raises(ConfigError, match="permit"):
            await opened(f"redis://weak:x@127.0.0.1:{server.port}/1?namespace=a")


async def test_a_user_with_what_the_message_names_may() -> None:
    rules = "on nopass ~session-pool:* &session-pool:* +@all -@admin"
    with _with_user("strong", rules) as server:
        async with process(f"redis://strong:x@127.0.0.1:{server.port}") as one:
            await one.stock("a")
            await one.granted("talk")


async def test_a_database_that_there_is_not() -> None:
    with pytest.raises(ConfigError, match="no database 99"):
        await opened(f"{shared().url}/99")


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
async def test_a_server_that_may_forget_holders(policy: str) -> None:
    with (
        Server("--maxmemory", "100mb", "--maxmemory-policy", policy) as server,
        pytest.raises(ConfigError, match=f"maxmemory-policy {policy}.*noeviction"),
    ):
        await opened(server.url)


async def test_a_read_only_replica() -> None:
    with Server() as replica:
        replica.replica_of(shared())
        with pytest.raises(
            ConfigError, match=r"read-only replica of 127\.0\.0\.1; name its primary"
        ):
            await opened(replica.url)


async def test_a_server_that_is_no_cluster() -> None:
    with pytest.raises(ConfigError, match="no cluster"):
        await opened(f"{shared().url}?cluster=true")


@pytest.mark.parametrize(
    ("says", "named"),
    [
        (b"-ERR unknown command `HELLO`, with args\r\n", "older than Redis 6"),
        (b"-ERR something else\r\n", "answers"),
        (b"-LOADING Redis is loading the dataset in memory\r\n", "loading"),
    ],
)
async def test_a_server_that_greets_otherwise(says: bytes, named: str) -> None:
    async with _saying(says) as url:
        with pytest.raises((ConfigError, StoreUnavailable, Exception), match=named):
            await opened(url)


async def test_a_server_that_is_too_old() -> None:
    info = b"redis_version:6.0.16\r\nrole:master\r\n"
    async with _saying(b"%0\r\n", b"$%d\r\n%b\r\n" % (len(info), info)) as url:
        with pytest.raises(ConfigError, match=r"is Redis 6\.0\.16; the store needs 6\.2"):
            await opened(url)


async def test_a_server_of_another_kind() -> None:
    async with _saying(b"HTTP/1.1 400 Bad Request\r\n\r\n") as url:
        with pytest.raises(StoreUnavailable, match="not the Redis protocol"):
            await opened(url)


async def test_a_plain_server_behind_a_tls_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "ANSWER_S", 0.2)
    with pytest.raises(StoreUnavailable, match="does not answer in time"):
        await opened(f"rediss://127.0.0.1:{shared().port}")


async def test_a_socket_of_this_machine(tmp_path: Path) -> None:
    await opened(f"redis://?unix={shared().socket}")
    with pytest.raises(StoreUnavailable, match="redis socket"):
        await opened(f"redis://?unix={tmp_path}/none")


async def test_what_another_release_wrote() -> None:
    with Server() as server:
        async with process(server.url) as one:
            await one.stock("a")
        later = pack(">dddd", SCHEMA + 1, 0, 0, 0) + b"epoch\0server\0"
        with server.raw() as way:
            way("SET", "session-pool:{default}:meta", later)
        with pytest.raises(StoreMismatch, match="session-pool migrate"):
            await opened(server.url)
        with pytest.raises(StoreMismatch, match="session-pool migrate"):
            await asyncio.to_thread(migrate, server.url)


async def test_there_is_nothing_to_migrate_yet() -> None:
    said = await asyncio.to_thread(migrate, shared().url + namespace())
    assert said == "redis: version 1 is what this release speaks; nothing to do"


# ---------------------------------------------------------------------------- what is kept


async def test_no_key_expires_and_all_of_a_namespace_are_in_one_slot() -> None:
    with Server() as server:
        async with process(server.url) as one:
            await one.stock("a", "b")
            await one.granted("talk")
            await one.take("talk", "r")
            await one.store.share("p", "me", limit=1, wish=1, for_s=1.0)
            await one.store.identify("p", "x")
            await one.store.withdraw(KEY, "r")
        with server.raw() as way:
            keys = way("KEYS", "*")
            assert len(keys) == 8
            assert all(key.startswith(b"session-pool:{default}:") for key in keys)
            assert {way("TTL", key) for key in keys} == {-1}


async def test_a_text_that_would_end_another_is_refused() -> None:
    async with process(shared().url + namespace()) as one:
        with pytest.raises(ConfigError, match="U\\+0000"):
            await one.take("a\0b")


def test_a_store_says_what_it_is() -> None:
    store = RedisStore(address_of("redis://user:secret@host?namespace=a"))
    assert repr(store) == "<RedisStore redis://host:6379 'a'>"


@contextmanager
def _with_user(name: str, rules: str) -> Iterator[Server]:
    with Server() as server:
        with server.raw() as way:
            way("ACL", "SETUSER", name, *rules.split())
        yield server


@asynccontextmanager
async def _saying(*answers: bytes) -> AsyncIterator[str]:
    """Somebody who says that, one thing for each thing that is said to him."""
    ways: list[asyncio.StreamWriter] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ways.append(writer)
        for answer in answers:
            await reader.read(1 << 16)
            writer.write(answer)

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for way in ways:
            way.close()
        await server.wait_closed()
