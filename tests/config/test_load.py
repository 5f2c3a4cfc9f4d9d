"""`load`: arguments over environment over file, and where each value came from."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from session_pool.agent import Agent
from session_pool.config import Settings, load, load_store
from session_pool.errors import ConfigError
from session_pool.foundry import ClientCredentials, SecretFile, StaticToken
from session_pool.policy import AgentPolicy, RequestLimits

RID = "ri.aip-agents..agent.732cd5b4-7ca7-4219-aabb-6e976faf63b1"
OTHER_RID = "ri.aip-agents..agent.00000000-7ca7-4219-aabb-6e976faf63b1"
URL = "https://stack.example.com"
FOUNDRY = f'[foundry]\nurl = "{URL}"\ntoken = "t0ken"\n'
BASE = {"FOUNDRY_HOSTNAME": "stack.example.com", "FOUNDRY_TOKEN": "t0ken"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "session-pool.toml"


def read(file: Path, text: str, environ: Mapping[str, str] | None = None) -> Settings:
    file.write_text(FOUNDRY + text, encoding="utf-8")
    return load(file, environ or {})


def from_environment(**environ: str) -> Settings:
    return load(None, BASE | environ)


def token_of(settings: Settings) -> str:
    async def ask() -> str:
        assert settings.auth is not None
        return await settings.auth.token()

    return asyncio.run(ask())


# ------------------------------------------------------------------------------------ one source


def test_a_file_alone_is_enough(file: Path) -> None:
    settings = read(file, "")
    assert settings.url == URL
    assert isinstance(settings.auth, StaticToken)
    assert settings.store == "memory://"
    assert settings.policy == AgentPolicy()
    assert settings.limits == RequestLimits()
    assert dict(settings.agents) == {}
    assert settings.allow_http is False
    assert settings.api is None


def test_the_environment_alone_is_enough() -> None:
    settings = load(None, BASE)
    assert settings.url == URL
    assert isinstance(settings.auth, StaticToken)


def test_arguments_alone_are_enough() -> None:
    settings = load(None, {}, url=URL, token="t0ken")
    assert settings.url == URL
    assert settings.origins["foundry.token"] == "argument"


def test_the_arguments_are_those_of_the_pool() -> None:
    names = {"url", "auth", "store", "policy", "agents", "limits", "allow_http", "api"}
    assert load(None, BASE).arguments.keys() == names | {"sole_owner"}
    assert load(None, BASE).arguments["sole_owner"] is False


def test_whose_the_sessions_are_can_be_said_anywhere(file: Path) -> None:
    file.write_text("[pool]\nsole_owner = true\n", encoding="utf-8")
    assert load(file, BASE).arguments["sole_owner"] is True
    assert load(None, BASE | {"SESSION_POOL__POOL__SOLE_OWNER": "true"}).arguments["sole_owner"]
    assert load(file, BASE, sole_owner=False).arguments["sole_owner"] is False


def test_without_an_environ_it_reads_the_process_environment(
    monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    file.write_text("[defaults]\nmin_idle = 7\n", encoding="utf-8")
    for name in list(os.environ):
        if name.startswith(("FOUNDRY_", "SESSION_POOL")):
            monkeypatch.delenv(name)
    for name, value in (BASE | {"SESSION_POOL_CONFIG": str(file)}).items():
        monkeypatch.setenv(name, value)
    assert load().policy.min_idle == 7


def test_the_variable_names_the_file_and_a_path_goes_before_it(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    file.write_text(FOUNDRY + "[defaults]\nmin_idle = 7\n", encoding="utf-8")
    other.write_text(FOUNDRY + "[defaults]\nmin_idle = 8\n", encoding="utf-8")
    environ = {"SESSION_POOL_CONFIG": str(file)}
    assert load(None, environ).policy.min_idle == 7
    assert load(str(other), environ).policy.min_idle == 8


def test_a_byte_order_mark_does_no_harm(file: Path) -> None:
    file.write_text(FOUNDRY, encoding="utf-8-sig")
    assert load(file, {}).url == URL


# ---------------------------------------------------------------------------------- their order


def test_arguments_go_over_environment_over_file(file: Path) -> None:
    text = "[defaults]\nmin_idle = 2\nmax_idle = 20\nmax_leased = 30\n"
    environ = {"SESSION_POOL__DEFAULTS__MIN_IDLE": "3", "FOUNDRY_HOSTNAME": "env.example.com"}
    settings = read(file, text, environ)
    assert settings.url == "https://env.example.com"
    assert (settings.policy.min_idle, settings.policy.max_idle) == (3, 20)
    settings = load(file, environ, url="https://arg.example.com", policy=AgentPolicy(min_idle=4))
    assert settings.url == "https://arg.example.com"
    assert settings.policy == AgentPolicy(min_idle=4)  # an argument is a whole


def test_origins_tell_where_each_value_came_from(file: Path) -> None:
    text = f'[defaults]\nmax_idle = 20\n[agents.orders]\nrid = "{RID}"\nmax_leased = 5\n'
    environ = {
        "SESSION_POOL__DEFAULTS__MIN_IDLE": "3",
        "SESSION_POOL__AGENTS__ORDERS__MAX_WAITING": "9",
    }
    file.write_text(FOUNDRY + text, encoding="utf-8")
    origins = load(file, environ, store="memory://").origins
    assert origins["foundry.url"] == f"file {file}"
    assert origins["foundry.client_id"] == "default"
    assert origins["pool.store"] == "argument"
    assert origins["defaults.min_idle"] == "environment SESSION_POOL__DEFAULTS__MIN_IDLE"
    assert origins["defaults.max_idle"] == f"file {file}"
    assert origins["defaults.doubt_s"] == "default"
    assert origins["limits.upkeep_share"] == "default"
    assert origins["agents.orders.rid"] == f"file {file}"
    assert origins["agents.orders.max_leased"] == f"file {file}"
    assert origins["agents.orders.max_waiting"].endswith("__MAX_WAITING")
    assert origins["agents.orders.min_idle"] == origins["defaults.min_idle"]
    assert origins["agents.orders.doubt_s"] == "default"


def test_values_are_the_effective_ones_and_fit_to_be_shown(file: Path, tmp_path: Path) -> None:
    text = f'[defaults]\nmax_idle = 20\n[agents.orders]\nrid = "{RID}"\nmax_leased = 5\n'
    secret = {"SESSION_POOL__FOUNDRY__TOKEN__FILE": str(tmp_path / "t")}
    settings = read(file, text, {"SESSION_POOL__POOL__STORE": "redis://me:t0ken@h"})
    assert settings.file == str(file)
    assert settings.values.keys() == settings.origins.keys()
    assert settings.values["foundry.token"] == "***"
    assert settings.values["foundry.client_secret"] is None
    assert settings.values["pool.store"] == "redis://me:***@h"
    assert settings.values["agents.orders.max_leased"] == 5
    assert settings.values["agents.orders.max_idle"] == 20
    assert "t0ken" not in repr(settings.values)
    assert read(file, text, secret).values["foundry.token"] == {"file": str(tmp_path / "t")}


def test_where_the_state_is_kept_needs_no_credentials(file: Path) -> None:
    file.write_text('[pool]\nstore = "redis://file"\n', encoding="utf-8")
    environ = {"SESSION_POOL__POOL__STORE": "redis://environment"}
    assert load_store(None, {}) == "memory://"
    assert load_store(file, {}) == "redis://file"
    assert load_store(file, environ) == "redis://environment"
    assert load_store(file, environ, "redis://argument") == "redis://argument"
    with pytest.raises(ConfigError, match=r"^pool\.stor "):
        load_store(None, {"SESSION_POOL__POOL__STOR": "redis://h"})


def test_the_own_variable_goes_before_the_shared_one() -> None:
    settings = from_environment(SESSION_POOL__FOUNDRY__URL="https://own.example.com")
    assert settings.url == "https://own.example.com"
    assert settings.origins["foundry.url"] == "environment SESSION_POOL__FOUNDRY__URL"


def test_an_argument_that_is_none_is_not_given() -> None:
    settings = load(None, BASE, token=None, auth=None, url=None, store=None, limits=None)
    assert settings.url == URL
    assert settings.origins["pool.store"] == "default"


# ---------------------------------------------------------------------------------- environment


@pytest.mark.parametrize(
    "host", ["stack.example.com", "https://stack.example.com", "https://stack.example.com/"]
)
def test_the_hostname_may_be_a_bare_host_or_a_url(host: str) -> None:
    assert from_environment(FOUNDRY_HOSTNAME=host).url == URL


def test_variables_nest_in_any_case() -> None:
    settings = load(None, BASE | {"session_pool__Defaults__MIN_idle": "4"})
    assert settings.policy.min_idle == 4


def test_values_of_variables_are_toml_or_text() -> None:
    settings = from_environment(
        SESSION_POOL__DEFAULTS__DOUBT_S="12.5",
        SESSION_POOL__DEFAULTS__REUSE="anyone",
        SESSION_POOL__DEFAULTS__CONTEXT_LOST='"raise"',
        SESSION_POOL__DEFAULTS__MAX_PARKED=" 2_000 ",
        SESSION_POOL__FOUNDRY__ALLOW_HTTP="true",
    )
    policy = settings.policy
    assert (policy.doubt_s, policy.reuse, policy.context_lost) == (12.5, "anyone", "raise")
    assert policy.max_parked == 2000
    assert settings.allow_http is True


def test_a_text_stays_a_text_although_it_reads_as_a_number() -> None:
    assert from_environment(SESSION_POOL__DEFAULTS__AGENT_VERSION="1.10").policy.agent_version == (
        "1.10"
    )
    auth = load(None, {"FOUNDRY_HOSTNAME": "h.example.com", "FOUNDRY_TOKEN": "0123456789"}).auth
    assert isinstance(auth, StaticToken)


def test_a_value_cannot_smuggle_in_a_second_one() -> None:
    with pytest.raises(ConfigError, match=r"defaults\.min_idle"):
        from_environment(SESSION_POOL__DEFAULTS__MIN_IDLE="4\nmax_idle = 9")


def test_an_empty_variable_is_not_set() -> None:
    settings = from_environment(
        FOUNDRY_CLIENT_ID="",
        FOUNDRY_CLIENT_SECRET=" ",
        SESSION_POOL__DEFAULTS__MIN_IDLE="",
        SESSION_POOL_CONFIG="",
    )
    assert isinstance(settings.auth, StaticToken)
    assert settings.policy == AgentPolicy()


def test_an_agent_can_come_from_the_environment_alone() -> None:
    settings = from_environment(
        SESSION_POOL__AGENTS__ORDERS__RID=RID, SESSION_POOL__AGENTS__ORDERS__MIN_IDLE="4"
    )
    assert dict(settings.agents) == {"orders": Agent(RID, AgentPolicy(min_idle=4))}


@pytest.mark.parametrize("name", ["Orders", "my-orders", '"shop.orders"'])
def test_a_variable_finds_the_agent_of_the_file_whatever_its_name_is(file: Path, name: str) -> None:
    bare = name.strip('"')
    variable = bare.upper().replace("-", "_").replace(".", "_")
    text = f'[agents.{name}]\nrid = "{RID}"\n'
    settings = read(file, text, {f"SESSION_POOL__AGENTS__{variable}__MIN_IDLE": "4"})
    assert dict(settings.agents) == {bare: Agent(RID, AgentPolicy(min_idle=4))}


def test_an_exact_name_goes_before_one_that_only_reads_alike(file: Path) -> None:
    text = f'[agents.a_b]\nrid = "{RID}"\n[agents.a-b]\nrid = "{OTHER_RID}"\n'
    settings = read(file, text, {"SESSION_POOL__AGENTS__A_B__MIN_IDLE": "4"})
    assert settings.agents["a_b"].policy == AgentPolicy(min_idle=4)
    assert settings.agents["a-b"].policy is None


# ---------------------------------------------------------------------------------- credentials


def test_client_credentials_may_come_from_two_places(file: Path) -> None:
    file.write_text(
        f'[foundry]\nurl = "{URL}"\nclient_id = "app"\nscopes = ["api:aip-agents-read"]\n',
        encoding="utf-8",
    )
    auth = load(file, {"FOUNDRY_CLIENT_SECRET": "s3cret"}).auth
    assert isinstance(auth, ClientCredentials)
    assert auth.identity() == "app"


@pytest.mark.parametrize("source", ["file", "table variable", "nested variable"])
def test_a_secret_may_lie_in_a_file_that_is_read_when_needed(
    file: Path, tmp_path: Path, source: str
) -> None:
    secret = tmp_path / "token"
    environ = {"FOUNDRY_HOSTNAME": "stack.example.com"}
    text = ""
    if source == "file":
        text = f"[foundry]\ntoken = {{ file = '{secret}' }}\n"
    elif source == "table variable":
        environ["FOUNDRY_TOKEN"] = f"{{ file = '{secret}' }}"
    else:
        environ["SESSION_POOL__FOUNDRY__TOKEN__FILE"] = str(secret)
    file.write_text(text, encoding="utf-8")
    settings = load(file, environ)  # the secret may be mounted later
    secret.write_text("from-a-file\n", encoding="utf-8")
    assert token_of(settings) == "from-a-file"


def test_a_token_given_as_an_argument_replaces_all_credentials() -> None:
    environ = {
        "FOUNDRY_HOSTNAME": "stack.example.com",
        "FOUNDRY_CLIENT_ID": "app",
        "FOUNDRY_CLIENT_SECRET": "s3cret",
    }
    assert token_of(load(None, environ, token="argument")) == "argument"
    own = StaticToken("own")
    assert load(None, environ, auth=own).auth is own


def test_a_secret_file_is_an_argument_too(tmp_path: Path) -> None:
    assert isinstance(load(None, {}, url=URL, token=SecretFile(tmp_path / "t")).auth, StaticToken)


def test_none_in_a_variable_unsets_what_the_file_sets(file: Path) -> None:
    environ = {
        "SESSION_POOL__FOUNDRY__TOKEN": "none",
        "FOUNDRY_CLIENT_ID": "app",
        "FOUNDRY_CLIENT_SECRET": "s3cret",
    }
    assert isinstance(read(file, "", environ).auth, ClientCredentials)


# --------------------------------------------------------------------------------------- agents


def test_an_agents_policy_goes_over_the_defaults_field_by_field(file: Path) -> None:
    text = f"""
        [defaults]
        min_idle = 2
        max_leased = 30
        [agents.orders]
        rid = "{RID}"
        min_idle = 4
        [agents.plain]
        rid = "{OTHER_RID}"
    """
    settings = read(file, text)
    assert settings.agents["orders"].policy == AgentPolicy(min_idle=4, max_leased=30)
    assert settings.agents["plain"] == Agent(OTHER_RID)  # None: the pool's policy


def test_none_is_spelt_out_where_none_may_stand(file: Path) -> None:
    text = f"""
        [defaults]
        acquire_timeout_s = "none"
        park_timeout_s = 60
        delete_retired = "none"
        [agents.orders]
        rid = "{RID}"
        park_timeout_s = "none"
    """
    settings = read(file, text)
    policy = settings.agents["orders"].policy
    assert settings.policy.acquire_timeout_s is None
    assert settings.policy.park_timeout_s == 60
    assert settings.policy.delete_retired == "none"  # a word of its own there
    assert policy is not None
    assert policy.park_timeout_s is None


def test_agents_of_an_argument_replace_those_of_their_names(file: Path) -> None:
    text = f'[agents.orders]\nrid = "{RID}"\nmin_idle = 4\n[agents.plain]\nrid = "{RID}"\n'
    read(file, text)
    agents = {"orders": Agent(OTHER_RID), "new": Agent(RID, AgentPolicy(min_idle=9))}
    settings = load(file, {}, agents=agents, limits=RequestLimits(requests_per_minute=10))
    assert dict(settings.agents) == agents | {"plain": Agent(RID)}
    assert settings.limits.requests_per_minute == 10


def test_limits_come_from_any_source(file: Path) -> None:
    settings = read(
        file,
        "[limits]\nrequests_per_minute = 100\nupkeep_share = 0.1\n",
        {"SESSION_POOL__LIMITS__CONCURRENT_REQUESTS": "8"},
    )
    assert settings.limits == RequestLimits(
        requests_per_minute=100, concurrent_requests=8, upkeep_share=0.1
    )


# ------------------------------------------------------------------------------------ the values


def test_settings_and_agents_are_frozen() -> None:
    settings = load(None, BASE, agents={"orders": Agent(RID)})
    with pytest.raises(FrozenInstanceError):
        settings.url = "x"  # type: ignore[misc]  # that it cannot be is the point
    with pytest.raises(TypeError):
        settings.agents["x"] = Agent(RID)  # type: ignore[index]  # as above
    with pytest.raises(FrozenInstanceError):
        settings.agents["orders"].rid = "x"  # type: ignore[misc]  # as above


def test_an_agent_refuses_what_is_no_agents_rid() -> None:
    with pytest.raises(ConfigError, match="session"):
        Agent(RID.replace("agent.7", "session.7"))


def test_another_api_needs_no_credentials() -> None:
    double = object()
    settings = load(None, {}, url=URL, api=double)
    assert settings.arguments["api"] is double
    assert settings.auth is None
