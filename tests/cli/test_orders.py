"""The operators' commands, beside other processes that lease from the same store."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from session_pool.cli.standing import table
from session_pool.office import Standing
from session_pool.stores.open import open_store
from session_pool.telemetry import PoolStats
from tests.cli.conftest import Said
from tests.cli.processes import PATIENCE_S, interrupt, read_until, started

AGENT = "ri.aip-agents..agent.732cd5b4-7ca7-4219-aabb-6e976faf63b1"
OTHER = "ri.aip-agents..agent.00000000-7ca7-4219-aabb-6e976faf63b1"
NO_SESSION = "ri.aip-agents..session.00000000-0000-4000-8000-000000000000"
TOKEN = "t0ken-t0ken-t0ken"
HOLD = ("sh", "-c", 'echo "$SESSION_RID"; exec sleep 60')

Env = Mapping[str, str]
ORDERS = ("warm", "pause", "resume", "drain", "recycle", "evict", "status")


@pytest.fixture(scope="module")
def stack() -> Iterator[Env]:
    """The environment that leads to an emulated stack, with leases that are renewed often."""
    with started("emulator", "--listen", "127.0.0.1:0", "--create-latency-s", "0", "--json") as emu:
        url = json.loads(read_until(emu, "{")[0])["url"]
        yield {
            "FOUNDRY_HOSTNAME": url,
            "FOUNDRY_TOKEN": TOKEN,
            "SESSION_POOL__DEFAULTS__LEASE_TTL_S": "1.5",
        }


@pytest.fixture
def slow() -> Iterator[str]:
    """The address of another stack, which takes its time to create."""
    with started("emulator", "--listen", "127.0.0.1:0", "--create-latency-s", "2", "--json") as emu:
        yield str(json.loads(read_until(emu, "{")[0])["url"])


@pytest.fixture
def there(stack: Env, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Env:
    """The environment of a fleet with a store of its own, for this process and for others."""
    file = tmp_path / "session-pool.toml"
    file.write_text(
        f'[pool]\nstore = "sqlite:///{tmp_path}/pool.db"\n'
        f'[agents.orders]\nrid = "{AGENT}"\nmin_idle = 2\n'
    )
    for name in list(os.environ):
        if name.startswith(("FOUNDRY_", "SESSION_POOL")):
            monkeypatch.delenv(name)
    env = {**stack, "SESSION_POOL_CONFIG": str(file)}
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return env


def begin(folder: Path, stack: str) -> None:
    """A pool of this stack has been there, and has gone."""

    async def come_and_go() -> None:
        at = f"sqlite:///{folder}/pool.db"
        store = open_store(at, clock=time.monotonic, realm=stack.partition("://")[2])
        await store.open()
        await store.aclose()

    asyncio.run(come_and_go())


@pytest.fixture
def begun(there: Env, tmp_path: Path) -> Env:
    """The same, once a pool has been there."""
    begin(tmp_path, there["FOUNDRY_HOSTNAME"])
    return there


@contextmanager
def holder(env: Env, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Another process of the fleet: it holds a lease, and keeps two sessions ready."""
    with started("lease", "orders", *words, "--", *HOLD, env=env) as process:
        yield process, read_until(process, "ri.")[0]


def one_line(err: str) -> str:
    assert err.count("\n") == 1, err
    assert TOKEN not in err
    return err.removeprefix("session-pool: ").rstrip("\n")


def numbers(said: Said, *words: str) -> dict[str, Any]:
    code, out, err = said("status", *words, "--json")
    assert (code, err) == (0, "")
    (agent,) = json.loads(out)["agents"].values()
    return dict(agent)


def until(said: Said, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The numbers as soon as they are as wanted; other processes make them so, and tell nobody."""
    ends = time.monotonic() + PATIENCE_S
    while not wanted(told := numbers(said)):
        assert time.monotonic() < ends, told
        time.sleep(0.05)
    return told


# ------------------------------------------------------------------------------------------ looking


def test_status_shows_what_all_processes_do(said: Said, there: Env, tmp_path: Path) -> None:
    with holder(there):
        told = until(said, lambda it: it["idle"] == 2)
        assert told == {
            "agent_rid": AGENT,
            "state": "open",
            "idle": 2,
            "leased": 1,
            "parked": 0,
            "creating": 0,
            "quarantined": 0,
            "retiring": 0,
            "waiting": 0,
            "unsettled": 0,
            "created": 3,
            "adopted": 0,
            "retired": 0,
        }
        code, out, err = said("status")
    assert (code, err) == (0, "")
    rows = dict(line.split() for line in out.splitlines()[1:])
    assert out.split()[0] == "orders"
    assert rows == {name: str(value) for name, value in told.items() if name != "agent_rid"}
    assert json.loads(said("status", "--json")[1])["store"] == f"sqlite:///{tmp_path}/pool.db"


def test_a_look_changes_nothing(said: Said, begun: Env) -> None:
    assert numbers(said)["created"] == 0
    assert numbers(said, AGENT)["created"] == 0
    assert numbers(said, OTHER)["agent_rid"] == OTHER
    told = numbers(said)
    assert (told["created"], told["creating"], told["idle"]) == (0, 0, 0)


def test_status_looks_again_until_it_is_told_to_end(begun: Env) -> None:
    with started("status", "--watch", "--json", env=begun) as process:
        assert json.loads(read_until(process, "{")[0])["agents"]["orders"]["state"] == "open"
        read_until(process, "{")
        interrupt(process)
        _, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, err) == (130, "")


def test_on_a_terminal_one_look_takes_the_place_of_the_other(begun: Env) -> None:
    ours, theirs = os.openpty()
    with started("status", "--watch", env=begun, stdout=theirs) as process:
        seen = b""
        while seen.count(b"retired") < 2:
            seen += os.read(ours, 4096)
        interrupt(process)
        process.wait(PATIENCE_S)
    os.close(ours)
    os.close(theirs)
    assert seen.count(b"\x1b[H\x1b[2J") == 2
    assert process.returncode == 130


def test_a_terminal_that_cannot_be_cleared_gets_one_look_below_the_other(begun: Env) -> None:
    ours, theirs = os.openpty()
    with started("status", "--watch", env={**begun, "TERM": "dumb"}, stdout=theirs) as process:
        seen = b""
        while seen.count(b"retired") < 2:
            seen += os.read(ours, 4096)
        interrupt(process)
        process.wait(PATIENCE_S)
    os.close(ours)
    os.close(theirs)
    assert b"\x1b" not in seen
    assert b"\r\n\r\n" in seen


def test_a_table_of_many_agents_fits_80_columns() -> None:
    names = [f"agent-{number}" for number in range(20)]
    told = table([Standing(name, AGENT, "open", PoolStats(idle=1)) for name in names])
    assert max(map(len, told.splitlines())) <= 80
    assert [word for word in told.split() if word.startswith("agent-")] == names


# ------------------------------------------------------------------------------------------- orders


def test_a_pause_refuses_newcomers_and_a_resume_mends_it(said: Said, there: Env) -> None:
    with holder(there) as (process, _):
        assert said("pause", "orders") == (0, "orders is paused\n", "")
        assert said("pause", AGENT) == (0, f"{AGENT} is paused\n", "")  # twice is harmless
        assert numbers(said)["state"] == "paused"
        code, out, err = said("lease", "orders", "--", "true")
        assert (code, out) == (1, "")
        assert "paused" in one_line(err)
        code, _, err = said("warm", "orders", "5")
        assert (code, one_line(err)) == (1, "orders is paused; resume it first")
        assert process.poll() is None  # leases go on
        assert said("resume", "orders") == (0, "orders is open\n", "")
        assert numbers(said)["state"] == "open"
        assert said("lease", "orders", "--", "true") == (0, "", "")


def test_a_drain_retires_what_lies_ready(said: Said, there: Env) -> None:
    with holder(there) as (process, _):
        until(said, lambda it: it["idle"] == 2)
        assert said("drain", "orders") == (0, "orders is drained\n", "")
        told = numbers(said)
        assert (told["state"], told["idle"], told["leased"]) == ("drained", 0, 1)
        assert told["retiring"] + told["retired"] == 2
        assert process.poll() is None


def test_a_recycle_replaces_what_lies_ready(said: Said, there: Env) -> None:
    with holder(there) as (process, _):
        until(said, lambda it: it["idle"] == 2)
        assert said("recycle", "orders") == (0, "orders is recycled\n", "")
        told = numbers(said)
        assert (told["state"], told["leased"]) == ("open", 1)
        assert told["retiring"] + told["retired"] == 2
        assert said("lease", "orders", "--", "true") == (0, "", "")  # of a new batch
        assert until(said, lambda it: it["idle"] == 2)["created"] >= 5
        assert process.poll() is None


def test_warm_has_so_many_ready_once(said: Said, there: Env) -> None:
    assert said("warm", "orders", "4") == (0, "orders has 4 ready\n", "")
    told = numbers(said)
    assert (told["idle"], told["creating"], told["created"]) == (4, 0, 4)
    assert said("warm", AGENT, "3") == (0, f"{AGENT} has 3 ready\n", "")
    assert numbers(said)["created"] == 4


def test_warm_gives_up_in_time_and_leaves_nothing_behind(said: Said, there: Env, slow: str) -> None:
    code, out, err = said("warm", "orders", "3", "--timeout", "0.5", "--url", slow)
    assert (code, out) == (1, "")
    assert one_line(err).startswith("orders has not 3 sessions ready after 0.5 s")
    told = numbers(said, "--url", slow)
    assert told["creating"] == told["unsettled"] == 0
    assert told["idle"] == told["created"] > 0  # what was under way lies ready for the fleet


def test_an_evicted_session_is_lost_to_whoever_holds_it(said: Said, there: Env) -> None:
    with holder(there) as (process, rid):
        assert said("evict", rid) == (0, f"{rid} is taken out of use\n", "")
        _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert one_line(err).startswith("the lease was lost, ")
    told = numbers(said)
    assert (told["leased"], told["quarantined"]) == (0, 1)


def test_what_is_kept_for_a_conversation_is_evicted_by_force_only(
    said: Said, there: Env, tmp_path: Path
) -> None:
    told = tmp_path / "told"
    words = ("lease", "orders", "--conversation", "talk", "--")
    assert said(*words, "sh", "-c", f'echo "$SESSION_RID" > {told}')[0] == 0
    rid = told.read_text().strip()
    code, out, err = said("evict", rid)
    assert (code, out) == (2, "")
    assert one_line(err).endswith("evict it all the same with --force")
    assert numbers(said)["parked"] == 1
    assert said("evict", rid, "--force", "--agent", AGENT)[0] == 0
    assert numbers(said)["parked"] == 0


def test_an_order_for_an_agent_that_is_not_listed_goes_by_its_rid(
    said: Said, there: Env, tmp_path: Path
) -> None:
    told = tmp_path / "told"
    words = ("lease", OTHER, "--conversation", "talk", "--")
    assert said(*words, "sh", "-c", f'echo "$SESSION_RID" > {told}')[0] == 0
    rid = told.read_text().strip()
    code, _, err = said("evict", rid, "--force")
    assert code == 2
    assert "is listed or given by --agent" in one_line(err)
    assert said("evict", rid, "--force", "--agent", OTHER)[0] == 0
    assert said("drain", OTHER) == (0, f"{OTHER} is drained\n", "")
    assert numbers(said, OTHER)["state"] == "drained"
    assert numbers(said)["state"] == "open"


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
