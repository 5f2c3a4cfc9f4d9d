"""Bad input: each a clear message that names the field, and nothing is lost by it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from session_pool import (
    AcquireTimeout,
    Agent,
    AgentPolicy,
    AgentUnavailable,
    AuthError,
    ClientCredentials,
    ConfigError,
    RequestLimits,
    SecretFile,
    SessionPool,
    SessionPoolError,
    StaticToken,
)
from session_pool.emulator import AGENT_RID, AgentSetup, Emulator
from tests.pool.house import COLD, conserve, house
from tests.pool.refusing import nothing_lost, refused

SESSION_RID = AGENT_RID.replace(".agent.", ".session.")


URL = "https://stack.example.com"


# ------------------------------------------------------------------------------ agents


@pytest.mark.parametrize(
    "rid",
    [
        "",
        "orders",
        SESSION_RID,
        "ri.foundry.main.dataset.732cd5b4-7ca7-4219-aabb-6e976faf63b1",
        "ri.aip-agents.agent.732cd5b4-7ca7-4219-aabb-6e976faf63b1",
        f" {AGENT_RID}",
        "732cd5b4-7ca7-4219-aabb-6e976faf63b1",
    ],
)
def test_a_rid_that_is_no_agents(rid: str) -> None:
    word = "ri.aip-agents..agent." if rid == rid.strip() else "white space"
    refused(lambda: Agent(rid), "agent", word)


@pytest.mark.looptime
@pytest.mark.parametrize("agent", ["", "ordres", SESSION_RID, "ri.x", "ri.foundry.main.dataset.1"])
async def test_an_agent_that_is_not_one_at_the_acquire(agent: str) -> None:
    async with house() as home:
        for use in (
            lambda: home.pool.acquire(agent),
            lambda: home.pool.conversation(agent, "a"),
            lambda: home.pool.stats(agent),
        ):
            refused(use, "agent")
        nothing_lost(home)


def test_agents_must_be_agents() -> None:
    given: Any = {"orders": AGENT_RID}
    refused(lambda: SessionPool(url=URL, token="t", agents=given), "agents.orders", "Agent(rid")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"url": None}, ("url: must be a text", "not None")),
        ({"token": 5}, ("token: must be a text or a SecretFile", "not an int")),
        ({"token": None, "auth": "t0ken"}, ("auth: must be", "ClientCredentials", "not a str")),
        ({"token": None, "auth": StaticToken}, ("auth: must be", "not the class StaticToken")),
        ({"store": None}, ("store: must be a URL such as memory://", "not None")),
        ({"store": Path("pool.db")}, ("store: must be a URL", "not a PosixPath")),
        ({"policy": {"min_idle": 2}}, ("policy: must be an AgentPolicy(…)", "not a dict")),
        ({"policy": AgentPolicy}, ("policy: must be", "not the class AgentPolicy")),
        ({"agents": [AGENT_RID]}, ("agents: must be a mapping of names to Agent(…)", "not a list")),
        ({"limits": {"concurrent_requests": 3}}, ("limits: must be a RequestLimits(…)", "a dict")),
        ({"sole_owner": "no"}, ("sole_owner: must be True or False", "not a str")),
        ({"allow_http": 1}, ("allow_http: must be True or False", "not an int")),
    ],
    ids=lambda it: next(iter(it)) if isinstance(it, dict) else "",
)
def test_arguments_of_another_type(given: dict[str, Any], words: tuple[str, ...]) -> None:
    refused(lambda: SessionPool(**{"url": URL, "token": "t", **given}), *words)


def test_one_agent_has_one_policy() -> None:
    agents = {"a": Agent(AGENT_RID), "b": Agent(AGENT_RID, AgentPolicy(min_idle=3))}
    refused(lambda: SessionPool(url=URL, token="t", agents=agents), "agents.b", "same agent")


# ------------------------------------------------------------------------------ policy


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"min_idel": 2}, ("AgentPolicy.min_idel", "no such field", "min_idle")),
        ({"min_idle": -1}, ("AgentPolicy.min_idle",)),
        ({"min_idle": "two"}, ("AgentPolicy.min_idle",)),
        ({"min_idle": 2.5}, ("AgentPolicy.min_idle",)),
        ({"min_idle": 5, "max_idle": 2}, ("min_idle (5)", "max_idle (2)")),
        ({"max_leased": 0}, ("AgentPolicy.max_leased",)),
        ({"max_creating": 0}, ("AgentPolicy.max_creating",)),
        ({"max_waiting": -1}, ("AgentPolicy.max_waiting",)),
        ({"doubt_s": 300.0}, ("doubt_s (300)", "min_remaining_s (300)")),
        ({"min_remaining_s": 900.0}, ("min_remaining_s (900)", "refresh_ahead_s (900)")),
        ({"refresh_ahead_s": 10.0}, ("min_remaining_s (300)", "refresh_ahead_s (10)")),
        ({"acquire_timeout_s": -1.0}, ("AgentPolicy.acquire_timeout_s",)),
        ({"create_timeout_s": 0.0}, ("AgentPolicy.create_timeout_s",)),
        ({"settle_s": float("nan")}, ("AgentPolicy.settle_s",)),
        ({"remember_s": float("inf")}, ("AgentPolicy.remember_s",)),
        ({"reuse": "everyone"}, ("AgentPolicy.reuse", "anyone")),
        ({"context_lost": "ignore"}, ("AgentPolicy.context_lost",)),
        ({"delete_retired": True}, ("AgentPolicy.delete_retired",)),
        ({"agent_version": "latest"}, ("AgentPolicy.agent_version",)),
        ({"history": "rescue"}, ("AgentPolicy.history", "no such field")),
        ({"min_idle": "auto"}, ("AgentPolicy.min_idle",)),
    ],
)
def test_a_policy_that_cannot_be_meant(fields: dict[str, Any], words: tuple[str, ...]) -> None:
    refused(lambda: AgentPolicy(**fields), *words)


def test_a_policy_does_not_change() -> None:
    policy = AgentPolicy()
    with pytest.raises(Exception, match="frozen"):
        setattr(policy, "min_idle", 2)  # noqa: B010  # mypy refuses the plain way, as it should


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"requests_per_minute": 0}, "requests_per_minute"),
        ({"concurrent_requests": -1}, "concurrent_requests"),
        ({"upkeep_share": 1.5}, "upkeep_share"),
        ({"rate": 5}, "rate"),
    ],
)
def test_limits_that_cannot_be_meant(fields: dict[str, Any], word: str) -> None:
    refused(lambda: RequestLimits(**fields), f"RequestLimits.{word}")


# ------------------------------------------------------------------------------ where and who


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("stack.example.com", ("url", "https://stack.example.com")),
        ("", ("url", "https")),
        ("ftp://stack.example.com", ("url", "https")),
        ("https://stack.example.com/api", ("url", "give https://stack.example.com alone")),
        ("https://stack.example.com/?a=b", ("url", "alone")),
        ("https://me:pass@stack.example.com", ("url", "user info")),
        ("http://stack.example.com", ("url", "allow_http")),
        ("https://stack.example.com:port", ("url",)),
    ],
)
def test_a_url_that_is_not_the_stacks_address(url: str, words: tuple[str, ...]) -> None:
    refused(lambda: SessionPool(url=url, token="t"), *words)


def test_a_password_in_the_url_is_not_repeated() -> None:
    with pytest.raises(ConfigError) as caught:
        SessionPool(url="https://me:swordfish@stack.example.com", token="t")
    assert "swordfish" not in str(caught.value)


def test_credentials_that_are_missing_or_double() -> None:
    refused(lambda: SessionPool(url=URL), "token", "FOUNDRY_TOKEN")
    auth = StaticToken("t")
    refused(lambda: SessionPool(url=URL, token="t", auth=auth), "token", "auth", "not both")


@pytest.mark.parametrize(
    ("token", "word"), [("", "empty"), ("Bearer abc", "bare token"), ("a b", "white space")]
)
def test_a_token_that_cannot_be_one(token: str, word: str) -> None:
    refused(lambda: SessionPool(url=URL, token=token), "token", word)


def test_client_credentials_that_are_empty() -> None:
    refused(lambda: ClientCredentials("", "secret"), "client_id")
    refused(lambda: ClientCredentials("id", " "), "client_secret")


@pytest.mark.looptime
@pytest.mark.parametrize(("content", "word"), [(None, "cannot be read"), ("", "empty")])
async def test_a_token_file_that_is_not_there_or_is_empty(
    content: str | None, word: str, tmp_path: Path
) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_text(content)
    async with house(pool={"token": SecretFile(path)}) as home:
        with pytest.raises(SessionPoolError) as caught:
            await home.lease(timeout=30)
        assert isinstance(caught.value, AuthError | ConfigError)
        assert word in str(caught.value)
        assert str(path) in str(caught.value)
        nothing_lost(home)
        path.write_text(home.emu.token)  # and once it is there, it works
        await asyncio.sleep(31)
        await (await home.lease(timeout=30)).release()


@pytest.mark.looptime
async def test_a_store_that_is_none() -> None:
    for store, word in (
        ("mongodb://localhost", "memory://"),
        ("memory", "memory://"),
        ("memory://host/path", "memory://"),
        ("memory://?size=3", "memory://"),
    ):
        pool = SessionPool(url=URL, token="t", store=store)
        with pytest.raises(ConfigError, match="store") as caught:
            await pool.open()
        assert word in str(caught.value)
        await pool.aclose()


# ------------------------------------------------------------------------------ the other side


@pytest.mark.looptime
async def test_a_host_that_cannot_be_reached() -> None:
    async with Emulator() as emu:
        url = emu.url
    async with SessionPool(url=url, token="t", policy=COLD) as pool:
        with pytest.raises(AcquireTimeout, match="cannot be reached") as caught:
            await pool.acquire(AGENT_RID, timeout=5)
        assert "check url" in str(caught.value.__cause__)
        conserve(pool.stats())
        assert pool.stats().unsettled == 0


async def test_a_server_that_does_not_speak_tls() -> None:
    """In real time: a handshake is not to be hurried."""
    async with Emulator() as emu:
        url = emu.url.replace("http://", "https://")
        async with SessionPool(url=url, token="t", policy=COLD) as pool:
            with pytest.raises(AcquireTimeout, match="TLS"):
                await pool.acquire(AGENT_RID, timeout=0.3)
            conserve(pool.stats())
            assert pool.stats().unsettled == 0


@pytest.mark.looptime
async def test_the_wrong_preview_is_told_and_permanent() -> None:
    async with house(faults=["create:*:ApiFeaturePreviewUsageOnly"]) as home:
        with pytest.raises(AgentUnavailable, match="preview") as caught:
            await home.lease()
        assert caught.value.error_name == "ApiFeaturePreviewUsageOnly"
        nothing_lost(home)


@pytest.mark.looptime
async def test_an_agent_without_a_published_version() -> None:
    async with house(agents={"orders": Agent(AGENT_RID)}) as home:
        home.emu.unpublish(AGENT_RID)
        with pytest.raises(AgentUnavailable, match=r"NoPublishedAgentVersion.*publish"):
            await home.lease()
        nothing_lost(home)


@pytest.mark.looptime
async def test_an_agent_that_is_not_there_says_where_to_look() -> None:
    async with house() as home:
        home.emu.forget_agent(AGENT_RID)
        with pytest.raises(
            AgentUnavailable, match="application's resources in Developer Console"
        ) as caught:
            await home.lease()
        assert caught.value.error_name == "AgentNotFound"


@pytest.mark.looptime
async def test_a_version_that_is_none_or_not_there() -> None:
    setup = {AGENT_RID: AgentSetup(versions=("1.0", "1.1"), published=("1.0",))}
    async with house(agents={"orders": Agent(AGENT_RID)}, emulated=setup) as home:
        refused(lambda: home.pool.acquire(AGENT_RID, agent_version="v2"), "agent_version")
        with pytest.raises(AgentUnavailable, match="AgentVersionNotFound"):
            await home.pool.acquire(AGENT_RID, agent_version="9.9")
        nothing_lost(home)
