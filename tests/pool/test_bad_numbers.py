"""Numbers, names and kinds that cannot be meant: refused by name, and in nobody's way (B7)."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
from typing import Any

import pytest

from session_pool import (
    AcquireTimeout,
    Agent,
    AgentPolicy,
    ConfigError,
    PoolClosed,
    SessionPool,
    StaticToken,
)
from session_pool.emulator import AGENT_RID
from tests.pool.house import LEFT, house, outcome

URL = "https://stack.example.com"

NO_SECONDS: list[Any] = [-1, -0.001, float("nan"), 10**400, "5", b"5", [5], object()]


async def _waits(work: Any) -> BaseException | None:
    done = await outcome(work)
    return done if isinstance(done, BaseException) else None


@pytest.mark.looptime
@pytest.mark.parametrize("timeout", NO_SECONDS, ids=lambda one: str(one)[:10])
async def test_a_timeout_that_is_none_is_refused_wherever_one_is_taken(timeout: Any) -> None:
    async with house(create_latency_s=5.0, policy=AgentPolicy(min_idle=1)) as home:
        pool, talk = home.pool, home.pool.conversation(home.agent, "a")
        with pytest.raises(ConfigError, match="timeout"):
            pool.acquire(home.agent, timeout=timeout)
        for use in (
            talk.ask("x", timeout=timeout),
            talk.stream("x", timeout=timeout).__aenter__(),
            pool.ready(timeout),
            pool.warm(home.agent, 2, timeout),
            pool.aclose(timeout),
        ):
            refused = await outcome(use)
            assert isinstance(refused, ConfigError)
            assert "timeout" in str(refused)
        async with home.pool.acquire(home.agent, conversation="b") as lease:
            with pytest.raises(ConfigError, match="timeout"):
                await lease.blocking_continue("x", timeout=timeout)
            with pytest.raises(ConfigError, match="timeout"):
                lease.streaming_continue("x", timeout=timeout)
        assert (home.stats.leased, home.stats.waiting) == (0, 0)


@pytest.mark.looptime
async def test_nobodys_timeout_is_late_because_of_anothers() -> None:
    loop = asyncio.get_running_loop()

    async def waits(timeout: float) -> float:
        began = loop.time()
        assert isinstance(await outcome(home.lease(timeout=timeout)), AcquireTimeout)
        return loop.time() - began

    async with house(faults=["create:*:503"]) as home:
        first = asyncio.create_task(waits(5.0))
        odd = asyncio.create_task(outcome(home.pool.warm(home.agent, 1, float("nan"))))
        await asyncio.sleep(0.1)
        second = asyncio.create_task(waits(2.0))
        assert await second == pytest.approx(2.0, abs=0.1)
        assert await first == pytest.approx(5.0, abs=0.1)
        assert isinstance(await odd, ConfigError)


@pytest.mark.looptime
async def test_for_ever_can_be_said_and_so_can_very_long() -> None:
    async with house(dirty=LEFT) as home:
        for timeout in (float("inf"), 1e308, True):
            await (await home.lease(timeout=timeout)).release()
        assert (await home.ask("a", timeout=float("inf"))).context == "new"


@pytest.mark.looptime
@pytest.mark.parametrize("wish", [*NO_SECONDS, float("inf")], ids=lambda one: str(one)[:10])
async def test_a_wish_for_life_that_is_none(wish: Any) -> None:
    async with house() as home:
        with pytest.raises(ConfigError, match="min_remaining_s"):
            home.pool.acquire(home.agent, min_remaining_s=wish)


@pytest.mark.looptime
@pytest.mark.parametrize("exchanges", [-1, 1.5, float("nan"), "2", None])
async def test_a_number_of_exchanges_that_is_none(exchanges: Any) -> None:
    async with house() as home:
        lease = await home.lease()
        with pytest.raises(ConfigError, match="exchanges"):
            await lease.touch(exchanges)
        await lease.release(unused=True)  # and it counts for nothing
        assert home.stats.idle == 1


@pytest.mark.looptime
async def test_half_a_surrogate_pair_is_no_name() -> None:
    async with house() as home:
        for key in ("\ud800", ("a", "b\udfff")):
            with pytest.raises(ConfigError, match="conversation"):
                home.pool.conversation(home.agent, key)
            with pytest.raises(ConfigError, match="conversation"):
                home.pool.acquire(home.agent, conversation=key)


@pytest.mark.looptime
@pytest.mark.parametrize(
    "key",
    ["😀" * 40, "x" * 100_000, "a/b", ("a", "b"), "\n\t'\"\\%_"],
    ids=["no letters", "long", "a slash", "two parts", "signs"],
)
async def test_a_name_may_be_anything_else(key: str | tuple[str, ...]) -> None:
    async with house(dirty=(*LEFT, "exchanges_on_dead_sessions")) as home:
        talk = home.pool.conversation(home.agent, key)
        first = await talk.ask("x")
        assert (await talk.ask("y")).session_rid == first.session_rid
        home.emu.expire(first.session_rid)
        again = await talk.ask("z")
        assert (again.context, again.replaces) == ("lost", first.session_rid)


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("parameter_inputs", {"a": dt.datetime(2024, 1, 1, tzinfo=dt.UTC)}),
        ("parameter_inputs", {"secret": float("nan")}),
        ("parameter_inputs", "secret"),
        ("parameter_inputs", [1]),
        ("contexts_override", "secret"),
        ("contexts_override", 5),
        ("contexts_override", [object()]),
    ],
)
async def test_what_json_cannot_carry_is_named_and_not_quoted(argument: str, value: Any) -> None:
    async with house() as home:
        lease = await home.lease(conversation="a")
        given: dict[str, Any] = {argument: value}
        with pytest.raises(ConfigError, match=argument) as refused:
            await lease.blocking_continue("x [[a]]", **given)
        assert "secret" not in str(refused.value)
        assert refused.value.__cause__ is None
        with pytest.raises(ConfigError, match=argument):
            await anext(lease.streaming_continue("x [[a]]", **given))
        assert (await lease.blocking_continue("y [[a]]")).text.startswith("#1")
        await lease.release()
        assert home.stats.parked == 1


# ------------------------------------------------------------------------------ kinds


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("url", None),
        ("url", 5),
        ("url", b"https://stack.example.com"),
        ("url", "https://stack example.com"),
        ("token", b"t"),
        ("token", 5),
        ("auth", "t"),
        ("policy", {"min_idle": 2}),
        ("limits", {"requests_per_minute": 5}),
        ("agents", [Agent(AGENT_RID)]),
    ],
)
def test_an_argument_of_another_kind_is_refused_by_name(argument: str, value: Any) -> None:
    given: dict[str, Any] = {"url": URL, "token": "t", argument: value}
    if argument == "auth":
        del given["token"]
    with pytest.raises(ConfigError, match=argument):
        SessionPool(**given)


def test_an_agents_policy_of_another_kind() -> None:
    policy: Any = {"min_idle": 2}
    with pytest.raises(ConfigError, match="policy"):
        Agent(AGENT_RID, policy)


@pytest.mark.parametrize(
    "url", [URL, f" {URL} ", f"{URL}/", "HTTPS://Stack.Example.COM", f"{URL}:443"]
)
def test_a_stack_is_the_same_however_its_address_is_written(url: str) -> None:
    pool = SessionPool(url=url, token="t")
    assert repr(pool) == repr(SessionPool(url=URL, auth=StaticToken("t")))


@pytest.mark.looptime
async def test_a_thread_without_a_loop_is_told() -> None:
    async with house() as home:
        told: list[BaseException] = []

        def use() -> None:
            try:
                home.pool.conversation(home.agent, "a")
            except PoolClosed as error:
                told.append(error)

        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
        assert "event loop" in str(told[0])
