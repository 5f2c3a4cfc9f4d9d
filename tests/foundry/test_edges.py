"""What people write into a configuration: addresses, RIDs, secrets; and times off the wire."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from session_pool.errors import ConfigError
from session_pool.foundry import SecretFile, check_agent_rid
from session_pool.foundry.address import check_url, session_path, sessions_path
from session_pool.foundry.wire import Instant, encode
from tests.foundry.stub import AGENT, SESSION


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("https://stack.example.com", "https://stack.example.com"),
        (" https://Stack.Example.com/ ", "https://stack.example.com"),
        ("https://stack.example.com:8443", "https://stack.example.com:8443"),
        ("http://127.0.0.1:8760", "http://127.0.0.1:8760"),
        ("http://[::1]:8760", "http://[::1]:8760"),
        ("http://localhost", "http://localhost"),
    ],
)
def test_good_urls_lose_their_last_slash(url: str, base: str) -> None:
    assert check_url(url) == base


@pytest.mark.parametrize(
    ("url", "fix"),
    [
        ("stack.example.com", "https://stack.example.com"),
        ("stack.example.com:443", "https://stack.example.com:443"),
        ("ftp://stack.example.com", "https://stack.example.com"),
        ("", "https"),
        ("https://", "https"),
        ("https://stack.example.com/workspace/x", "give https://stack.example.com alone"),
        ("https://stack.example.com?a=b", "give https://stack.example.com alone"),
        ("https://stack.example.com#top", "give https://stack.example.com alone"),
        ("https://me:hunter2@stack.example.com", "user info"),
        ("me:hunter2@stack.example.com", "https"),
        ("http://stack.example.com", "allow_http"),
        ("http://10.0.0.1", "allow_http"),
        ("https://stack.example.com:port", "url"),
        ("https://[::1", "url"),
    ],
)
def test_bad_urls_are_refused_by_name_and_with_the_fix(url: str, fix: str) -> None:
    with pytest.raises(ConfigError, match="url") as caught:
        check_url(url)
    assert fix in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_plain_http_is_taken_where_that_is_meant() -> None:
    assert check_url("http://10.0.0.1:80", allow_http=True) == "http://10.0.0.1:80"


def test_paths_are_encoded_with_no_safe_character() -> None:
    assert sessions_path("a/b").endswith("/agents/a%2Fb/sessions")
    assert session_path(AGENT, SESSION, "x y").endswith(f"/{SESSION}/x%20y")


@pytest.mark.parametrize("part", ["", ".", ".."])
def test_parts_that_walk_elsewhere_are_refused(part: str) -> None:
    with pytest.raises(ConfigError):
        session_path(AGENT, part)


def test_an_agents_rid_is_taken() -> None:
    assert check_agent_rid(AGENT) == AGENT


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (SESSION, "names a session"),
        ("ri.ontology.main.object-type.1", "'object-type'"),
        ("orders", "[agents.<name>]"),
        ("", "empty"),
        (f" {AGENT}", "white space"),
        ("ri.aip-agents.agent.732cd5b4", "a dot is missing"),
        ("ri.aip-agents", "expected"),
        ("x" * 500, "…"),
        (None, "must be a string"),
    ],
)
def test_what_is_no_agents_rid_is_refused_with_a_guess(value: object, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_agent_rid(value)
    assert hint in str(caught.value)
    assert len(str(caught.value)) < 400


# ---------------------------------------------------------------------------------- secrets


def test_a_secret_file_is_stripped_and_read_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("  one\n")
    secret = SecretFile(path)
    assert secret.read() == "one"
    path.write_text("second\n")
    assert secret.read() == "second"


def test_a_secret_swapped_by_a_link_is_seen(tmp_path: Path) -> None:
    """As orchestrators do it: same size, perhaps the same time, another file."""
    for name in ("old", "new"):
        (tmp_path / name).write_text(name)
        os.utime(tmp_path / name, (1, 1))
    link = tmp_path / "secret"
    link.symlink_to(tmp_path / "old")
    secret = SecretFile(link)
    assert secret.read() == "old"
    link.unlink()
    link.symlink_to(tmp_path / "new")
    assert secret.read() == "new"


def test_an_unchanged_secret_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "secret"
    path.write_text("one")
    secret = SecretFile(path)
    secret.read()
    monkeypatch.setattr(Path, "read_text", lambda *args, **kwargs: pytest.fail("read again"))
    assert secret.read() == "one"


@pytest.mark.parametrize(
    ("content", "word"), [(None, "cannot be read"), (b" \n", "is empty"), (b"s3cr\xff", "UTF-8")]
)
def test_a_secret_that_cannot_be_had_names_the_path(
    tmp_path: Path, content: bytes | None, word: str
) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=word) as caught:
        SecretFile(path).read()
    assert str(path) in str(caught.value)
    assert "s3cr" not in str(caught.value)


def test_a_secret_is_not_in_its_repr(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("hunter2")
    secret = SecretFile(str(path))
    secret.read()
    assert repr(secret) == f"SecretFile({str(path)!r})"


# ------------------------------------------------------------------------------------ times

_INSTANT: TypeAdapter[datetime] = TypeAdapter(Instant)


@given(fraction=st.text("0123456789", min_size=1, max_size=9))
def test_fractions_of_any_length_are_cut_to_microseconds(fraction: str) -> None:
    seen = _INSTANT.validate_python(f"2024-10-01T22:04:24.{fraction}Z")
    assert seen == datetime(2024, 10, 1, 22, 4, 24, int(fraction[:6].ljust(6, "0")), UTC)


@pytest.mark.parametrize(
    "value",
    ["9999-12-31T23:59:59.999999999Z", "+10000-01-01T00:00:00Z", "+1000000000-12-31T23:59:59Z"],
)
def test_far_futures_are_valid(value: str) -> None:
    assert _INSTANT.validate_python(value).year == 9999


@pytest.mark.parametrize("value", ["2024-10-01T22:04:24Z", "9999-12-31T23:59:59-05:00"])
def test_times_hold_nothing_of_pydantics(value: str) -> None:
    # An interpreter that frees one of its time zones as it ends may crash.
    assert _INSTANT.validate_python(value).tzinfo is UTC


@pytest.mark.parametrize("value", ["2024-10-01T22:04:24", 1727820264, "1727820264", "soon", None])
def test_naive_times_and_other_things_are_refused(value: object) -> None:
    with pytest.raises(ValidationError):
        _INSTANT.validate_python(value)


def test_requests_leave_out_what_was_not_given() -> None:
    assert encode({"agentVersion": None}) == b"{}"
    assert encode({"a": None, "b": [], "c": "é"}) == b'{"b":[],"c":"\\u00e9"}'
