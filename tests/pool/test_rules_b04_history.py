"""B4: nobody reads another's history. What a lease was used for is checked, not believed."""

from __future__ import annotations

import asyncio

import pytest

from session_pool import AgentPolicy, Lease
from session_pool.events import Mislabelled, SessionDeleted, SessionRetired
from tests.pool.house import LEFT, House, house, spin

pytestmark = pytest.mark.looptime


async def test_a_session_that_saw_an_exchange_goes_to_nobody_else() -> None:
    async with house() as home:
        rids = set()
        for n in range(5):
            async with home.pool.acquire(home.agent) as lease:
                await lease.blocking_continue(f"words {n} [[somebody {n}]]")
                rids.add(lease.rid)
        assert len(rids) == 5
        assert home.emu.audit().sessions_with_two_marks == 0


async def test_a_conversations_session_is_not_for_an_anonymous_lease() -> None:
    async with house() as home:
        reply = await home.ask("a")
        async with home.pool.acquire(home.agent) as lease:
            assert lease.rid != reply.session_rid
        other = await home.ask("b")
        assert other.session_rid != reply.session_rid


async def test_without_a_word_a_lease_is_retired_on_release() -> None:
    """A plain release says "used": another client may have talked to the RID it read."""
    async with house() as home:
        async with home.pool.acquire(home.agent) as lease:
            rid = lease.rid
        await spin(3)
        assert [event.reason for event in home.happened(SessionRetired)] == ["used"]
        async with home.pool.acquire(home.agent) as lease:
            assert lease.rid != rid
        assert home.emu.is_alive(rid)  # somebody's record, perhaps: it is not deleted


@pytest.mark.parametrize("how", ["release", "mark"])
async def test_unused_and_unread_goes_back_at_once(how: str) -> None:
    async with house() as home:
        for _ in range(3):
            lease = await home.lease()
            if how == "release":
                await lease.release(unused=True)
            else:
                async with lease:
                    lease.mark_unused()
            assert (home.stats.idle, home.stats.quarantined) == (1, 0)
        assert home.emu.requests("create") == 1
        assert home.emu.requests("get") == 0


@pytest.mark.parametrize("read", ["rid", "session"])
async def test_unused_but_read_settles_and_a_get_decides(read: str) -> None:
    policy = AgentPolicy(min_idle=0, settle_s=60)
    async with house(policy=policy) as home:
        lease = await home.lease()
        getattr(lease, read)
        await lease.release(unused=True)
        await asyncio.sleep(59)
        assert (home.stats.idle, home.stats.quarantined) == (0, 1)
        assert home.emu.requests("get") == 0
        await asyncio.sleep(2)
        assert (home.stats.idle, home.stats.quarantined) == (1, 0)
        assert home.emu.requests("get") == 1
        again = await home.lease(timeout=0)
        assert again.is_new
        await again.release(unused=True)


@pytest.mark.parametrize("when_s", [0.0, 30.0, 59.0])
async def test_said_to_be_unused_and_used_all_the_same_is_found_out(when_s: float) -> None:
    async with house() as home:
        lease = await home.lease()
        rid = lease.rid
        await lease.release(unused=True)
        await asyncio.sleep(when_s)
        home.emu.exchange_elsewhere(rid)
        await asyncio.sleep(61)
        assert [event.session_rid for event in home.happened(Mislabelled)] == [rid]
        assert (home.stats.idle, home.stats.retired) == (0, 1)
        assert home.emu.is_alive(rid)
        async with home.pool.acquire(home.agent) as other:
            assert other.rid != rid


async def test_a_fresh_session_need_not_count_zero_messages() -> None:
    async with house(fresh_message_count=1) as home:
        lease = await home.lease()
        assert lease.session.message_count == 1
        await lease.release(unused=True)
        await asyncio.sleep(61)
        assert (home.stats.idle, home.happened(Mislabelled)) == (1, [])


async def _exchanged(lease: Lease) -> None:
    await lease.blocking_continue("used")


async def _streamed(lease: Lease) -> None:
    assert [piece async for piece in lease.streaming_continue("used")]


async def _touched(lease: Lease) -> None:
    await lease.touch()


@pytest.mark.parametrize("use", [_exchanged, _streamed, _touched])
async def test_used_counts_as_used_whatever_is_said(use: object) -> None:
    async with house() as home:
        lease = await home.lease()
        await use(lease)  # type: ignore[operator]  # one of the three above
        await lease.release(unused=True)
        await spin(3)
        assert (home.stats.idle, home.stats.quarantined) == (0, 0)
        assert [event.reason for event in home.happened(SessionRetired)] == ["used"]


async def test_a_get_that_fails_decides_nothing() -> None:
    async with house() as home:
        lease = await home.lease()
        assert lease.rid
        await lease.release(unused=True)
        home.emu.inject("get:*:500")
        await asyncio.sleep(3600)
        assert home.stats.idle == 0  # never handed out unseen
        assert home.stats.quarantined + home.stats.retired == 1


async def test_unused_and_dead_by_then_is_gone() -> None:
    async with house() as home:
        lease = await home.lease()
        home.emu.expire(lease.rid)
        await lease.release(unused=True)
        await asyncio.sleep(61)
        assert (home.stats.idle, home.stats.quarantined, home.stats.retired) == (0, 0, 1)


async def test_a_block_that_ends_in_an_error_before_anything_was_read_goes_back() -> None:
    async with house() as home:
        with pytest.raises(ZeroDivisionError):
            async with home.pool.acquire(home.agent):
                raise ZeroDivisionError
        assert home.stats.idle == 1


async def test_reuse_anyone_hands_the_used_out_again() -> None:
    policy = AgentPolicy(min_idle=0, reuse="anyone")
    async with house(policy=policy) as home:
        rids = []
        for n in range(3):
            async with home.pool.acquire(home.agent) as lease:
                await lease.blocking_continue(f"stateless {n}")
                rids.append(lease.rid)
        assert len(set(rids)) == 1
        assert home.emu.requests("create") == 1


async def test_reuse_anyone_says_so_loudly(caplog: pytest.LogCaptureFixture) -> None:
    policy = AgentPolicy(min_idle=0, reuse="anyone")
    async with house(policy=policy) as home:
        for _ in range(3):
            await (await home.lease()).release()
    assert len([it for it in caplog.messages if "reuse" in it and "anyone" in it]) == 1


@pytest.mark.parametrize(
    ("delete", "unused_left", "used_left"),
    [("unused", False, True), ("all", False, False), ("none", True, True)],
)
async def test_what_is_deleted_at_the_remote_is_the_policys_word(
    delete: str, unused_left: bool, used_left: bool
) -> None:
    policy = AgentPolicy.model_validate({"min_idle": 0, "max_idle": 0, "delete_retired": delete})
    async with house(policy=policy) as home:
        used, unused = await _one_of_each(home)
        await asyncio.sleep(5)
        assert home.emu.is_alive(used) == used_left
        assert home.emu.is_alive(unused) == unused_left
        gone = {event.session_rid for event in home.happened(SessionDeleted)}
        assert gone == {rid for rid in (used, unused) if not home.emu.is_alive(rid)}


async def _one_of_each(home: House) -> tuple[str, str]:
    async with home.pool.acquire(home.agent) as lease:
        await lease.blocking_continue("used")
        used = lease.rid
    async with home.pool.acquire(home.agent) as lease:
        lease.mark_unused()
    (unused,) = set(home.emu.sessions) - {used}
    return used, unused


async def test_discard_retires_even_a_conversations_session() -> None:
    async with house(dirty=LEFT) as home:
        first = await home.ask("a")
        lease = await home.lease(conversation="a")
        await lease.release(discard=True)
        again = await home.ask("a")
        assert (again.context, again.replaces) == ("lost", first.session_rid)
        async with home.pool.acquire(home.agent, conversation="a") as held:
            assert held.replace_reason == "discarded"
