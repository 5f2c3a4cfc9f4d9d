"""Nobody's cancellation loses, leaks or blocks anything (B9, B22, B23), here: of leases.

Each test cancels one thing at each of its awaits, in every way, on both kinds of store.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

import pytest

from session_pool import ExchangeUncertain
from tests.cancelling import WAYS, Way, Work, at_each_await
from tests.pool.cancelled_house import (
    AGENT,
    KINDS,
    House,
    Kind,
    Prepare,
    house,
)

pytestmark = pytest.mark.looptime


class Case(NamedTuple):
    """A scene, and what it needs of emulator and policy."""

    prepare: Prepare
    needs: dict[str, Any]


CASES: Final[dict[str, Case]] = {}


def case(**needs: Any) -> Callable[[Prepare], Prepare]:
    """Make a scene a case, under its own name."""

    def add(prepare: Prepare) -> Prepare:
        CASES[prepare.__name__.removeprefix("_")] = Case(prepare, needs)
        return prepare

    return add


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CASES)
async def test_cancelling_loses_nothing(name: str, way: Way, kind: Kind) -> None:
    made = CASES[name]

    @asynccontextmanager
    async def scene() -> AsyncIterator[Work]:
        async with house(kind, **made.needs) as here:
            yield await made.prepare(here)

    await at_each_await(scene, way)


def taking(here: House, **asked: Any) -> Work:
    """An acquire whose lease, if it comes, the scene holds."""

    async def work() -> None:
        here.held.append(await here.pool.acquire(AGENT, **asked))

    return work


# -------------------------------------------------------------------------------------- acquire


@case(policy={"min_idle": 1})
async def acquiring_what_lies_ready(here: House) -> Work:
    return taking(here)


@case()
async def acquiring_what_must_be_created(here: House) -> Work:
    return taking(here)


@case(policy={"max_leased": 1})
async def acquiring_in_line_for_a_place(here: House) -> Work:
    lease = await here.hold()
    here.later(1.0, lease.release)
    return taking(here)


@case(policy={"max_leased": 1})
async def acquiring_in_line_before_another(here: House) -> Work:
    lease = await here.hold()
    here.later(1.0, lease.release)
    here.later(0.5, lambda: _join(here))
    work = taking(here)

    async def release_at_once() -> None:
        await work()
        await here.held[-1].release()

    return release_at_once


async def _join(here: House) -> None:
    here.other()


@case()
async def acquiring_before_another_who_needs_a_creation_too(here: House) -> Work:
    here.later(0.1, lambda: _join(here))
    return taking(here)


@case()
async def acquiring_in_a_conversations_line(here: House) -> Work:
    await here.speak("c")
    lease = await here.hold("c")
    here.later(1.0, lease.release)
    return taking(here, conversation="c")


@case()
async def acquiring_for_a_new_conversation(here: House) -> Work:
    here.conversations.append("c")
    return taking(here, conversation="c")


@case(emulator={"lifetime_s": 2000.0, "latency_s": 0.1})
async def acquiring_what_one_get_must_confirm(here: House) -> Work:
    await here.speak("c")
    await asyncio.sleep(1999.5)  # less than doubt_s is left, by the estimate
    return taking(here, conversation="c")


@case(emulator={"lifetime_s": 2000.0, "latency_s": 0.1})
async def acquiring_what_one_get_finds_dead(here: House) -> Work:
    await here.speak("c")
    await asyncio.sleep(1999.5)  # less than doubt_s is left, by the estimate
    for rid in here.emu.sessions:
        here.emu.expire(rid)
    return taking(here, conversation="c")


# ------------------------------------------------------------------------------------- give back


@case(policy={"min_idle": 1})
async def releasing_as_used(here: House) -> Work:
    lease = await here.hold()
    return lease.release


@case(policy={"min_idle": 1})
async def releasing_unread(here: House) -> Work:
    lease = await here.hold()
    return lambda: lease.release(unused=True)


@case(policy={"min_idle": 1})
async def releasing_as_unused_though_read(here: House) -> Work:
    lease = await here.hold()
    assert lease.rid
    return lambda: lease.release(unused=True)


@case(policy={"min_idle": 1})
async def releasing_to_be_discarded(here: House) -> Work:
    lease = await here.hold()
    return lambda: lease.release(discard=True)


@case()
async def releasing_a_conversations(here: House) -> Work:
    await here.speak("c")
    lease = await here.hold("c")
    return lease.release


@case()
async def releasing_before_another_who_waits(here: House) -> Work:
    await here.speak("c")
    lease = await here.hold("c")
    here.other("c")
    await asyncio.sleep(0)
    return lease.release


@case()
async def releasing_in_the_middle_of_a_stream(here: House) -> Work:
    here.conversations.append("c")
    lease = await here.hold("c")
    stream = lease.streaming_continue("a long answer, please [[c]]")
    await anext(stream)
    return lease.release


@case()
async def a_whole_block(here: House) -> Work:
    here.conversations.append("c")

    async def work() -> None:
        async with here.pool.acquire(AGENT, conversation="c") as lease:
            await lease.blocking_continue("in a block [[c]]")
            await lease.touch(0)

    return work


# -------------------------------------------------------------------------------- while it is held


@case()
async def renewing(here: House) -> Work:
    lease = await here.hold()
    return lease.renew


@case()
async def touching(here: House) -> Work:
    lease = await here.hold()
    return lease.touch


@case()
async def an_exchange(here: House) -> Work:
    here.conversations.append("c")
    lease = await here.hold("c")
    return lambda: lease.blocking_continue("what is it? [[c]]")


@case()
async def an_exchange_without_a_conversation(here: House) -> Work:
    lease = await here.hold()
    return lambda: lease.blocking_continue("what is it? [[anonymous]]")


@case()
async def a_stream(here: House) -> Work:
    here.conversations.append("c")
    lease = await here.hold("c")

    async def work() -> None:
        async with lease.streaming_continue("say it slowly [[c]]") as stream:
            async for _ in stream:
                pass

    return work


@case()
async def a_stream_whose_iterator_nobody_closes(here: House) -> Work:
    here.conversations.append("c")
    lease = await here.hold("c")

    async def work() -> None:
        async for _ in lease.streaming_continue("say it slowly [[c]]"):
            pass

    return work


@case()
async def cancelling_an_exchange(here: House) -> Work:
    here.conversations.append("c")
    lease = await here.hold("c")
    stream = lease.streaming_continue("say it slowly, it will be stopped [[c]]")
    await anext(stream)
    return lambda: lease.cancel("stopped")


@case()
async def starting_over(here: House) -> Work:
    await here.speak("c")
    here.left_behind = 1
    lease = await here.hold("c")
    return lease.start_over


# ---------------------------------------------------------------------------------- conversations


@case()
async def asking(here: House) -> Work:
    here.conversations.append("c")
    return lambda: here.pool.conversation(AGENT, "c").ask("first words [[c]]")


@case()
async def asking_again(here: House) -> Work:
    await here.speak("c")
    return lambda: here.pool.conversation(AGENT, "c").ask("second words [[c]]")


@case()
async def asking_where_the_session_is_dead(here: House) -> Work:
    await here.speak("c")
    for rid in here.emu.sessions:
        here.emu.expire(rid)
    here.found_dead = 2  # by the work, cut off, and by who comes next

    async def work() -> None:
        reply = await here.pool.conversation(AGENT, "c").ask("anybody there? [[c]]")
        assert reply.context == "lost"

    return work


@case()
async def streaming_a_turn(here: House) -> Work:
    await here.speak("c")

    async def work() -> None:
        async with here.pool.conversation(AGENT, "c").stream("slowly [[c]]") as stream:
            async for _ in stream:
                pass

    return work


@case()
async def a_conversation_starting_over(here: House) -> Work:
    await here.speak("c")
    here.left_behind = 1
    return here.pool.conversation(AGENT, "c").start_over


@case()
async def forgetting(here: House) -> Work:
    await here.speak("c")
    here.left_behind = 1
    return lambda: here.pool.conversation(AGENT, "c").forget(delete_remote=True)


@case()
async def forgetting_while_a_turn_goes_on(here: House) -> Work:
    await here.speak("c")
    here.left_behind = 1
    lease = await here.hold("c")
    here.later(1.0, lease.release)
    return here.pool.conversation(AGENT, "c").forget


# ------------------------------------------------------------------------ a lease that is kept


async def test_nothing_is_said_while_what_was_cut_off_may_be_going_on() -> None:
    async with house("local") as here:
        lease = await here.hold("c")
        here.conversations.append("c")
        speaking = asyncio.create_task(lease.blocking_continue("cut off [[c]]"))
        await asyncio.sleep(0.1)
        speaking.cancel()
        await asyncio.wait([speaking])
        with pytest.raises(ExchangeUncertain) as caught:
            await lease.blocking_continue("too soon [[c]]")
        assert caught.value.trace_id
        assert here.emu.requests("exchange") == 1
