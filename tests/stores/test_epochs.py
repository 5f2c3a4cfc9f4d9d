"""A store that has lost what it knew is told what is held (B27)."""

from __future__ import annotations

from typing import Any

import pytest

from session_pool.model import Entry, Facts, State
from session_pool.space import Held, Put
from tests.stores.scene import KEY, START, Scene


def held(entry: Entry, **changed: Any) -> Held:
    """A lease as its holder tells of it."""
    entry = entry._replace(**changed)
    return Held(KEY, entry, expires_in_s=300.0, fresh_in_s=100.0)


async def lost(scene: Scene, conversation: str | None = "k", **fields: Any) -> Entry:
    """A lease that the store knows nothing of any more."""
    await scene.stock("a", facts=Facts(exchanges=3))
    entry = (await scene.granted(conversation, ttl=30.0, **fields)).entry
    await scene.give_back(entry, None)
    return entry


async def test_a_lease_of_another_epoch_is_known_again(scene: Scene) -> None:
    entry = await lost(scene)
    (now,) = await scene.store.register("me", [held(entry)], 30.0)
    assert now is not None
    assert now == entry._replace(
        version=now.version, fence=now.fence, expires=START + 300, fresh_until=START + 100
    )
    assert now.fence > entry.fence
    counts = await scene.counts()
    assert (counts.of("leased"), counts.tally.get("adopted")) == (1, 1)
    assert (await scene.waits("k")).needs == "own"
    await scene.give_back(now, "parked")


async def test_registering_twice_prolongs(scene: Scene) -> None:
    entry = await lost(scene)
    (first,) = await scene.store.register("me", [held(entry)], 30.0)
    scene.advance(20.0)
    (second,) = await scene.store.register("me", [held(entry)], 30.0)
    assert first is not None
    assert second == first._replace(lapses=START + 50, deadline=START + 50)
    assert (await scene.counts()).tally["adopted"] == 1


async def test_a_conversation_that_has_another_by_now_is_not_bound_twice(scene: Scene) -> None:
    entry = await lost(scene)
    await scene.park("k", "b")
    (now,) = await scene.store.register("me", [held(entry)], 30.0)
    assert now is not None
    assert now.conversation is None


@pytest.mark.parametrize("state", ["idle", "ageing", "parked", "quarantined"])
async def test_what_lies_in_an_older_state_is_its_holders_again(scene: Scene, state: State) -> None:
    await scene.stock("a")
    entry = (await scene.granted("k", ttl=30.0)).entry
    await scene.give_back(entry, state)
    (now,) = await scene.store.register("me", [held(entry)], 30.0)
    assert now is not None
    assert (now.state, now.holder, now.lease) == ("leased", "me", entry.lease)
    assert now.conversation == "k"
    assert now.fence > entry.fence
    assert await scene.ids("leased") == ["a"]
    assert await scene.refused(patience=0.0) == "empty"


@pytest.mark.parametrize("state", ["creating", "unsettled"])
async def test_what_an_older_state_has_without_its_session_counts_as_adopted(
    scene: Scene, state: State
) -> None:
    entry = await lost(scene)
    await scene.store.put(Put(KEY, entry.id, "claimed", state))
    (now,) = await scene.store.register("me", [held(entry)], 30.0)
    assert now is not None
    assert (now.state, now.rid) == ("leased", entry.rid)
    await scene.store.register("me", [held(entry)], 30.0)
    counts = await scene.counts()
    assert (counts.of("leased"), counts.of(state), counts.tally.get("adopted")) == (1, 0, 1)


@pytest.mark.parametrize("state", ["retiring", "gone"])
async def test_what_has_left_stays_gone(scene: Scene, state: State) -> None:
    await scene.stock("a")
    entry = (await scene.granted("k", ttl=30.0)).entry
    await scene.give_back(entry, state)
    assert list(await scene.store.register("me", [held(entry)], 30.0)) == [None]
    assert await scene.ids(state) == ["a"]


async def test_what_another_holds_stays_with_it(scene: Scene) -> None:
    await scene.stock("a")
    entry = (await scene.granted(ttl=30.0)).entry
    await scene.give_back(entry)
    other = (await scene.granted(ttl=30.0, holder="you")).entry
    assert list(await scene.store.register("me", [held(entry)], 30.0)) == [None]
    assert await scene.entry("a") == other


async def test_a_registered_lease_lapses_like_any(scene: Scene) -> None:
    entry = await lost(scene)
    await scene.store.register("me", [held(entry)], 30.0)
    scene.advance(30.0)
    assert [claimed.state for _, claimed in (await scene.due()).entries] == ["leased"]
