"""A list whose pages never end costs a few requests, and upkeep goes on (B13, B32)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest

from session_pool import AgentPolicy, verifying
from session_pool.events import CreationSettled
from session_pool.foundry import FoundryClient, SessionPage, StaticToken
from session_pool.verdicts import PAGE
from tests.pool.house import COLD, House, house

pytestmark = pytest.mark.looptime

SAME: Final = "the same"
NEW: Final = "a new one"


class Endless(FoundryClient):
    """Its lists go on and on: with the same token, or with a new one each time."""

    ends: str = ""
    pages = 0

    async def list_sessions(self, *args: Any, **more: Any) -> SessionPage:
        """See `Api.list_sessions`."""
        self.pages += 1
        if not self.ends:
            return await super().list_sessions(*args, **more)
        more["page_token"] = None
        page = await super().list_sessions(*args, **more)
        token = SAME if self.ends == SAME else f"v1.{self.pages}"
        return page._replace(sessions=(), next_page_token=token)


@asynccontextmanager
async def endless_house(policy: AgentPolicy, **more: Any) -> AsyncIterator[tuple[House, Endless]]:
    """A house whose remote lists without end."""
    async with house(policy=policy, **more) as home:
        api = Endless(home.emu.url, StaticToken(home.emu.token))
        await api.open()
        home.pool._works.paced.api = home.pool._works.api = api
        try:
            yield home, api
        finally:
            home.pool._works.paced.api = home.pool._works.api = home.pool._api
            await api.aclose()


@pytest.mark.parametrize(("ends", "most"), [(SAME, 2), (NEW, 4)])
async def test_verifying_goes_on_by_looking_at_each(
    ends: str, most: int, caplog: pytest.LogCaptureFixture
) -> None:
    policy = AgentPolicy(min_idle=4, verify_after_s=600)
    async with endless_house(policy) as (home, api):
        await home.pool.ready(10)
        api.ends = ends
        await asyncio.sleep(700)
        assert 1 <= api.pages <= most
        assert home.emu.requests("get") == 4
        await asyncio.sleep(600)  # at its usual time again, and no earlier
        assert api.pages <= 2 * most
        assert home.emu.requests("get") == 8
        api.ends = ""
        await asyncio.sleep(600)
        assert home.emu.requests("get") == 8
        assert home.stats.idle == 4
    told = [it.getMessage() for it in caplog.records if "list_sessions" in it.getMessage()]
    assert len(told) == (1 if ends == SAME else 0)
    assert all("nextPageToken" in one for one in told)


@pytest.mark.parametrize("ends", [SAME, NEW])
async def test_a_search_for_lost_sessions_ends_and_is_tried_again(
    ends: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(verifying, "MOST_PAGES", 20)
    async with endless_house(COLD, pool={"sole_owner": True}) as (home, api):
        api.ends = ends
        home.emu.inject("create:1:lost_after")
        await (await home.lease(timeout=60)).release()
        await home.until(lambda: api.pages > 0)
        await asyncio.sleep(1)
        assert api.pages <= 20
        assert home.stats.unsettled == 1
        await asyncio.sleep(60)  # again as any search that failed, each as short
        tries = 60 / 15 + 2
        assert api.pages <= tries * (2 if ends == SAME else 20)
        api.ends = ""
        await home.until(lambda: home.happened(CreationSettled))
        assert home.stats.unsettled == 0
    told = [it for it in caplog.records if "list_sessions" in it.getMessage()]
    assert len(told) == 1  # once, however often it is tried


async def test_the_bound_is_beyond_what_is_real() -> None:
    used = 10 * 10_000  # sessions, by as many requests: ten minutes of a service user's
    assert used <= verifying.MOST_PAGES * PAGE
