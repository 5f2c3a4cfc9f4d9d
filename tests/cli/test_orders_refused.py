"""The operators' commands that are interrupted or refused, and what they leave as it was."""

from __future__ import annotations

import re
import socket
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Said
from tests.cli.ordering import AGENT, NO_SESSION, ORDERS, Env, begin, numbers, one_line
from tests.cli.processes import PATIENCE_S, interrupt, started

# ------------------------------------------------------------------------------- the process itself


def test_an_operator_creates_nothing_and_retires_nothing_of_its_own(said: Said, there: Env) -> None:
    assert said("warm", "orders", "3")[0] == 0
    before = numbers(said)
    for words in (("pause", "orders"), ("resume", "orders"), ("status",)):
        assert said(*words)[0] == 0
    assert numbers(said) == before


def test_ctrl_c_ends_an_order_that_cannot_be_carried_out(there: Env, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        store = f"redis://127.0.0.1:{deaf.getsockname()[1]}"
        with started("pause", "orders", "--store", store, env=there) as process:
            deaf.settimeout(PATIENCE_S)
            link, _ = deaf.accept()
            with link:
                link.recv(1)  # it has asked, so it listens to signals
                interrupt(process)
                _, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, err) == (130, "")


def test_ctrl_c_while_sessions_are_created_leaves_none_unaccounted(
    said: Said, there: Env, slow: str, tmp_path: Path
) -> None:
    begin(tmp_path, slow)
    with started("warm", "orders", "3", "--url", slow, env=there) as process:
        ends = time.monotonic() + PATIENCE_S
        while numbers(said, "--url", slow)["creating"] == 0:
            assert time.monotonic() < ends
            assert process.poll() is None
        interrupt(process)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out, err) == (130, "", "")
    told = numbers(said, "--url", slow)
    assert told["creating"] == told["unsettled"] == 0
    assert told["idle"] == told["created"] > 0


# ---------------------------------------------------------------------------------------- refusals


def words_for(order: str) -> tuple[str, ...]:
    """A whole order, for an agent that is listed."""
    last = {"warm": ("orders", "1"), "evict": (NO_SESSION,), "status": ()}
    return (order, *last.get(order, ("orders",)))


@pytest.mark.parametrize("order", ORDERS)
def test_memory_is_out_of_reach(said: Said, there: Env, order: str) -> None:
    code, out, err = said(*words_for(order), "--store", "memory://")
    assert (code, out) == (2, "")
    assert one_line(err) == (
        "store: memory:// keeps its state inside the process that uses it, where nobody else can "
        "reach it; keep the state in a shared store, as sqlite:///pool.db, and name that to every "
        "process"
    )


@pytest.mark.parametrize("order", ORDERS)
def test_whose_sessions_they_are_must_be_known(
    said: Said, there: Env, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    monkeypatch.delenv("FOUNDRY_TOKEN")
    code, out, err = said(*words_for(order))
    assert (code, out) == (2, "")
    assert one_line(err).startswith("foundry.token: no credentials; set token (FOUNDRY_TOKEN)")


@pytest.mark.parametrize("order", [it for it in ORDERS if it != "evict"])
def test_an_unknown_agent_is_told_which_there_are(
    said: Said, there: Env, tmp_path: Path, order: str
) -> None:
    code, out, err = said(order, "odrers", *(("1",) if order == "warm" else ()))
    assert (code, out) == (2, "")
    assert one_line(err) == (
        "agent: 'odrers' is neither a listed name (orders) nor an agent RID "
        "(ri.aip-agents..agent.<uuid>)"
    )
    assert not (tmp_path / "pool.db").exists()  # nothing was opened


@pytest.mark.parametrize("order", ORDERS)
def test_a_store_of_other_credentials_is_refused(
    said: Said, begun: Env, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    # Whose a token is can be told of a service user's only.
    monkeypatch.delenv("FOUNDRY_TOKEN")
    monkeypatch.setenv("FOUNDRY_CLIENT_SECRET", "s3cret")
    monkeypatch.setenv("FOUNDRY_CLIENT_ID", "one")
    assert said("status")[0] == 0
    monkeypatch.setenv("FOUNDRY_CLIENT_ID", "another")
    code, out, err = said(*words_for(order))
    assert (code, out) == (1, "")
    assert "belong to other credentials" in one_line(err)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("evict", NO_SESSION), "rid: .* is no session of an agent that is listed or given by"),
        (("evict", AGENT), "rid: .* is no session of an agent"),
        (("evict", NO_SESSION, "--agent", "nobody"), r"agent: 'nobody' is neither a listed name"),
        (("pause", "ri.aip-agents..session.1"), "agent"),
        (("warm", "orders", "101"), r"n: 101 is more than the policy's max_idle \(100\)"),
        (("warm", "orders", "0"), "N"),
        (("warm", "orders", "many"), "N"),
        (("warm", "orders", "1", "--timeout", "-1"), "timeout"),
        (("warm", "orders"), "Missing argument"),
        (("pause",), "Missing argument"),
        (("pause", "orders", "more"), "unexpected extra argument"),
        (("drain", "orders", "--store", "ftp://host"), "store: "),
        (("status", "--config", "no-such.toml"), "file no-such.toml cannot be read"),
    ],
    ids=lambda it: " ".join(it) if isinstance(it, tuple) else "",
)
def test_what_cannot_be_meant_is_one_line(
    said: Said, begun: Env, words: tuple[str, ...], told: str
) -> None:
    code, out, err = said(*words)
    assert (code, out) == (2, "")
    assert re.search(told, one_line(err)), err


@pytest.mark.parametrize("words", [("status",), ("evict", NO_SESSION)], ids=" ".join)
def test_where_no_agent_is_listed_one_must_be_named(
    said: Said, there: Env, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.delenv("SESSION_POOL_CONFIG")
    code, out, err = said(*words, "--store", "sqlite:///never-made.db")
    assert (code, out) == (2, "")
    assert one_line(err).startswith("no agent is listed in the configuration; ")
    assert not Path("never-made.db").exists()


@pytest.mark.parametrize("order", [order for order in ORDERS if order != "warm"])
def test_where_no_pool_has_been_there_is_nothing_to_operate(
    said: Said, there: Env, tmp_path: Path, order: str
) -> None:
    before = sorted(tmp_path.iterdir())
    code, out, err = said(*words_for(order))
    assert (code, out) == (2, "")
    assert one_line(err) == (
        f"store: no pool has used {tmp_path}/pool.db yet: there is no such database; check the "
        "store's URL and the stack's, or start a pool there first"
    )
    assert sorted(tmp_path.iterdir()) == before


def test_nothing_is_begun_for_another_stack(said: Said, begun: Env) -> None:
    for order in ("status", "pause"):
        code, _, err = said(*words_for(order), "--url", "https://mistyped.example.com")
        assert code == 2
        assert "there is no namespace default@mistyped.example.com; check" in one_line(err)


@pytest.mark.parametrize("order", ORDERS)
def test_a_store_that_is_away_is_a_failure(said: Said, there: Env, order: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        store = f"redis://127.0.0.1:{closed.getsockname()[1]}"
    code, out, err = said(*words_for(order), "--store", store)
    assert (code, out) == (1, "")
    assert one_line(err).startswith("opening the store: redis://127.0.0.1")
