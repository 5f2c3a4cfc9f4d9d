"""Handing out: who gets which session, under which fence (B1, B3, B5, and the caps of B7)."""

from __future__ import annotations

import pytest

from session_pool.model import FOREVER, Facts
from session_pool.space import Done, Grant, NotDone, Put, Refusal
from tests.stores.scene import KEY, OTHER, START, Scene, want


async def test_a_session_goes_to_one_holder_only(scene: Scene) -> None:
    await scene.stock("a")
    grant = await scene.granted()
    assert (grant.entry.id, grant.entry.state) == ("a", "leased")
    assert await scene.refused(patience=0) == "empty"


async def test_a_grant_says_who_holds_what_since_when(scene: Scene) -> None:
    facts = Facts(exchanges=3)
    await scene.stock("a", facts=facts, fresh_in_s=300.0, deadline_in_s=50.0)
    scene.advance(2)
    entry, place, before, now, counts, note_version = await scene.granted(request="r", ttl=30.0)
    assert (entry.holder, entry.lease, entry.rid) == ("me", "r", "rid-a")
    assert (entry.since, entry.lapses, entry.deadline) == (START + 2, START + 32, START + 32)
    assert (entry.fresh_until, entry.expires) == (START + 300, START + 600)
    assert entry.facts == facts
    assert (place, before, now, note_version) == (1, None, START + 2, 0)
    assert counts.of("leased") == 1
    assert counts.of("idle") == 0


async def test_the_fence_grows_at_each_hand_out_and_the_version_at_each_change(
    scene: Scene,
) -> None:
    await scene.stock("a")
    first = (await scene.granted()).entry
    await scene.give_back(first)
    second = (await scene.granted()).entry
    assert second.fence > first.fence
    assert second.version == first.version + 2


async def test_a_lease_without_end_never_lapses(scene: Scene) -> None:
    await scene.stock("a")
    entry = (await scene.granted(ttl=FOREVER)).entry
    scene.advance(1e9)
    assert isinstance(await scene.give_back(entry), Done)


async def test_the_earliest_expiry_goes_first(scene: Scene) -> None:
    await scene.stock("late", expires=900)
    await scene.stock("soon", expires=100)
    await scene.stock("middle", expires=500)
    assert [(await scene.granted()).entry.id for _ in range(3)] == ["soon", "middle", "late"]


async def test_among_equal_expiries_the_smaller_id_goes_first(scene: Scene) -> None:
    await scene.stock("b", "c", "a")
    assert [(await scene.granted()).entry.id for _ in range(3)] == ["a", "b", "c"]


async def test_what_came_back_has_its_place_among_the_free_again(scene: Scene) -> None:
    await scene.stock("a", expires=100)
    await scene.stock("b", expires=200)
    await scene.stock("c", expires=300)
    first, second = (await scene.granted()).entry, (await scene.granted()).entry
    await scene.give_back(second)
    assert (await scene.granted()).entry.id == "b"
    await scene.give_back(first)
    assert (await scene.granted()).entry.id == "a"


async def test_an_expiry_that_moved_while_leased_counts_when_it_is_back(scene: Scene) -> None:
    await scene.stock("a", expires=100)
    await scene.stock("b", expires=200)
    entry = (await scene.granted()).entry
    await scene.give_back(entry, expires_in_s=300.0)
    assert [(await scene.granted()).entry.id for _ in range(2)] == ["b", "a"]


async def test_an_expiry_that_moved_on_the_shelf_counts_at_once(scene: Scene) -> None:
    await scene.stock("a", expires=100)
    await scene.stock("b", expires=200)
    await scene.keep(await scene.entry("a"), "idle", expires_in_s=300.0)
    assert [(await scene.granted()).entry.id for _ in range(2)] == ["b", "a"]


async def test_a_wish_is_met_at_the_very_instant_and_not_below(scene: Scene) -> None:
    await scene.stock("a", expires=100)
    scene.advance(40)
    assert await scene.refused(wish=60.5, patience=0) == "empty"
    assert (await scene.granted(wish=60)).entry.id == "a"


async def test_the_first_to_end_of_those_that_live_long_enough_is_taken(scene: Scene) -> None:
    for entry_id, expires in (("a", 100), ("b", 200), ("c", 300)):
        await scene.stock(entry_id, expires=expires)
    assert (await scene.granted(wish=150)).entry.id == "b"
    assert (await scene.granted(wish=150)).entry.id == "c"
    assert await scene.refused(wish=150, patience=0) == "empty"
    assert (await scene.granted()).entry.id == "a"


async def test_what_is_due_for_replacement_is_still_handed_out(scene: Scene) -> None:
    await scene.stock("a", state="ageing")
    grant = await scene.granted()
    assert grant.entry.id == "a"
    assert grant.counts.of("ageing") == 0


@pytest.mark.parametrize("state", ["creating", "unsettled", "quarantined", "retiring", "gone"])
async def test_nothing_else_is_handed_out(scene: Scene, state: str) -> None:
    await scene.stock("a", state=state)  # type: ignore[arg-type]  # one of the states, by name
    assert await scene.refused(patience=0) == "empty"
    assert await scene.refused("talk", patience=0) == "empty"


async def test_latest_published_is_met_by_what_was_not_pinned(scene: Scene) -> None:
    await scene.stock("pinned", version="1.0", pinned=True, expires=100)
    await scene.stock("latest", version="2.0", expires=200)
    assert (await scene.granted()).entry.id == "latest"
    assert await scene.refused(patience=0) == "empty"
    assert (await scene.granted(version="1.0")).entry.id == "pinned"


async def test_a_version_is_met_by_any_session_that_has_it(scene: Scene) -> None:
    await scene.stock("late", version="1.0", pinned=True, expires=200)
    await scene.stock("soon", version="1.0", expires=100)
    await scene.stock("other", version="2.0", expires=50)
    assert [(await scene.granted(version="1.0")).entry.id for _ in range(2)] == ["soon", "late"]
    assert await scene.refused(version="1.0", patience=0) == "empty"


async def test_latest_looks_at_all_versions_together(scene: Scene) -> None:
    await scene.stock("b", version="1.0", expires=200)
    await scene.stock("a", version="2.0", expires=100)
    await scene.stock("c", version="3.0", expires=300)
    assert [(await scene.granted()).entry.id for _ in range(3)] == ["a", "b", "c"]


async def test_keys_know_nothing_of_each_other(scene: Scene) -> None:
    await scene.stock("a", key=OTHER)
    assert await scene.refused(patience=0) == "empty"
    assert (await scene.granted(key=OTHER)).entry.id == "a"
    assert (await scene.counts()).of("leased") == 0


async def test_an_entry_of_another_key_cannot_be_changed_through_this_one(scene: Scene) -> None:
    await scene.stock("a", key=OTHER)
    answer = await scene.store.put(Put(KEY, "a", "op", "retiring", version=1))
    assert isinstance(answer, NotDone)
    assert (await scene.entry("a", OTHER)).state == "idle"


# ---------------------------------------------------------------------------- conversations


async def test_a_conversation_gets_a_free_session_and_is_bound_to_it(scene: Scene) -> None:
    await scene.stock("a", "b")
    entry = (await scene.granted("talk")).entry
    assert (entry.id, entry.conversation) == ("a", "talk")
    await scene.give_back(entry, "parked")
    assert (await scene.granted()).entry.id == "b"
    assert await scene.refused(patience=0) == "empty"
    assert (await scene.granted("talk")).entry.id == "a"


async def test_its_own_session_is_handed_out_whatever_life_is_left(scene: Scene) -> None:
    await scene.park("talk", "a", expires=100)
    await scene.stock("b")
    scene.advance(1000)
    assert (await scene.granted("talk", wish=300)).entry.id == "a"


@pytest.mark.parametrize("state", ["quarantined", "unsettled", "leased"])
async def test_it_waits_for_its_own_and_never_gets_a_second(scene: Scene, state: str) -> None:
    parked = await scene.park("talk", "a")
    await scene.stock("free")
    held = (await scene.granted("talk")).entry
    assert held.id == parked.id
    if state != "leased":
        await scene.give_back(held, state)  # type: ignore[arg-type]  # one of the states, by name
    ticket = await scene.waits("talk", request="r")
    assert ticket.needs == "own"
    assert ticket.counts.new == 0
    await scene.keep(await scene.entry("a"), "parked")
    assert await scene.heard() == ["r"]
    assert (await scene.granted("talk", request="r")).entry.id == "a"


@pytest.mark.parametrize("state", ["retiring", "gone"])
async def test_a_conversation_whose_session_left_gets_another_and_hears_of_it(
    scene: Scene, state: str
) -> None:
    parked = await scene.park("talk", "a")
    await scene.stock("b")
    await scene.keep(parked, state)  # type: ignore[arg-type]  # one of the states, by name
    grant = await scene.granted("talk")
    assert grant.entry.id == "b"
    assert grant.before is not None
    assert (grant.before.id, grant.before.state) == ("a", state)


async def test_the_latest_session_is_the_one_remembered(scene: Scene) -> None:
    # The older one is deleted at the remote late, after the younger one has left too.
    await scene.keep(await scene.park("talk", "a"), "retiring")
    await scene.keep(await scene.park("talk", "b"), "gone")
    await scene.keep(await scene.entry("a"), "gone")
    await scene.stock("c")
    before = (await scene.granted("talk")).before
    assert before is not None
    assert before.id == "b"
    assert await scene.ids(conversation="talk") == ["c", "b", "a"]


async def test_a_forgotten_memory_leaves_the_older_one(scene: Scene) -> None:
    await scene.keep(await scene.park("talk", "a"), "gone")
    await scene.keep(await scene.park("talk", "b"), "gone")
    await scene.keep(await scene.entry("b"), None)
    assert await scene.ids(conversation="talk") == ["a"]
    await scene.keep(await scene.entry("a"), None)
    assert await scene.ids(conversation="talk") == []


async def test_what_is_unbound_is_remembered_by_nobody(scene: Scene) -> None:
    await scene.keep(await scene.park("talk", "a"), "retiring", unbind=True)
    await scene.stock("b")
    assert (await scene.granted("talk")).before is None
    assert (await scene.entry("a")).conversation is None


async def test_another_version_than_its_session_has_is_a_conflict(scene: Scene) -> None:
    await scene.park("talk", "a", version="1.0")
    assert await scene.refused("talk", version="2.0") == "version"
    assert (await scene.granted("talk", version="1.0")).entry.id == "a"
    assert await scene.refused("talk", version="2.0") == "version"


async def test_own_only_takes_the_own_session_or_nothing(scene: Scene) -> None:
    await scene.stock("free")
    assert await scene.refused("talk", own_only=True) == "empty"
    entry = (await scene.granted("talk")).entry
    await scene.waits("talk", own_only=True, request="r")
    await scene.give_back(entry, "parked")
    assert (await scene.granted("talk", own_only=True, request="r")).entry.id == "free"


async def test_own_only_is_told_when_there_is_nothing_to_wait_for_any_more(scene: Scene) -> None:
    entry = (await scene.park("talk", "a"), await scene.granted("talk"))[1].entry
    await scene.waits("talk", own_only=True, request="forget")
    await scene.waits("talk", request="next")
    await scene.give_back(entry, "gone")
    assert "forget" in await scene.heard()
    counts = await scene.counts()
    assert (counts.waiting, counts.new) == (1, 1)
    assert await scene.refused("talk", own_only=True, request="forget") == "empty"
    await scene.stock("b")
    assert (await scene.granted("talk", request="next")).entry.id == "b"


# ---------------------------------------------------------------------------- caps


async def test_no_more_are_leased_than_the_cap(scene: Scene) -> None:
    await scene.stock("a", "b", "c")
    await scene.granted(cap=2)
    await scene.granted(cap=2)
    answer = await scene.take(cap=2, patience=0)
    assert isinstance(answer, Refusal)
    assert (answer.why, answer.needs) == ("empty", "room")


async def test_the_latest_takes_caps_are_the_keys(scene: Scene) -> None:
    await scene.stock("a", "b", "c")
    first = (await scene.granted(cap=3)).entry
    await scene.granted(cap=3)
    await scene.waits(cap=1, request="r")
    await scene.give_back(first)
    assert isinstance(await scene.take(cap=1, request="r"), Grant) is False
    assert isinstance(await scene.take(cap=2, request="r"), Grant)


async def test_the_line_is_bounded(scene: Scene) -> None:
    await scene.waits(line=1)
    assert await scene.refused(line=1) == "full"
    await scene.waits(line=2)
    scene.still_waiting = 2


async def test_the_line_bounds_nobody_who_need_not_stand_in_it(scene: Scene) -> None:
    await scene.waits(wish=700, line=1)
    await scene.stock("a", expires=600)
    assert (await scene.granted(line=1)).entry.id == "a"
    assert await scene.refused(line=1, patience=0) == "empty"
    scene.still_waiting = 1


async def test_a_want_carries_everything_a_key_needs() -> None:
    assert want("talk", wish=5.0).key is KEY
