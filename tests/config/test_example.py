"""The example file is complete, shows every default, and says why."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from pydantic.fields import FieldInfo

from session_pool.agent import Agent
from session_pool.config import load
from session_pool.policy import AgentPolicy, RequestLimits
from session_pool.sections import FIELDS

EXAMPLE = Path(__file__).parents[2] / "config" / "session-pool.example.toml"
TEXT = EXAMPLE.read_text(encoding="utf-8")
NO_DEFAULT = {("foundry", "url"), ("foundry", "token"), ("agents", "rid")}


def lines_of(section: str) -> list[str]:
    name = "agents.orders" if section == "agents" else section
    return TEXT.partition(f"\n[{name}]\n")[2].partition("\n[")[0].splitlines()


def above(section: str, name: str) -> str:
    """The comment line above a field, which may be commented out itself."""
    lines = lines_of(section)
    (at,) = (i for i, line in enumerate(lines) if re.match(rf"(# )?{name} = ", line))
    assert lines[at - 1].startswith("# "), f"{section}.{name} has no comment"
    return lines[at - 1]


def test_it_loads_as_it_is_and_means_the_defaults() -> None:
    settings = load(EXAMPLE, {})
    assert settings.policy == AgentPolicy()
    assert settings.limits == RequestLimits()
    assert settings.store == "memory://"
    assert settings.allow_http is False
    assert list(settings.agents) == ["orders"]
    assert settings.agents["orders"] == Agent(settings.agents["orders"].rid)


def test_every_value_shown_is_the_default() -> None:
    shown = {
        (section.partition(".")[0], name)
        for section, fields in tomllib.loads(TEXT).items()
        for name in (fields["orders"] if section == "agents" else fields)
    }
    defaulted = load(None, {"FOUNDRY_HOSTNAME": "h.example.com", "FOUNDRY_TOKEN": "t"}).arguments
    with_example = load(EXAMPLE, {}).arguments
    for argument in ("store", "policy", "limits", "allow_http"):
        assert with_example[argument] == defaulted[argument]
    for section in ("defaults", "limits"):
        assert {(section, name) for name in FIELDS[section]} <= shown
    assert shown >= NO_DEFAULT


@pytest.mark.parametrize(
    ("section", "name"),
    [(section, name) for section in FIELDS if section != "agents" for name in FIELDS[section]]
    + [("agents", "rid")],
)
def test_every_field_is_shown_with_its_unit_and_reason(section: str, name: str) -> None:
    comment = above(section, name)
    field: FieldInfo = FIELDS[section][name]
    if field.description:
        assert field.description in comment, f"{section}.{name}: the policy gives another reason"
    if isinstance(field.json_schema_extra, dict):
        unit = str(field.json_schema_extra["unit"])
        assert comment.startswith(f"# {unit}; " if unit else "# ")


def test_it_shows_nothing_else() -> None:
    for section in FIELDS:
        for line in lines_of(section):
            if found := re.match(r"(?:# )?(\w+) = ", line):
                assert found[1] in FIELDS[section]
