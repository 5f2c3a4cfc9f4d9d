"""The whole demo in virtual time: its claims hold, and fail where they should."""

from __future__ import annotations

import asyncio
import signal

import pytest

from session_pool import AgentUnavailable
from session_pool.cli.claims import Summary
from session_pool.cli.demo import Plan, exit_code, perform
from session_pool.cli.people import AGENTS, CONVERSATIONS, FORGETFUL
from session_pool.cli.screen import Frame, SilentScreen
from session_pool.cli.stopping import Stop

pytestmark = pytest.mark.looptime


class Recording(SilentScreen):
    """A screen that keeps what it was shown."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.lines: list[str] = []

    def frame(self, frame: Frame) -> None:
        self.frames.append(frame)

    def news(self, at_s: float, line: str) -> None:
        self.lines.append(line)


async def played(plan: Plan) -> Summary:
    return await perform(plan, SilentScreen(), Stop())


@pytest.mark.parametrize("seed", range(4))
async def test_every_claim_holds(seed: int) -> None:
    summary = await played(Plan(seconds=20.0, lifetime_s=6.0, seed=seed))
    assert [claim.finding for claim in summary.failed] == []
    assert summary.seconds == pytest.approx(20.0, abs=2.0)


async def test_all_there_is_to_see_is_seen() -> None:
    screen = Recording()
    summary = await perform(Plan(20.0, 6.0, seed=1), screen, Stop())
    seen, last = summary.evidence, screen.frames[-1]
    assert len(seen.waits_s) == CONVERSATIONS
    assert seen.lost == seen.announced == FORGETFUL
    assert seen.replaced > 0
    assert seen.looks >= 70
    assert list(last.stats.agents) == list(AGENTS)
    assert max(frame.soon.total() for frame in screen.frames) > 0
    assert max(frame.stats.quarantined for frame in screen.frames) > 0  # given back unused
    assert any("gives" in line for line in screen.lines)
    assert max(map(len, screen.lines)) <= 70


async def test_sessions_that_die_early_make_the_first_claim_false(
    capsys: pytest.CaptureFixture[str],
) -> None:
    plan = Plan(10.0, 6.0, seed=1, faults=("create:*:early_expiry:by_s=5",))
    summary = await played(plan)
    assert "exchanges_on_dead_sessions" in [claim.name for claim in summary.failed]
    assert exit_code(summary, Stop()) == 1
    assert "does not hold: exchanges on dead sessions: " in capsys.readouterr().err


async def test_throttling_and_lost_answers_break_no_claim() -> None:
    faults = (
        "exchange:/9:429",
        "create:3:lost_after",
        "create:9:503",
        "exchange:7:lost_after",
    )
    summary = await played(Plan(20.0, 6.0, seed=2, faults=faults))
    assert [claim.finding for claim in summary.failed] == []


async def test_an_agent_that_is_not_there_is_told_at_once() -> None:
    with pytest.raises(AgentUnavailable, match="AgentNotFound"):
        await played(Plan(20.0, 6.0, seed=1, faults=("create:*:AgentNotFound",)))


async def test_an_early_end_gives_the_summary_so_far() -> None:
    stop = Stop()
    asyncio.get_running_loop().call_later(7.0, stop.ask, signal.SIGINT)
    summary = await perform(Plan(20.0, 6.0, seed=1), SilentScreen(), stop)
    assert summary.interrupted
    assert summary.seconds == pytest.approx(7.0)
    assert summary.evidence.answered > 0
    assert [claim.finding for claim in summary.failed] == []
    assert exit_code(summary, stop) == 130


async def test_an_end_before_anything_was_ready_is_an_end() -> None:
    stop = Stop()
    stop.ask(signal.SIGTERM)
    summary = await perform(Plan(20.0, 6.0, seed=1), SilentScreen(), stop)
    assert summary.evidence.answered == 0
    assert [claim.finding for claim in summary.failed] == []
    assert exit_code(summary, stop) == 143


async def test_nothing_is_left_running() -> None:
    before = asyncio.all_tasks()
    await played(Plan(3.0, 2.0, seed=1))
    assert asyncio.all_tasks() == before
