"""B4, B27: the store's answer is lost, and what it told of moves on before it is asked again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from session_pool import AgentPolicy
from session_pool.model import Entry
from tests.pool.house import LocalClock, another, distant_store, house
from tests.stores.awaiting import AwaitingStore

pytestmark = pytest.mark.looptime


async def _until(look: Callable[[], Awaitable[Sequence[Entry]]], *, there: bool) -> None:
    """Look at each turn of the loop, until something is there, or nothing is."""
    async with asyncio.timeout(60):
        while True:
            if bool(await look()) is there:
                return
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize("away_s", [0.0, 100.0])
async def test_a_session_used_before_its_creator_heard_of_it_is_never_fresh_again(
    ended: bool, away_s: float
) -> None:
    store = distant_store()
    warm = AgentPolicy(min_idle=1)
    # What has come and gone while the creator was away for so long that it might have been given
    # up for lost is looked at once more, and counted once more.
    known = not (ended and away_s)
    async with house(policy=warm, pool={"store": store}, exact=known) as home:
        theirs = AwaitingStore(LocalClock(), shared=store)
        key = home.pool._desks.of(home.agent).key
        async with home.emu.hold("create") as gate, another(home, theirs) as other:
            await home.emu.wait_for(lambda: home.emu.in_flight("create"))
            store.fail("put", "after")  # the session is there, and its creator is not told
            gate.open()
            await _until(lambda: theirs.find(key, states=("idle",)), there=True)
            store.away = True
            lease = await other.acquire(home.agent)
            used = lease.rid
            await lease.blocking_continue("mine [[a]]")
            if ended:
                await lease.release()
                await _until(lambda: theirs.find(key, rid=used), there=False)
            await asyncio.sleep(away_s)
            store.away = False
            await home.pool.ready(60)
            async with home.pool.acquire(home.agent) as fresh:
                assert fresh.rid != used
                await fresh.blocking_continue("somebody else's [[b]]")
                if not ended:
                    await lease.blocking_continue("mine still [[a]]")
                    await lease.release()
