"""What answers leave out or get wrong, and an auth or api of the user's own that fails oddly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from session_pool import AcquireTimeout, AgentPolicy, Lease, SessionGone
from session_pool.events import SessionRetired, ThresholdsScaled
from session_pool.foundry import FoundryClient, SessionPage, StaticToken
from session_pool.model import Sighting
from tests.pool.house import COLD, LEFT, OTHER_RID, House, house, outcome

pytestmark = pytest.mark.looptime

DEAD = (*LEFT, "exchanges_on_dead_sessions")
"""For tests in which a session is found dead by speaking in it."""


class Odd(FoundryClient):
    """Its looks show what a test says; creations are as ever."""

    shows: Callable[[Sighting], Sighting] = staticmethod(lambda seen: seen)

    async def get_session(self, *args: Any, **more: Any) -> Sighting:
        """See `Api.get_session`."""
        return self.shows(await super().get_session(*args, **more))

    async def list_sessions(self, *args: Any, **more: Any) -> SessionPage:
        """See `Api.list_sessions`."""
        page = await super().list_sessions(*args, **more)
        return page._replace(sessions=tuple(map(self.shows, page.sessions)))


def without_date(seen: Sighting) -> Sighting:
    """What the client makes of an answer without a `Date`."""
    return Sighting(seen.session, 0.0, said=False)


def shorter_by(seconds: float) -> Callable[[Sighting], Sighting]:
    """The remote changed its mind."""
    return lambda seen: seen._replace(remaining_s=seen.remaining_s - seconds)


@asynccontextmanager
async def odd_house(policy: AgentPolicy, **emulator: Any) -> AsyncIterator[tuple[House, Odd]]:
    """A house whose remote shows odd things."""
    async with house(policy=policy, dirty=DEAD, **emulator) as home:
        api = Odd(home.emu.url, StaticToken(home.emu.token))
        await api.open()
        home.pool._works.paced.api = home.pool._works.api = api
        try:
            yield home, api
        finally:
            home.pool._works.paced.api = home.pool._works.api = home.pool._api
            await api.aclose()


async def several(home: House, how_many: int) -> list[Lease]:
    """Leases of so many sessions, the youngest first."""
    leases: list[Lease] = []
    for _ in range(how_many):
        leases.insert(0, await home.lease())
        await asyncio.sleep(1)
    return leases


async def die_early(home: House, lease: Lease) -> None:
    """Its session is found dead, long before its estimate: those older than it are suspect."""
    home.emu.expire(lease._entry.rid)
    assert isinstance(await outcome(lease.blocking_continue("x")), SessionGone)
    await lease.release()


# ------------------------------------------------------------------ the end is not said (B16, B20)


async def test_an_answer_that_does_not_say_its_age_clears_no_suspicion() -> None:
    async with odd_house(COLD) as (home, api):
        api.shows = without_date
        leases = await several(home, 4)
        for lease in leases[1:]:
            await lease.release(unused=True)
        await asyncio.sleep(1000)
        await die_early(home, leases[0])
        first = await home.lease()
        await asyncio.sleep(1)
        for rid in set(home.emu.sessions) - {first.rid}:
            home.emu.expire(rid)
        second = await home.lease()
        assert home.emu.is_alive(second.rid)
        assert home.emu.requests("get") > 0
        assert first.remaining_s() > 80_000  # what was known of its end stands
        await first.release()
        await second.release()


async def test_sessions_seen_alive_without_a_date_stay_of_use() -> None:
    async with odd_house(AgentPolicy(min_idle=2)) as (home, api):
        await home.pool.ready(10)
        api.shows = without_date
        await asyncio.sleep(4 * 3600)
        assert home.emu.requests("list") > 1
        assert home.emu.requests("create") == 2
        lease = await home.lease(timeout=0)
        await lease.release(unused=True)


async def test_sessions_whose_end_came_nearer_are_replaced_in_time() -> None:
    async with odd_house(AgentPolicy(min_idle=3), create_latency_s=1.0) as (home, api):
        await home.pool.ready(10)
        old = set(home.emu.sessions)
        api.shows = lambda seen: shorter_by(86_300)(seen) if seen.session.rid in old else seen
        await asyncio.sleep(2000)  # they were looked at: 100 s are left of each, or less
        lease = await home.lease(timeout=0)
        assert lease.rid not in old
        await lease.release()
        assert {event.session_rid for event in home.happened(SessionRetired)} >= old


async def test_what_a_look_at_the_hand_out_shows_to_end_too_soon_is_not_handed_out() -> None:
    async with odd_house(COLD) as (home, api):
        leases = await several(home, 3)
        for lease in leases[1:]:
            await lease.release(unused=True)
        await asyncio.sleep(1000)
        await die_early(home, leases[0])
        old = set(home.emu.sessions)
        api.shows = lambda seen: shorter_by(85_300)(seen) if seen.session.rid in old else seen
        lease = await home.lease()
        assert lease.rid not in old
        assert lease.remaining_s() >= 300
        await lease.release()
        await asyncio.sleep(1)
        reasons = [event.reason for event in home.happened(SessionRetired)]
        assert reasons.count("expiring") == 2


async def test_early_death_concerns_what_lies_ready_for_anyone_as_well() -> None:
    policy = AgentPolicy(min_idle=0, reuse="anyone")
    async with house(policy=policy, dirty=DEAD) as home:
        leases = await several(home, 4)
        for lease in reversed(leases):
            await lease.blocking_continue("x")
        for lease in leases[1:]:
            await lease.release()
        await asyncio.sleep(1000)
        for rid in home.emu.sessions:
            home.emu.expire(rid)
        await die_early(home, leases[0])
        lease = await home.lease()
        assert home.emu.is_alive(lease.rid)
        await lease.release()


@pytest.mark.parametrize("offset_s", [-300.0, 0.0, 300.0])
async def test_the_far_future_can_be_read_whatever_the_clocks_say(offset_s: float) -> None:
    async with house(lifetime_s=float("inf"), clock_offset_s=offset_s) as home:
        lease = await home.lease()
        assert lease.expires_at.year == datetime.max.replace(tzinfo=UTC).year
        await lease.release()


async def test_lifetimes_that_come_and_go_are_told_of_once() -> None:
    async with house() as home:
        for number in range(6):
            if number % 2:
                home.emu.inject("create:1:wrong_estimate:by_s=-86000")
            await (await home.lease()).release()
        assert len(home.happened(ThresholdsScaled)) == 1


# ------------------------------------------------------------------ who is asked first


async def test_an_agent_asked_for_without_waiting_is_kept_warm_from_then_on() -> None:
    async with house(policy=AgentPolicy(min_idle=1), create_latency_s=1.0) as home:
        assert isinstance(
            await outcome(home.pool.acquire(OTHER_RID, timeout=0).__aenter__()), AcquireTimeout
        )
        await asyncio.sleep(2)
        lease = await home.pool.acquire(OTHER_RID, timeout=0)
        await lease.release()


# ------------------------------------------------------------------ not ours, and fails


class Moody:
    """An auth of the user's own, whose errors are whatever its library has."""

    def __init__(self, token: str, error: Exception, times: int) -> None:
        self._token = token
        self._error = error
        self.times = times

    async def token(self) -> str:
        """Give the token, unless it is in a mood."""
        if self.times > 0:
            self.times -= 1
            raise self._error
        return self._token

    async def renew(self, stale: str) -> str:
        """Give another one."""
        raise self._error


@pytest.mark.parametrize("error", [RuntimeError("s3cret"), OSError("s3cret"), KeyError("s3cret")])
async def test_an_auth_that_fails_in_its_own_way_is_asked_again(error: Exception) -> None:
    auth = Moody("emulated-user-token", error, 3)
    async with house(pool={"token": None, "auth": auth}) as home:
        await (await home.lease(timeout=60)).release()
        assert home.stats.creating == 0
        auth.times = 10**6
        late = await outcome(home.lease(timeout=5))
        assert isinstance(late, AcquireTimeout)
        assert type(error).__name__ in str(late)
        assert "s3cret" not in str(late)
        auth.times = 1
        assert (await home.ask("a")).context == "new"


async def test_an_api_that_fails_in_its_own_way_takes_no_place_for_ever() -> None:
    policy = AgentPolicy(min_idle=0, max_creating=1)
    async with odd_house(policy, exact=False) as (home, api):
        real, failures = api.create_session, 2

        async def create(*args: Any, **more: Any) -> Sighting:
            nonlocal failures
            failures -= 1
            if failures >= 0:
                raise ValueError("s3cret")
            return await real(*args, **more)

        api.create_session = create  # type: ignore[method-assign]
        await (await home.lease(timeout=60)).release()
        assert home.stats.creating == 0


# ------------------------------------------------------------------ many dead at once


@pytest.mark.parametrize("apart_s", [0.0, 200.0])
async def test_a_turn_goes_on_though_all_that_lies_ready_is_dead(apart_s: float) -> None:
    async with house(dirty=DEAD) as home:
        leases = []
        for _ in range(5):
            leases.append(await home.lease())
            await asyncio.sleep(apart_s)
        for lease in leases:
            await lease.release(unused=True)
        await asyncio.sleep(1000)
        for rid in home.emu.sessions:
            home.emu.expire(rid)
        reply = await home.ask("a")
        assert home.emu.is_alive(reply.session_rid)
        assert home.emu.requests("blocking_continue") == 2
        assert home.emu.requests("get") <= 4


async def test_a_park_timeout_is_for_what_is_parked() -> None:
    policy = AgentPolicy(min_idle=0, reuse="anyone", park_timeout_s=100.0)
    async with house(policy=policy) as home:
        lease = await home.lease()
        await lease.blocking_continue("x")
        await lease.release()
        await asyncio.sleep(200)
        again = await home.lease(timeout=0, conversation="a")
        assert again.session == lease.session
        await again.release()
