"""The short way of giving back, for engines that live in this process: the same as a put."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from session_pool.model import Counts, Entry
from session_pool.space import NotDone
from session_pool.stores.base import LocalStore
from tests.stores.scene import ENGINES, KEY, OTHER, START, Scene

LOCAL = sorted(name for name, make in ENGINES.items() if isinstance(make().store, LocalStore))


@pytest.fixture(params=LOCAL)
async def scene(request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    """A scene on an engine that has it."""
    scene = Scene(ENGINES[request.param]())
    await scene.store.open()
    yield scene
    await scene.close()


def back(scene: Scene, entry: Entry, op: str = "back", *, in_s: float = 50.0) -> Counts | None:
    """Give back as idle."""
    assert isinstance(scene.store, LocalStore)
    return scene.store.give_back_nowait(KEY, entry.id, entry.fence, op, "idle", in_s)


async def test_it_is_idle_again_and_looked_at_in_time(scene: Scene) -> None:
    await scene.stock("a", fresh_in_s=40.0)
    entry = (await scene.granted(ttl=30.0)).entry
    scene.advance(1)
    counts = back(scene, entry, in_s=20.0)
    assert counts is not None
    assert (counts.of("idle"), counts.of("leased")) == (1, 0)
    now = await scene.entry("a")
    assert (now.state, now.since, now.deadline, now.op) == ("idle", START + 1, START + 21, "back")
    back(scene, (await scene.granted()).entry, in_s=100.0)
    assert (await scene.entry("a")).deadline == START + 40


async def test_a_conversations_session_is_parked(scene: Scene) -> None:
    await scene.stock("a")
    entry = (await scene.granted("talk")).entry
    assert isinstance(scene.store, LocalStore)
    assert scene.store.give_back_nowait(KEY, "a", entry.fence, "op", "parked", 7.0) is not None
    now = await scene.entry("a")
    assert (now.state, now.conversation, now.deadline) == ("parked", "talk", START + 7)


async def test_nothing_is_done_for_whom_it_is_over(scene: Scene) -> None:
    await scene.stock("a")
    await scene.stock("elsewhere", key=OTHER)
    old = (await scene.granted(ttl=30.0)).entry
    assert back(scene, old._replace(fence=old.fence + 1)) is None
    assert back(scene, old._replace(id="elsewhere", fence=0)) is None
    assert back(scene, old._replace(id="nobody")) is None
    assert back(scene, old, "op") is not None
    assert back(scene, old, "op") is None
    lapsed = (await scene.granted(ttl=30.0)).entry
    scene.advance(30)
    assert back(scene, lapsed) is None
    answer = await scene.give_back(lapsed)
    assert isinstance(answer, NotDone)
    assert answer.why == "lapsed"


async def test_it_goes_straight_to_the_earliest_in_line(scene: Scene) -> None:
    await scene.stock("a", deadline_in_s=90.0)
    entry = (await scene.granted(cap=1, ttl=5.0)).entry
    for request in ("r1", "r2"):
        await scene.waits(cap=1, request=request, ttl=5.0)
    counts = back(scene, entry)
    assert counts is not None
    assert (counts.of("leased"), counts.of("idle"), counts.waiting) == (1, 0, 1)
    assert await scene.heard() == ["r1"]
    grant = await scene.granted(cap=1, request="r1", ttl=5.0)
    assert grant.place == 2
    assert (grant.entry.fence, grant.entry.version) == (entry.fence + 1, entry.version + 2)
    assert (grant.entry.lapses, grant.entry.lease) == (START + 5, "r1")
    await scene.withdraw("r1")
    await scene.withdraw("r2")
    now = await scene.entry("a")
    assert (now.state, now.deadline) == ("idle", START + 50)


async def test_it_does_not_go_past_one_that_ends_earlier(scene: Scene) -> None:
    await scene.stock("late", expires=900)
    entry = (await scene.granted(cap=1)).entry
    await scene.stock("soon", expires=100)
    await scene.waits(cap=1, request="r")
    back(scene, entry)
    assert (await scene.granted(cap=1, request="r")).entry.id == "soon"


@pytest.mark.parametrize("wanted", [{"wish": 601.0}, {"version": "2.0"}])
async def test_it_goes_to_nobody_whom_it_does_not_fit(scene: Scene, wanted: dict[str, Any]) -> None:
    await scene.stock("a", expires=600)
    entry = (await scene.granted()).entry
    await scene.waits(**wanted)
    back(scene, entry)
    assert await scene.heard() == []
    assert (await scene.entry("a")).state == "idle"
    scene.still_waiting = 1


async def test_a_pinned_one_does_not_go_to_whom_wants_the_latest(scene: Scene) -> None:
    await scene.stock("a", pinned=True)
    entry = (await scene.granted(version="1.0")).entry
    await scene.waits()
    back(scene, entry)
    assert await scene.heard() == []
    await scene.waits(version="1.0", request="r", wish=600.5)
    assert (await scene.granted(version="1.0")).entry.id == "a"
    scene.still_waiting = 2


async def test_it_binds_itself_to_a_conversation_in_line(scene: Scene) -> None:
    await scene.stock("a")
    entry = (await scene.granted(cap=1)).entry
    await scene.waits("talk", cap=1, request="r")
    back(scene, entry)
    assert (await scene.granted("talk", cap=1, request="r")).entry.conversation == "talk"


async def test_nothing_is_handed_over_on_a_closed_key_or_above_the_cap(scene: Scene) -> None:
    await scene.stock("a", "b", "c")
    entries = [(await scene.granted(cap=3)).entry for _ in range(3)]
    await scene.waits(cap=1, request="r")
    back(scene, entries[0], "op1")
    back(scene, entries[1], "op2")
    assert await scene.heard() == []
    await scene.note(0, open_=False)
    (await scene.heard()).clear()
    back(scene, entries[2], "op3")
    assert await scene.heard() == []
    scene.still_waiting = 1
