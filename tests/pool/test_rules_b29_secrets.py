"""B29: no token and no text reaches a log, an error, a repr or an event; keys only as a hash."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import astuple

import pytest

from session_pool import (
    Agent,
    AgentPolicy,
    Conversation,
    Reply,
    SessionPool,
    SessionPoolError,
    StaticToken,
)
from session_pool.emulator import AGENT_RID, Emulator
from session_pool.stores.memory import MemoryStore
from tests.pool.house import LEFT, House, house, outcome

pytestmark = pytest.mark.looptime

TOKEN = "sesame-open-7f3a9c"
TEXT = "my-password-is-swordfish"
ANSWER = "answer-that-nobody-else-may-read"
KEY = "customer-4711@example.com"
PARAMETER = "parameter-value-of-the-caller"
SECRETS = (TOKEN, TEXT, ANSWER, KEY, PARAMETER)

FAULTS = (
    "exchange:2:429",
    "exchange:4:500",
    "exchange:5:lost_after",
    "exchange:7:InvalidParameter",
    "exchange:8:ContextSizeExceededLimit",
    "exchange:9:malformed",
    "exchange:10:SessionNotFound",
    "exchange:12:401",
    "exchange:13:RateLimitExceeded",
    "exchange:14:cut_after",
    "create:3:500",
    "create:4:lost_after",
    "create:5:malformed",
    "create:7:AgentNotFound",
    "get:2:500",
    "trace:3:500",
    "content:2:malformed",
)


def _told(error: BaseException) -> str:
    """All that somebody who prints an error may see, its causes included."""
    parts: list[str] = []
    seen: BaseException | None = error
    while seen is not None:
        parts += [str(seen), repr(seen), str(vars(seen)), str(seen.args)]
        seen = seen.__cause__ or seen.__context__
    return " ".join(parts)


async def _streamed(talk: Conversation, text: str) -> Reply:
    async with talk.stream(text, timeout=40) as stream:
        async for _ in stream:
            pass
    return stream.reply


async def _busy(home: House) -> list[str]:
    """Much goes on and much goes wrong; everything that could be printed by the way."""
    told: list[str] = [repr(home.pool), repr(StaticToken(TOKEN))]
    talk = home.pool.conversation(home.agent, KEY)
    told.append(repr(talk))
    for n in range(16):
        if n % 3 == 2:
            found = await outcome(_streamed(talk, f"{TEXT} {n}"))
        else:
            found = await outcome(
                talk.ask(
                    f"{TEXT} {n}",
                    timeout=40,
                    parameter_inputs={"p": {"type": "string", "value": PARAMETER}},
                )
            )
        told.append(_told(found) if isinstance(found, BaseException) else repr(found))
        if isinstance(found, BaseException):
            assert isinstance(found, SessionPoolError), found
        cut = asyncio.create_task(talk.ask(f"{TEXT} cut {n}"))
        await asyncio.sleep(0.5)
        cut.cancel()
        await outcome(cut)
        await asyncio.sleep(40)
    lease = await home.pool.acquire(home.agent, conversation=(KEY, "2"), timeout=60)
    told += [repr(lease), repr(lease.session), lease.lease_id, lease.where]
    told.append(repr(await outcome(lease.blocking_continue(f"{TEXT} lease", timeout=100))))
    told += [repr(lease.last_exchange), repr(home.pool.stats())]
    late = await outcome(home.pool.acquire(home.agent, conversation=(KEY, "2"), timeout=1))
    own = await outcome(talk.start_over())
    told += [_told(it) for it in (late, own) if isinstance(it, BaseException)]
    await lease.release()
    told.append(repr(lease))
    return told


async def test_a_busy_day_and_nothing_of_it_is_told(caplog: pytest.LogCaptureFixture) -> None:
    policy = AgentPolicy(min_idle=1, error_ttl_s=5)
    caplog.set_level(logging.DEBUG)
    async with house(
        policy=policy,
        dirty=[*LEFT, "exchanges_on_dead_sessions"],
        exact=False,
        faults=FAULTS,
        reply=lambda ask: f"{ANSWER} to {ask.number}",
        exchange_latency_s=2.0,
        error_descriptions=True,
    ) as home:
        pool = home.pool
        async with SessionPool(
            url=home.emu.url,
            token=TOKEN,
            policy=policy,
            agents={"orders": Agent(AGENT_RID)},
        ) as own:
            home.pool = own
            subscription = own.subscribe()
            told = await _busy(home)
        events = [event async for event in subscription]
        home.pool = pool
    assert len({type(event) for event in events}) >= 6
    told += [repr(event) for event in events]
    told += [str(astuple(event)) for event in events]
    ours = [it for it in caplog.records if it.name.startswith("session_pool")]
    assert len(ours) > 30
    told += [f"{it.getMessage()} {vars(it)}" for it in ours]
    formatter = logging.Formatter()
    told += [formatter.format(it) for it in ours]
    for secret in SECRETS:
        assert [line for line in told if secret in line] == []
    assert home.emu.audit().exchanges > 10


async def test_events_name_a_conversation_by_the_same_hash() -> None:
    async with house(lifetime_s=3600.0) as home:
        for key in (KEY, KEY + "2", KEY):
            await home.ask(key)
            await asyncio.sleep(4000)
        await home.ask(KEY)
        hashes = [getattr(event, "conversation", None) for event in home.events]
        found = [it for it in hashes if it]
        assert len(found) == 2
        assert len(set(found)) == 1
        assert KEY not in found[0]


async def test_what_lies_in_the_store_has_no_text_and_no_token() -> None:
    store = MemoryStore(clock=asyncio.get_running_loop().time)
    async with house(
        pool={"store": store}, exchange_latency_s=5.0, fresh_title=TEXT, reply=lambda _: ANSWER
    ) as home:
        await home.ask("plain", TEXT)
        cut = asyncio.create_task(home.ask("plain", TEXT + "2"))
        await asyncio.sleep(1)
        cut.cancel()
        await outcome(cut)
        (key,) = [desk.key for desk in home.pool._desks.all()]
        entries = await store.find(key)
        assert entries
        for entry in entries:
            shown = repr(entry)
            for secret in (TEXT, ANSWER, home.emu.token):
                assert secret not in shown


async def test_lease_ids_are_unguessable_and_differ() -> None:
    async with house() as home:
        ids = set()
        for _ in range(20):
            lease = await home.lease()
            ids.add(lease.lease_id)
            await lease.release(unused=True)
        assert len(ids) == 20
        assert len({it[:4] for it in ids}) > 15


async def test_reprs_say_the_state() -> None:
    async with Emulator() as emu:
        pool = SessionPool(url=emu.url, token=TOKEN, agents={"orders": Agent(AGENT_RID)})
        host = emu.url.partition("://")[2]
        assert repr(pool) == f"<SessionPool of {host}, not open>"
        async with pool:
            assert repr(pool) == f"<SessionPool of {host}, open>"
            assert repr(pool.conversation("orders", KEY)) == "<Conversation with orders>"
            lease = await pool.acquire("orders")
            rid = lease.rid
            assert repr(lease) == f"<Lease held of {rid} for orders>"
            await lease.release()
            assert repr(lease) == f"<Lease over of {rid} for orders>"
        assert repr(pool) == f"<SessionPool of {host}, closed>"
