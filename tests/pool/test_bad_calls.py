"""Bad input in the calls of an open pool: one clear message, and nothing is lost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from session_pool import (
    AlreadyHeld,
    ConfigError,
    PoolClosed,
    RemoteRejected,
    SessionPool,
)
from session_pool.emulator import AGENT_RID, Emulator
from tests.pool.house import house
from tests.pool.refusing import nothing_lost, refused

# ------------------------------------------------------------------------------ the calls


@pytest.mark.looptime
@pytest.mark.parametrize("key", ["", (), ("a", ""), 7, ["a"], ("a", 1), "a\x1fb", b"a"])
async def test_a_conversation_key_that_is_none(key: Any) -> None:
    async with house() as home:
        refused(lambda: home.pool.conversation(home.agent, key), "conversation", "key")
        refused(lambda: home.pool.acquire(home.agent, conversation=key), "conversation", "key")
        nothing_lost(home)


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("wish", "word"),
    [
        ({"timeout": -1}, "timeout"),
        ({"min_remaining_s": -1}, "min_remaining_s"),
        ({"min_remaining_s": float("nan")}, "min_remaining_s"),
        ({"min_remaining_s": float("inf")}, "min_remaining_s"),
        ({"agent_version": "1"}, "agent_version"),
        ({"agent_version": ""}, "agent_version"),
        ({"timeout": float("nan")}, "timeout"),
    ],
)
async def test_a_wish_that_cannot_be_meant(wish: dict[str, Any], word: str) -> None:
    async with house() as home:
        refused(lambda: home.pool.acquire(home.agent, **wish), word)
        nothing_lost(home)


@pytest.mark.looptime
async def test_what_cannot_be_said() -> None:
    async with house() as home:
        lease = await home.lease(conversation="a")
        nothing: Any = None
        uses: list[tuple[str, Callable[[], Awaitable[object]]]] = [
            ("text", lambda: lease.blocking_continue(nothing)),
            ("timeout", lambda: lease.blocking_continue("x", timeout=-1)),
            ("timeout must be more than 0", lambda: lease.blocking_continue("x", timeout=0)),
            ("exchanges", lambda: lease.touch(-1)),
            ("cancel", lease.cancel),
        ]
        for word, use in uses:
            with pytest.raises(ConfigError, match=word):
                await use()
        refused(lambda: lease.streaming_continue(nothing), "text")
        refused(lambda: lease.streaming_continue("x", timeout=-1), "timeout")
        stream = lease.streaming_continue("x [[a]]")
        await anext(stream)
        with pytest.raises(ConfigError, match="one exchange at a time"):
            await lease.blocking_continue("y [[a]]")
        assert [piece async for piece in stream]
        await lease.release()
        assert home.stats.parked == 1
        for never in (-1, 0):
            with pytest.raises(ConfigError, match="timeout"):
                await home.ask("a", timeout=never)
        assert (home.stats.parked, home.stats.leased) == (1, 0)


@pytest.mark.looptime
async def test_a_bare_parameter_is_told_how_it_is_written() -> None:
    async with house() as home:
        with pytest.raises(RemoteRejected, match=r"parameter_inputs must .*\"type\""):
            await home.ask("a", parameter_inputs={"colour": "red"})


@pytest.mark.looptime
async def test_acquire_after_close_and_before_open() -> None:
    async with Emulator() as emu:
        pool = SessionPool(url=emu.url, token=emu.token)
        for use in (
            lambda: pool.acquire(AGENT_RID),
            lambda: pool.conversation(AGENT_RID, "a"),
            lambda: pool.stats(),
        ):
            with pytest.raises(PoolClosed, match="not open"):
                use()
        await pool.open()
        await pool.aclose()
        for use in (
            lambda: pool.acquire(AGENT_RID),
            lambda: pool.conversation(AGENT_RID, "a"),
        ):
            with pytest.raises(PoolClosed, match="closed"):
                use()
        with pytest.raises(PoolClosed):
            await pool.ready(1)


@pytest.mark.looptime
async def test_a_handle_kept_past_the_close_is_told() -> None:
    async with house() as home:
        talk = home.pool.conversation(home.agent, "a")
        asking = home.pool.acquire(home.agent)
        await home.pool.aclose()
        with pytest.raises(PoolClosed):
            await talk.ask("x")
        with pytest.raises(PoolClosed):
            await asking


@pytest.mark.looptime
async def test_a_conversation_acquired_twice_by_one_task() -> None:
    async with house() as home:
        lease = await home.lease(conversation="a")
        with pytest.raises(AlreadyHeld, match="already"):
            await home.lease(conversation="a")
        await lease.release()
        assert (home.stats.parked, home.stats.waiting) == (1, 0)
