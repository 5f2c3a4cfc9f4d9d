"""What `session-pool lease` does with a lease whatever becomes of it, seen from within."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from session_pool import Lease, SessionPool
from session_pool.cli.leasing import Wish, hold, run, use
from session_pool.cli.stopping import Stop
from session_pool.cli.words import Failed
from session_pool.emulator import AGENT_RID, Emulator
from session_pool.policy import AgentPolicy

STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"


@pytest.fixture
async def pool() -> AsyncIterator[SessionPool]:
    async with (
        Emulator(create_latency_s=0.0) as emu,
        SessionPool(url=emu.url, token=emu.token, policy=AgentPolicy(min_idle=0)) as pool,
    ):
        yield pool


async def lose_when_ready(held: Lease, fifo: Path) -> None:
    """Wait until the command has opened the pipe, which is when it is ready; then lose it."""
    os.close(await asyncio.to_thread(os.open, fifo, os.O_RDONLY))
    held.lose("lapsed")


@pytest.mark.parametrize(("first", "grace_s"), [("", 30.0), (STUBBORN, 0.0)])
async def test_a_lost_lease_ends_the_command_one_way_or_another(
    pool: SessionPool, tmp_path: Path, first: str, grace_s: float
) -> None:
    fifo = tmp_path / "ready"
    os.mkfifo(fifo)
    script = f"{first}\nimport time\nopen({str(fifo)!r}, 'w').close()\ntime.sleep(60)"
    held = await pool.acquire(AGENT_RID)
    losing = asyncio.create_task(lose_when_ready(held, fifo))
    with pytest.raises(Failed, match=r"^the lease was lost, .*; the command was terminated$") as it:
        await run(held, (sys.executable, "-c", script), Stop(), grace_s=grace_s)
    await losing
    assert it.value.code == 1


async def test_a_lost_lease_ends_the_holding(
    pool: SessionPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = await pool.acquire(AGENT_RID)
    reading, writing = os.pipe()
    monkeypatch.setattr("session_pool.cli.leasing.INPUT", reading)
    holding = asyncio.create_task(hold(held, Stop()))
    held.lose("lapsed")
    with pytest.raises(Failed, match=r"^the lease was lost"):
        await holding
    os.close(writing)


async def use_with(pool: SessionPool, conversation: str | None, script: str) -> int:
    wish = Wish(AGENT_RID, conversation, command=("sh", "-c", script))
    return await use(await pool.acquire(AGENT_RID, conversation=conversation), wish, Stop())


async def test_a_session_that_was_lent_is_retired(pool: SessionPool) -> None:
    assert await use_with(pool, None, "exit 3") == 3
    stats = pool.stats()
    assert (stats.leased, stats.idle, stats.parked) == (0, 0, 0)
    assert stats.retiring + stats.retired == 1


async def test_a_conversation_gets_its_session_again_and_it_is_new_only_once(
    pool: SessionPool, tmp_path: Path
) -> None:
    told = tmp_path / "told"
    for _ in range(2):
        await use_with(pool, "talk", f'echo "$SESSION_RID $SESSION_IS_NEW" >> {told}')
    (first, new), (second, again) = (line.split() for line in told.read_text().splitlines())
    assert first == second
    assert (new, again) == ("1", "0")
    assert pool.stats().parked == 1


async def test_a_command_that_was_cut_off_leaves_its_session_in_quarantine(
    pool: SessionPool,
) -> None:
    assert await use_with(pool, "talk", "kill -9 $$") == 137
    stats = pool.stats()
    assert (stats.quarantined, stats.parked) == (1, 0)


async def test_a_conversation_that_lost_its_session_is_told(
    pool: SessionPool, capsys: pytest.CaptureFixture[str]
) -> None:
    await use_with(pool, "talk", "exit 0")
    async with pool.acquire(AGENT_RID, conversation="talk") as held:
        await held.release(discard=True)
    await use_with(pool, "talk", "exit 0")
    _, err = capsys.readouterr()
    assert err == (
        "session-pool: this conversation's earlier session is no more (discarded), and with it "
        "what was said; this one is new\n"
    )


async def test_a_signal_while_a_command_is_started_reaches_it(pool: SessionPool) -> None:
    stop = Stop()
    stop.ask(signal.SIGTERM)
    async with pool.acquire(AGENT_RID) as held:
        assert await run(held, ("sleep", "60"), stop) == 143
