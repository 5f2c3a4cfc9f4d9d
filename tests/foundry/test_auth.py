"""Tokens: given, from files, fetched once for all, renewed ahead; in virtual time."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from session_pool.errors import (
    AuthError,
    ConfigError,
    PoolClosed,
    RemoteMalformed,
    RemoteUnavailable,
    SessionPoolError,
)
from session_pool.foundry import ClientCredentials, SecretFile, StaticToken
from session_pool.foundry.auth import NeedsHost

pytestmark = pytest.mark.looptime


class Endpoint:
    """A token endpoint that numbers its tokens, takes a second, and fails when it is told to."""

    def __init__(self, life_s: float | None = 3600.0) -> None:
        self.life_s = life_s
        self.forms: list[Mapping[str, str]] = []
        self.at: list[float] = []
        self.failing: SessionPoolError | None = None
        self.body: bytes | None = None

    async def __call__(self, form: Mapping[str, str], timeout_s: float) -> bytes:
        self.forms.append(form)
        self.at.append(asyncio.get_running_loop().time())
        number = len(self.forms)
        await asyncio.sleep(1)
        if self.failing is not None:
            raise self.failing
        told = {"access_token": f"token-{number}"}
        return self.body or json.dumps(told | {"expires_in": self.life_s}).encode()


@asynccontextmanager
async def bound(endpoint: Endpoint) -> AsyncIterator[ClientCredentials]:
    auth = ClientCredentials("id", "s3cret")
    auth.bind(endpoint)
    try:
        yield auth
    finally:
        await auth.unbind()


# ------------------------------------------------------------------------------ static tokens


async def test_a_static_token_is_given_and_cannot_be_renewed() -> None:
    auth = StaticToken("t0ken")
    assert await auth.token() == "t0ken"
    with pytest.raises(AuthError, match="ClientCredentials") as caught:
        await auth.renew("t0ken")
    assert "t0ken" not in str(caught.value)
    assert repr(auth) == "StaticToken('***')"
    assert not isinstance(auth, NeedsHost)


async def test_a_token_file_is_read_again_for_a_renewal(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("one\n")
    auth = StaticToken(SecretFile(path))
    assert await auth.token() == "one"
    with pytest.raises(AuthError, match="holds no other") as caught:
        await auth.renew("one")
    assert str(path) in str(caught.value)
    path.write_text("another\n")
    assert await auth.renew("one") == "another"
    assert "another" not in repr(auth)


@pytest.mark.parametrize("token", ["", "Bearer abc", "a b", "a\nb", "é"])
async def test_a_token_that_cannot_be_one_is_refused_unshown(token: str) -> None:
    with pytest.raises(ConfigError, match="token") as caught:
        StaticToken(token)
    assert "abc" not in str(caught.value)


async def test_the_subject_is_read_where_it_is_readable() -> None:
    def jwt(claims: object) -> str:
        body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
        return f"e30.{body}.c2ln"

    assert StaticToken(jwt({"sub": "me"})).identity() == "me"
    for other in ("opaque", "a.%%%.c", jwt(["sub"]), jwt({"sub": 7}), jwt({})):
        assert StaticToken(other).identity() is None
    assert ClientCredentials("id", "x").identity() == "id"


# ------------------------------------------------------------------------- client credentials


async def test_credentials_are_sent_as_a_form_and_scopes_only_if_given() -> None:
    endpoint = Endpoint()
    async with bound(endpoint) as auth:
        assert await auth.token() == "token-1"
    assert endpoint.forms == [
        {"grant_type": "client_credentials", "client_id": "id", "client_secret": "s3cret"}
    ]
    scoped = ClientCredentials("id", "s3cret", ["a", "b"])
    scoped.bind(endpoint)
    await scoped.token()
    await scoped.unbind()
    assert endpoint.forms[1]["scope"] == "a b"


async def test_a_secret_file_is_read_for_each_fetch(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("first\n")
    endpoint = Endpoint()
    auth = ClientCredentials("id", SecretFile(path))
    auth.bind(endpoint)
    token = await auth.token()
    path.write_text("second one\n")
    await auth.renew(token)
    await auth.unbind()
    assert [form["client_secret"] for form in endpoint.forms] == ["first", "second one"]


async def test_one_fetch_serves_all_who_wait() -> None:
    endpoint = Endpoint()
    async with bound(endpoint) as auth:
        tokens = await asyncio.gather(*(auth.token() for _ in range(50)))
    assert set(tokens) == {"token-1"}
    assert len(endpoint.forms) == 1


async def test_a_renewal_is_one_for_all_and_late_comers_get_the_newer_token() -> None:
    endpoint = Endpoint()
    async with bound(endpoint) as auth:
        stale = await auth.token()
        tokens = await asyncio.gather(*(auth.renew(stale) for _ in range(50)))
        assert set(tokens) == {"token-2"}
        before = asyncio.get_running_loop().time()
        assert await auth.renew(stale) == "token-2"
        assert asyncio.get_running_loop().time() == before
    assert len(endpoint.forms) == 2


async def test_a_single_flight_is_not_its_first_callers_to_cancel() -> None:
    """Seen on aiobotocore: the first caller is cancelled, and the work is thrown away."""
    endpoint = Endpoint()
    async with bound(endpoint) as auth:
        first = asyncio.create_task(auth.token())
        await asyncio.sleep(0.5)
        second = asyncio.create_task(auth.token())
        await asyncio.sleep(0)
        first.cancel()
        assert await second == "token-1"
        assert first.cancelled()
    assert len(endpoint.forms) == 1


async def test_a_flight_that_all_have_left_still_lands() -> None:
    endpoint = Endpoint()
    async with bound(endpoint) as auth:
        only = asyncio.create_task(auth.token())
        await asyncio.sleep(0.5)
        only.cancel()
        await asyncio.sleep(1)
        before = asyncio.get_running_loop().time()
        assert await auth.token() == "token-1"
        assert asyncio.get_running_loop().time() == before


async def test_a_failure_goes_to_all_who_wait_each_with_an_error_of_its_own() -> None:
    endpoint = Endpoint()
    endpoint.failing = AuthError("refused", status=401)
    async with bound(endpoint) as auth:
        waiting = (auth.token() for _ in range(3))
        errors = await asyncio.gather(*waiting, return_exceptions=True)
        assert [(type(error), str(error)) for error in errors] == [(AuthError, "refused")] * 3
        assert len({id(error) for error in errors}) == 3
        endpoint.failing = None
        assert await auth.token() == "token-2"


async def test_a_failure_that_nobody_waits_for_is_no_warning() -> None:
    endpoint = Endpoint()
    endpoint.failing = RemoteUnavailable("away", sent=False)
    async with bound(endpoint) as auth:
        only = asyncio.create_task(auth.token())
        await asyncio.sleep(0.5)
        only.cancel()
        await asyncio.sleep(1)


async def test_closing_tells_those_who_wait() -> None:
    endpoint = Endpoint()
    async with bound(endpoint) as auth:
        waiting = asyncio.create_task(auth.token())
        await asyncio.sleep(0.5)
    with pytest.raises(PoolClosed):
        await waiting


async def test_unbound_credentials_say_so_and_two_clients_cannot_share_them() -> None:
    auth = ClientCredentials("id", "s3cret")
    with pytest.raises(PoolClosed):
        await auth.token()
    auth.bind(Endpoint())
    with pytest.raises(ConfigError, match="one for each"):
        auth.bind(Endpoint())
    await auth.unbind()
    auth.bind(Endpoint())
    await auth.unbind()


@pytest.mark.parametrize("body", [b"", b"{}", b'{"access_token": "a b"}', b'{"access_token": 1}'])
async def test_an_answer_without_a_token_is_malformed(body: bytes) -> None:
    endpoint = Endpoint()
    endpoint.body = body or b" "
    async with bound(endpoint) as auth:
        with pytest.raises(RemoteMalformed):
            await auth.token()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [(("", "x"), "client_id"), (("id", " "), "client_secret"), (("id", "x", "a b"), "scopes")],
)
async def test_credentials_that_cannot_be_meant_are_refused(
    arguments: tuple[str, ...], word: str
) -> None:
    with pytest.raises(ConfigError, match=word):
        ClientCredentials(*arguments)


async def test_credentials_do_not_show_their_secret() -> None:
    assert repr(ClientCredentials("id", "s3cret")) == "ClientCredentials('id', '***')"


# ------------------------------------------------------------------------------- a token's life


async def test_the_background_renews_at_three_quarters_of_the_life() -> None:
    endpoint = Endpoint(life_s=1000)
    async with bound(endpoint) as auth:
        assert auth.background() == (auth.keep_fresh,)
        task = asyncio.create_task(auth.keep_fresh())
        await asyncio.sleep(2000)
        assert endpoint.at == pytest.approx([0, 750, 1500])
        before = asyncio.get_running_loop().time()
        assert await auth.token() == "token-3"
        assert asyncio.get_running_loop().time() == before
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_renewal_after_401_moves_the_next_one_ahead() -> None:
    endpoint = Endpoint(life_s=1000)
    async with bound(endpoint) as auth:
        task = asyncio.create_task(auth.keep_fresh())
        await asyncio.sleep(500)
        await auth.renew(await auth.token())
        await asyncio.sleep(600)
        assert endpoint.at == pytest.approx([0, 500])
        await asyncio.sleep(200)
        assert endpoint.at == pytest.approx([0, 500, 1250])
        task.cancel()


async def test_failed_renewals_are_retried_with_growing_pauses_and_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    endpoint = Endpoint(life_s=1000)
    async with bound(endpoint) as auth:
        task = asyncio.create_task(auth.keep_fresh())
        await asyncio.sleep(700)
        endpoint.failing = RemoteUnavailable("away", sent=False)
        with caplog.at_level(logging.WARNING, logger="session_pool"):
            await asyncio.sleep(100)
            assert endpoint.at[1:] == pytest.approx([750, 752, 755, 760, 769, 786])
            assert await auth.token() == "token-1"  # which lives on
            endpoint.failing = None
            await asyncio.sleep(100)
        assert (await auth.token()) != "token-1"
        task.cancel()
    assert [record.getMessage() for record in caplog.records] == [
        "the token could not be renewed ahead, retrying: away"
    ]


async def test_a_token_without_an_end_is_kept_until_it_is_refused() -> None:
    endpoint = Endpoint(life_s=None)
    async with bound(endpoint) as auth:
        task = asyncio.create_task(auth.keep_fresh())
        await asyncio.sleep(10**6)
        assert await auth.token() == "token-1"
        assert await auth.renew("token-1") == "token-2"
        task.cancel()


async def test_a_life_of_nothing_does_not_spin() -> None:
    endpoint = Endpoint(life_s=0)
    async with bound(endpoint) as auth:
        task = asyncio.create_task(auth.keep_fresh())
        await asyncio.sleep(100)
        task.cancel()
    assert len(endpoint.at) <= 51


async def test_without_a_background_a_token_near_its_end_is_renewed_before_use() -> None:
    """A frozen process: nothing ran in the background when the token ended."""
    endpoint = Endpoint(life_s=1000)
    async with bound(endpoint) as auth:
        assert await auth.token() == "token-1"
        await asyncio.sleep(960)
        assert await auth.token() == "token-1"
        await asyncio.sleep(10)
        endpoint.failing = RemoteUnavailable("away", sent=False)
        assert await auth.token() == "token-1"  # it lives, and no other is to be had
        await asyncio.sleep(30)
        with pytest.raises(RemoteUnavailable):
            await auth.token()
        endpoint.failing = None
        assert await auth.token() == "token-4"


async def test_a_definite_refusal_near_the_end_is_not_glossed_over() -> None:
    endpoint = Endpoint(life_s=1000)
    async with bound(endpoint) as auth:
        await auth.token()
        await asyncio.sleep(975)
        endpoint.failing = AuthError("refused", status=401)
        with pytest.raises(AuthError):
            await auth.token()
