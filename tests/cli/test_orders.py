"""The operators' commands, beside other processes that lease from the same store."""

from __future__ import annotations

import json
import os
from pathlib import Path

from session_pool.cli.standing import table
from session_pool.office import Standing
from session_pool.telemetry import PoolStats
from tests.cli.conftest import Said
from tests.cli.ordering import AGENT, OTHER, Env, holder, numbers, one_line, until
from tests.cli.processes import PATIENCE_S, interrupt, read_until, started

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
