"""What `load` refuses: all at once, a line each, with the fix and without any secret."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from session_pool.agent import Agent
from session_pool.config import load
from session_pool.errors import ConfigError
from session_pool.policy import AgentPolicy

RID = "ri.aip-agents..agent.732cd5b4-7ca7-4219-aabb-6e976faf63b1"
URL = "https://stack.example.com"
FOUNDRY = f'[foundry]\nurl = "{URL}"\ntoken = "t0ken"\n'
BASE = {"FOUNDRY_HOSTNAME": "stack.example.com", "FOUNDRY_TOKEN": "t0ken"}
SECRET = "v3ry-s3cret-v3ry-s3cret"


def refused(file: Path, text: str, environ: Mapping[str, str] | None = None) -> list[str]:
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(file, environ or {})
    return str(caught.value).splitlines()


def refused_variables(**environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(None, environ)
    return str(caught.value).splitlines()


def refused_arguments(**overrides: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(None, BASE, **overrides)
    return str(caught.value).splitlines()


# ------------------------------------------------------------------------------------- together


def test_all_mistakes_are_told_together_a_line_each(file: Path) -> None:
    text = f"""
        [foundry]
        url = "http://stack.example.com"
        tokn = "{SECRET}"
        [pool]
        store = 5
        [defaults]
        min_idel = 3
        max_leased = 0
        [agents.orders]
        min_idle = 200
        [agents.other]
        rid = "other"
        [limits]
        upkeep_share = 2
        [service]
        listen = "127.0.0.1:8750"
    """
    lines = refused(file, text, {"SESSION_POOL__DEFAULTS__MAX_IDLE": "many"})
    starts = [line.partition(" (")[0].partition(":")[0] for line in lines]
    assert sorted(starts) == sorted(
        [
            "foundry.tokn",
            "foundry.url",
            "foundry.token",
            "pool.store",
            "defaults.min_idel",
            "defaults.max_leased",
            "defaults.max_idle",
            "agents.orders.rid",
            "agents.other.rid",
            "limits.upkeep_share",
            "service",
        ]
    )
    assert SECRET not in "\n".join(lines)


def test_a_mistake_names_where_the_value_came_from(file: Path) -> None:
    lines = refused(
        file,
        FOUNDRY + "[defaults]\nmax_leased = 0\n",
        {"SESSION_POOL__DEFAULTS__MIN_IDLE": "-1"},
    )
    assert sorted(lines) == [
        f"defaults.max_leased (file {file}): Input should be greater than or equal to 1",
        "defaults.min_idle (environment SESSION_POOL__DEFAULTS__MIN_IDLE): "
        "Input should be greater than or equal to 0",
    ]


def test_a_mistake_of_the_defaults_is_not_told_again_for_each_agent(file: Path) -> None:
    text = f"""{FOUNDRY}
        [defaults]
        min_idle = 300
        [agents.orders]
        rid = "{RID}"
        max_leased = 0
        [agents.other]
        rid = "{RID}"
        max_leased = 7
    """
    contradiction, own = refused(file, text)
    assert contradiction.startswith("defaults: min_idle (300) must not exceed max_idle (100)")
    assert own.startswith("agents.orders.max_leased ")


# ------------------------------------------------------------------------------------- the names


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "[defaults]\nmin_idel = 1",
            "defaults.min_idel ({}): no such field; did you mean min_idle?",
        ),
        ("[defaults]\nrid = 1", "defaults.rid ({}): no such field; it belongs to [agents]"),
        ("[pool]\nurl = 1", "pool.url ({}): no such field; it belongs to [foundry]"),
        (
            "[pool]\nsole_owners = true",
            "pool.sole_owners ({}): no such field; did you mean sole_owner?",
        ),
        ("[default]\nmin_idle = 1", "default ({}): no such section; did you mean defaults?"),
        (
            "[[service.tokens]]\nname = 'x'",
            "service ({}): no such section; there are foundry, pool, defaults, agents, limits",
        ),
        (
            "[servce]",
            "servce ({}): no such section; there are foundry, pool, defaults, agents, limits",
        ),
        ("[agents]\norders = 'x'", "agents.orders ({}): has to be a section, [agents.orders]"),
        ("[[limits]]\nupkeep_share = 1", "limits ({}): has to be a section, [limits]"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_known_one(
    file: Path, text: str, line: str
) -> None:
    assert refused(file, FOUNDRY + text) == [line.format(f"file {file}")]


def test_a_field_outside_any_section_is_told_where_it_belongs(file: Path) -> None:
    (line,) = refused(file, f'token = "{SECRET}"\n{FOUNDRY}')
    assert line == f"token (file {file}): no such section; it belongs to [foundry]"


@pytest.mark.parametrize("field", ["history", "max_age_s", "leak_after_s", "max_exchanges"])
def test_what_has_not_come_yet_is_refused_like_any_unknown_field(file: Path, field: str) -> None:
    (line,) = refused(file, f"{FOUNDRY}[defaults]\n{field} = 1\n")
    assert line.startswith(f"defaults.{field} (file {file}): no such field; ")


@pytest.mark.parametrize(
    ("variable", "start"),
    [
        ("SESSION_POOL__DEFAULT__MIN_IDLE", "default"),
        ("SESSION_POOL__DEFAULTS__MIN_IDEL", "defaults.min_idel"),
        ("SESSION_POOL__DEFAULTS", "defaults"),
        ("SESSION_POOL__AGENTS", "agents"),
        ("SESSION_POOL__AGENTS__ORDERS", "agents.orders"),
        ("SESSION_POOL__", "''"),
        ("SESSION_POOL__DEFAULTS__", "defaults.''"),
    ],
)
def test_an_unknown_variable_is_refused_by_its_name(variable: str, start: str) -> None:
    (line,) = refused_variables(**BASE, **{variable: "4"})
    assert line.startswith(f"{start} (environment {variable}): ")


def test_two_variables_for_one_field_are_refused() -> None:
    (line,) = refused_variables(
        **BASE, SESSION_POOL__DEFAULTS__MIN_IDLE="1", session_pool__defaults__min_idle="2"
    )
    assert line == (
        "defaults.min_idle (environment session_pool__defaults__min_idle): "
        "set by SESSION_POOL__DEFAULTS__MIN_IDLE too; take one away"
    )


def test_an_odd_name_stays_on_its_line(file: Path) -> None:
    (line,) = refused(file, FOUNDRY + '[pool]\n"a\\nb" = 1\n')
    assert line.startswith(r"pool.'a\nb' ")


def test_unknown_arguments_are_refused_by_name() -> None:
    assert refused_arguments(polcy=1) == [
        "polcy (argument): no such argument; did you mean policy?"
    ]
    (line,) = refused_arguments(principal="ann")
    assert line.startswith("principal (argument): no such argument; ")


def test_arguments_of_the_wrong_kind_are_refused() -> None:
    assert refused_arguments(agents={"orders": RID}) == [
        "agents.orders (argument): has to be an Agent(rid)"
    ]
    assert refused_arguments(policy="x") == ["defaults (argument): has to be a section, [defaults]"]
    assert refused_arguments(store=5) == ["pool.store (argument): Input should be a valid string"]


# ------------------------------------------------------------------------------------ the values


def test_a_missing_url_is_told_with_the_fix() -> None:
    (line,) = refused_variables(FOUNDRY_TOKEN="t")
    assert line == "foundry.url: missing; set it in [foundry], or as FOUNDRY_HOSTNAME"


def test_a_missing_rid_is_told_with_the_fix(file: Path) -> None:
    (line,) = refused(file, FOUNDRY + "[agents.my-orders]\n")
    assert line == (
        f"agents.my-orders.rid (file {file}): missing; "
        "set it in [agents.my-orders], or as SESSION_POOL__AGENTS__MY_ORDERS__RID"
    )


def test_http_beyond_loopback_needs_a_word() -> None:
    (line,) = refused_variables(**BASE | {"FOUNDRY_HOSTNAME": "http://stack.example.com"})
    assert line.startswith("foundry.url (environment FOUNDRY_HOSTNAME): http://stack.example.com ")
    assert "allow_http" in line
    environ = BASE | {
        "FOUNDRY_HOSTNAME": "http://stack.example.com",
        "SESSION_POOL__FOUNDRY__ALLOW_HTTP": "true",
    }
    assert load(None, environ).allow_http
    assert load(None, BASE | {"FOUNDRY_HOSTNAME": "http://127.0.0.1:1"}).url == "http://127.0.0.1:1"


def test_a_contradiction_names_the_agent(file: Path) -> None:
    text = f'[defaults]\nmin_idle = 20\n[agents.orders]\nrid = "{RID}"\nmax_idle = 10\n'
    (line,) = refused(file, FOUNDRY + text)
    assert line.startswith("agents.orders: min_idle (20) must not exceed max_idle (10); lower")


def test_a_contradiction_over_an_argument_names_the_agent(file: Path) -> None:
    file.write_text(f'[agents.orders]\nrid = "{RID}"\nmax_idle = 10\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"^agents\.orders: min_idle"):
        load(file, BASE, policy=AgentPolicy(min_idle=20))
    agents = {"orders": Agent(RID)}  # takes the place of the section
    assert load(file, BASE, agents=agents, policy=AgentPolicy(min_idle=20)).agents == agents


# ---------------------------------------------------------------------------------- credentials


def test_no_credentials_are_told_with_the_fix() -> None:
    (line,) = refused_variables(FOUNDRY_HOSTNAME="stack.example.com")
    assert line.startswith("foundry.token: no credentials; set token (FOUNDRY_TOKEN), or client_id")


def test_both_kinds_of_credentials_are_refused_with_their_origins(file: Path) -> None:
    (line,) = refused(file, FOUNDRY, {"FOUNDRY_CLIENT_ID": "app", "FOUNDRY_CLIENT_SECRET": SECRET})
    assert line == (
        f"foundry.token (file {file}): given together with client_id (environment "
        "FOUNDRY_CLIENT_ID) and client_secret (environment FOUNDRY_CLIENT_SECRET); "
        "keep the token or the client credentials"
    )


@pytest.mark.parametrize(("have", "miss"), [("id", "secret"), ("secret", "id")])
def test_half_of_the_client_credentials_is_refused(have: str, miss: str) -> None:
    variable = f"FOUNDRY_CLIENT_{have.upper()}"
    (line,) = refused_variables(**{"FOUNDRY_HOSTNAME": "stack.example.com", variable: SECRET})
    assert line == (
        f"foundry.client_{miss}: missing, while there is client_{have} (environment {variable}); "
        f"set it, or FOUNDRY_CLIENT_{miss.upper()}"
    )


def test_scopes_with_a_token_are_refused(file: Path) -> None:
    (line,) = refused(file, FOUNDRY + 'scopes = ["api:aip-agents-read"]\n')
    assert line.startswith(f"foundry.token (file {file}): given together with scopes (file ")


def test_token_and_auth_as_arguments_are_refused() -> None:
    (line,) = refused_arguments(token="t", auth=object())
    assert line == "auth (argument): given together with token; give one of them"


@pytest.mark.parametrize(
    "value", ["5", '""', "{ path = '/x' }", "{ file = '' }", "{ file = '/x', mode = 1 }", "['a']"]
)
def test_a_secret_is_a_text_or_a_file(file: Path, value: str) -> None:
    (line,) = refused(file, f'[foundry]\nurl = "{URL}"\ntoken = {value}\n')
    assert line == (
        f'foundry.token (file {file}): give the text itself, or {{ file = "/run/secrets/name" }}'
    )


# ------------------------------------------------------------------------------------- the file


def test_a_syntax_error_names_file_and_line(file: Path) -> None:
    (line,) = refused(file, f"{FOUNDRY}token = {SECRET}\n")
    assert line.startswith(f"file {file} is not TOML: ")
    assert "line 4" in line
    assert SECRET not in line


def test_an_end_too_early_names_the_last_line(file: Path) -> None:
    (line,) = refused(file, '[foundry]\nscopes = [\n  "a",\n')
    assert line.startswith(f"file {file} is not TOML: ")
    assert "at line 3, the end" in line


def test_a_field_given_twice_is_a_syntax_error_without_its_value(file: Path) -> None:
    (line,) = refused(file, f'{FOUNDRY}token = "{SECRET}"\n')
    assert "line 4" in line
    assert SECRET not in line


def test_a_file_that_is_not_there_is_told_so(tmp_path: Path) -> None:
    missing = tmp_path / "missing.toml"
    for call in ((missing, BASE), (None, BASE | {"SESSION_POOL_CONFIG": str(missing)})):
        with pytest.raises(ConfigError) as caught:
            load(*call)
        assert str(caught.value).startswith(f"file {missing} cannot be read (No such file")


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read \(Is a directory\)"):
        load(tmp_path, BASE)
