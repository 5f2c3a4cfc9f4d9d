"""Tokens: who they stand for, what they may do, and when they are refused (contract 8)."""

from __future__ import annotations

import asyncio

import pytest

from tests.emulator.talk import Talk, running

pytestmark = pytest.mark.looptime

READ, WRITE = "api:aip-agents-read", "api:aip-agents-write"


async def test_client_credentials_give_one_service_user_per_client() -> None:
    async with running() as talk:
        talk.emu.add_client("second", "its-secret")
        tokens = [await _grant(talk), await _grant(talk)]
        assert tokens[0] != tokens[1]
        session = await talk.by(tokens[0]).new()
        assert (await talk.by(tokens[1]).get(session)).status == 200
        other = await _grant(talk, client_id="second", client_secret="its-secret")
        assert (await talk.by(other).get(session)).status == 404
        assert talk.emu.sessions[session].owner == "service-user-emulated-client"


async def test_a_grant_has_the_documented_shape() -> None:
    async with running(token_lifetime_s=600, token_latency_s=2) as talk:
        start = asyncio.get_running_loop().time()
        said = await talk.oauth("token", **_credentials(talk))
        assert asyncio.get_running_loop().time() - start >= 2
        assert set(said.body) == {"access_token", "token_type", "expires_in"}
        assert (said.body["token_type"], said.body["expires_in"]) == ("bearer", 600)


async def test_wrong_credentials_and_other_grants_are_refused() -> None:
    async with running() as talk:
        wrong = await talk.oauth("token", **_credentials(talk) | {"client_secret": "guess"})
        assert (wrong.status, wrong.body) == (401, {"error": "invalid_client"})
        other = await talk.oauth("token", **_credentials(talk) | {"grant_type": "password"})
        assert (other.status, other.body) == (400, {"error": "unsupported_grant_type"})
        assert (await talk.oauth("revoke_token", token="x")).status == 401


async def test_a_token_is_refused_after_its_time_and_a_new_one_serves() -> None:
    async with running(token_lifetime_s=100) as talk:
        token = await _grant(talk)
        await asyncio.sleep(99)
        assert (await talk.by(token).create()).status == 200
        await asyncio.sleep(1)
        late = await talk.by(token).create()
        assert (late.status, late.error) == (401, "Default:Unauthorized")
        assert (await talk.by(await _grant(talk)).create()).status == 200


async def test_tokens_may_be_revoked_by_their_client_and_by_the_test() -> None:
    async with running() as talk:
        token, kept = await _grant(talk), await _grant(talk)
        credentials = {k: v for k, v in _credentials(talk).items() if k != "grant_type"}
        assert (await talk.oauth("revoke_token", token=token, **credentials)).status == 200
        assert (await talk.by(token).create()).status == 401
        assert (await talk.by(kept).create()).status == 200
        talk.emu.expire_tokens()
        assert (await talk.by(kept).create()).status == 401
        assert (await talk.create()).status == 200
        talk.emu.revoke_token(talk.token)
        assert (await talk.create()).status == 401


@pytest.mark.parametrize("header", ["", "Bearer ", "Basic abc", "Bearer"])
async def test_what_is_no_bearer_token_is_unauthorized(header: str) -> None:
    async with running() as talk:
        url = f"{talk.emu.url}/api/v2/aipAgents/agents/{talk.agent}?preview=true"
        async with talk.http.get(url, headers={"Authorization": header}) as response:
            assert response.status == 401


async def test_a_token_may_do_what_its_scopes_say() -> None:
    async with running() as talk:
        reader = talk.by(await _grant(talk, scope=f"{READ} offline_access"))
        writer = talk.by(await _grant(talk, scope=WRITE))
        session = await writer.new()
        assert (await reader.get(session)).status == 200
        for refused, scope in ((await reader.create(), WRITE), (await writer.get(session), READ)):
            assert (refused.status, refused.error) == (403, "ApiUsageDenied")
            assert refused.body["parameters"] == {"missingScope": scope}
        assert (await writer.say("GET", "allSessions")).status == 200
        everything = await reader.say("GET", "allSessions")
        assert everything.error == "GetAllSessionsAgentsPermissionDenied"


async def test_the_token_endpoints_may_fail_as_scripted() -> None:
    async with running(faults=["token:1:503", "token:2:malformed"]) as talk:
        assert (await talk.oauth_status("token", **_credentials(talk))) == 503
        assert (await talk.oauth_status("token", **_credentials(talk))) == 200
        assert await _grant(talk)


def _credentials(talk: Talk) -> dict[str, str]:
    return {
        "client_id": talk.emu.client_id,
        "client_secret": talk.emu.client_secret,
        "grant_type": "client_credentials",
    }


async def _grant(talk: Talk, **form: str) -> str:
    said = await talk.oauth("token", **_credentials(talk) | form)
    assert said.status == 200, said
    token: str = said.body["access_token"]
    return token
