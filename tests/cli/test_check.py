"""`session-pool check`: values, where they come from, mistakes; and no secret in any of it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from session_pool.errors import ConfigError, StoreUnavailable
from session_pool.sections import without_secrets
from session_pool.stores import open as stores
from tests.cli.conftest import Said
from tests.cli.processes import run

RID = "ri.aip-agents..agent.732cd5b4-7ca7-4219-aabb-6e976faf63b1"
SECRET = "v3ry-s3cret-v3ry-s3cret"
FILE = f"""
[foundry]
url = "https://stack.example.com"
token = "{SECRET}"
[defaults]
min_idle = 2
[agents.orders]
rid = "{RID}"
max_leased = 7
[agents."the.other"]
rid = "{RID[:-1]}2"
"""


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("FOUNDRY_", "SESSION_POOL")):
            monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "pool.toml"
    path.write_text(FILE, encoding="utf-8")
    return path


def test_it_tells_values_and_where_they_come_from(
    said: Said, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SESSION_POOL__DEFAULTS__MAX_IDLE", "50")
    monkeypatch.setenv("SESSION_POOL__AGENTS__ORDERS__EXCHANGE_TIMEOUT_S", "60")
    code, out, err = said("check", str(file), "--url", "https://other.example.com")
    assert (code, err) == (0, "")
    words = [line.split() for line in out.splitlines()]
    assert ["url", '"https://other.example.com"', "argument"] in words
    assert ["token", '"***"', "file"] in words
    assert ["store", '"memory://"', "default"] in words
    assert ["min_idle", "2", "file"] in words
    assert ["max_idle", "50", "environment", "SESSION_POOL__DEFAULTS__MAX_IDLE"] in words
    assert ["requests_per_minute", "5000", "default:", "that", "of", "the", "credentials"] in words
    own = out.partition("[agents.orders]\n")[2].partition("\n\n")[0]
    assert [line.split()[0] for line in own.splitlines()[1:]] == [
        "rid",
        "max_leased",
        "exchange_timeout_s",
        "environment",  # which is too long for the same line
    ]
    assert max(map(len, own.splitlines())) <= 80
    assert "[agents.'the.other']" in out
    assert out.splitlines()[-4:] == [
        "It is sound. Nothing was connected to; a pool would",
        "  ask   https://other.example.com, with a user's token",
        "  use   the store memory://",
        "  warm  2 of orders, 2 of the.other",
    ]
    assert SECRET not in out
    assert "\x1b" not in out


def test_it_is_readable_on_80_columns(said: Said) -> None:
    _, out, _ = said("check", "config/session-pool.example.toml")
    assert max(map(len, out.splitlines())) <= 80


def test_json_has_every_field_of_every_agent(said: Said, file: Path) -> None:
    code, out, err = said("check", str(file), "--json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert told["ok"] is True
    assert told["file"] == str(file)
    assert told["values"]["foundry.token"] == {"value": "***", "origin": f"file {file}"}
    assert told["values"]["agents.orders.max_leased"] == {"value": 7, "origin": f"file {file}"}
    assert told["values"]["agents.orders.min_idle"] == {"value": 2, "origin": f"file {file}"}
    assert told["values"]["agents.'the.other'.max_leased"] == {"value": 100, "origin": "default"}
    assert told["connects_to"] == {
        "url": "https://stack.example.com",
        "signs_in_with": "a user's token",
        "store": "memory://",
        "agents": {"orders": RID, "the.other": f"{RID[:-1]}2"},
        "keeps_warm": {"orders": 2, "the.other": 2},
    }
    assert told["warnings"] == []


def test_the_file_may_be_named_by_the_environment(
    said: Said, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SESSION_POOL_CONFIG", str(file))
    code, out, _ = said("check")
    assert (code, out.splitlines()[0]) == (0, f"file: {file}")


def test_client_credentials_bring_limits_of_their_own(
    said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOUNDRY_HOSTNAME", "stack.example.com")
    monkeypatch.setenv("FOUNDRY_CLIENT_ID", "app")
    monkeypatch.setenv("FOUNDRY_CLIENT_SECRET", SECRET)
    code, out, _ = said("check")
    assert code == 0
    assert "10000" in out
    assert "with client credentials" in out
    assert "no agent is listed" in out
    assert SECRET not in out


def test_every_mistake_is_a_line_with_section_and_field(said: Said, file: Path) -> None:
    file.write_text(FILE + "max_idel = 3\n[limits]\nupkeep_share = 2\n", encoding="utf-8")
    code, out, err = said("check", str(file), "--url", "nowhere")
    assert (code, out) == (2, "")
    lines = err.splitlines()
    assert [line.partition(" (")[0] for line in lines] == [
        "session-pool: agents.'the.other'.max_idel",
        "session-pool: foundry.url",
        "session-pool: limits.upkeep_share",
    ]
    assert "did you mean max_idle?" in lines[0]
    assert "did you mean https://nowhere ?" in lines[1]
    code, out, err = said("check", str(file), "--json")
    assert code == 2
    told = json.loads(out)
    assert told["ok"] is False
    assert [f"session-pool: {line}" for line in told["mistakes"]] == err.splitlines()


def test_what_only_a_pool_would_refuse_is_told_too(said: Said, file: Path) -> None:
    file.write_text(FILE.replace(f"{RID[:-1]}2", RID), encoding="utf-8")
    code, _, err = said("check", str(file), "--store", "nothing://h")
    assert code == 2
    assert err.splitlines() == [
        "session-pool: agents.the.other: orders is the same agent; give both one policy",
        "session-pool: pool.store (argument): 'nothing' is no engine; "
        "use memory://, sqlite:///path, redis://, rediss:// or postgresql://",
    ]


def test_a_secret_file_that_is_not_there_yet_is_a_warning(
    said: Said, file: Path, tmp_path: Path
) -> None:
    place = tmp_path / "token"
    file.write_text(FILE.replace(f'"{SECRET}"', f"{{ file = '{place}' }}"), encoding="utf-8")
    code, out, err = said("check", str(file))
    assert (code, err) == (0, "")
    assert f"warning: foundry.token (file {file}):" in out.replace("\n", " ")
    place.write_text(SECRET, encoding="utf-8")
    code, out, _ = said("check", str(file))
    assert code == 0
    assert "warning" not in out
    assert SECRET not in out


def test_without_anything_set_it_says_what_to_set() -> None:
    done = run("check")
    assert (done.returncode, done.stdout) == (2, "")
    assert "FOUNDRY_HOSTNAME" in done.stderr
    assert "FOUNDRY_TOKEN" in done.stderr


# ----------------------------------------------------------------------------------------- migrate


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """An engine `stub://` whose schema is brought up to date, or refused; the URLs it was given."""
    asked: list[str] = []

    def bring(url: str) -> str:
        asked.append(url)
        if "refused" in url:
            raise ConfigError("store: stub:// wants a path")
        if "away" in url:
            raise StoreUnavailable("the stub cannot\nbe reached")
        return "from version 1 to 2"

    monkeypatch.setitem(stores._ENGINES, "stub", stores._Engine("stub"))
    monkeypatch.setitem(sys.modules, "stub", SimpleNamespace(migrate=bring))
    return asked


def test_migrate_says_what_was_done_and_needs_no_stack(
    said: Said, engine: list[str], tmp_path: Path
) -> None:
    assert said("migrate", "--store", "stub://h/db") == (0, "from version 1 to 2\n", "")
    config = tmp_path / "pool.toml"
    config.write_text('[pool]\nstore = "stub://from-file"\n', encoding="utf-8")
    assert said("migrate", "--config", str(config))[0] == 0
    assert engine == ["stub://h/db", "stub://from-file"]


def test_migrate_in_json_masks_the_password(said: Said, engine: list[str]) -> None:
    code, out, _ = said("migrate", "--store", f"stub://me:{SECRET}@h/db", "--json")
    assert code == 0
    assert json.loads(out) == {"store": "stub://me:***@h/db", "done": "from version 1 to 2"}
    assert engine == [f"stub://me:{SECRET}@h/db"]


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ((), 2, "store: memory:// has no schema, so nothing to migrate"),
        (("--store", "stub://refused"), 2, "store: stub:// wants a path"),
        (("--store", "stub://away"), 1, "the stub cannot be reached"),
        (("--store", "nothing://"), 2, "store: 'nothing' is no engine; use "),
        (("--store", f"stub://me:{SECRET}[@h"), 2, "pool.store (argument): cannot be read as"),
        (("--config", "/no/such.toml"), 2, "file /no/such.toml cannot be read"),
    ],
)
@pytest.mark.usefixtures("engine")
def test_a_migration_that_cannot_be_is_one_line(
    said: Said, words: tuple[str, ...], code: int, told: str
) -> None:
    got, out, err = said("migrate", *words)
    assert (got, out, err.count("\n")) == (code, "", 1)
    assert err.startswith(f"session-pool: {told}")
    assert SECRET not in err


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("memory://?namespace=a", "memory://?namespace=a"),
        ("sqlite:////var/lib/a@b.db?x=1", "sqlite:////var/lib/a@b.db?x=1"),
        (f"redis://:{SECRET}@h:1/0", "redis://:***@h:1/0"),
        (f"redis://{SECRET}@h", "redis://***@h"),
        (f"postgresql://me:{SECRET}/a?b@c@h/db", "postgresql://me:***@h/db"),
        (f"postgresql://h/db?user=me&password={SECRET}", "postgresql://h/db?user=me&password=***"),
        (f"me:{SECRET}@h", "***"),
    ],
)
def test_a_store_is_shown_without_its_password(url: str, shown: str) -> None:
    assert without_secrets(url) == shown
