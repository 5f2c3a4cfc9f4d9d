"""Waiting: one after the other, nobody passed over for nothing, conversations strict (B5-B8)."""

from __future__ import annotations

import pytest

from session_pool.space import Done, Put
from tests.stores.scene import KEY, Scene


async def serve_order(scene: Scene) -> list[str]:
    """Which requests were served, in order."""
    return list(await scene.heard())


async def test_first_come_first_served(scene: Scene) -> None:
    for number in range(5):
        ticket = await scene.waits(request=f"r{number}")
        assert (ticket.place, ticket.needs) == (number + 1, "new")
    await scene.stock("a")
    for number in range(5):
        assert await scene.heard() == [f"r{n}" for n in range(number + 1)]
        entry = (await scene.granted(request=f"r{number}")).entry
        await scene.give_back(entry)


async def test_a_release_hands_over_directly(scene: Scene) -> None:
    await scene.stock("a")
    entry = (await scene.granted()).entry
    await scene.waits(request="r")
    done = await scene.give_back(entry)
    assert isinstance(done, Done)
    assert (done.counts.of("idle"), done.counts.of("leased"), done.counts.waiting) == (0, 1, 0)
    assert await scene.heard() == ["r"]


async def test_newcomers_never_barge(scene: Scene) -> None:
    await scene.stock("a")
    entry = (await scene.granted()).entry
    await scene.waits(request="first")
    await scene.give_back(entry)
    # The grant is made and not fetched yet; nothing is there for a newcomer.
    assert await scene.refused(patience=0) == "empty"
    await scene.waits(request="second")
    await scene.give_back((await scene.granted(request="first")).entry)
    assert await scene.heard() == ["first", "second"]
    await scene.granted(request="second")


async def test_the_earliest_is_served_across_wishes_and_versions(scene: Scene) -> None:
    await scene.waits(request="r1", wish=100)
    await scene.waits(request="r2")
    await scene.waits(request="r3", version="1.0")
    await scene.waits("talk", request="r4", wish=100)
    await scene.waits(request="r5")
    await scene.stock("a", "b", "c", "d", "e", version="1.0")
    assert await scene.heard() == ["r1", "r2", "r3", "r4", "r5"]
    for request in ("r1", "r2", "r3", "r5"):
        await scene.granted(request=request)
    await scene.granted("talk", request="r4")


async def test_one_that_nothing_fits_is_passed_over_and_keeps_its_place(scene: Scene) -> None:
    await scene.waits(request="picky", wish=700)
    await scene.waits(request="modest")
    await scene.stock("short", expires=600)
    assert await scene.heard() == ["modest"]
    entry = (await scene.granted(request="modest")).entry
    await scene.waits(request="late")
    await scene.stock("long", expires=800)
    assert await scene.heard() == ["modest", "picky"]
    await scene.give_back(entry)
    assert await scene.heard() == ["modest", "picky", "late"]


async def test_a_waiter_for_room_is_served_before_later_ones_that_would_fit(scene: Scene) -> None:
    await scene.stock("a", "b")
    entry = (await scene.granted(cap=1)).entry
    assert (await scene.waits(cap=1, request="r1")).needs == "room"
    assert (await scene.waits(cap=1, request="r2")).needs == "room"
    await scene.give_back(entry)
    assert await scene.heard() == ["r1"]
    await scene.granted(cap=2, request="r1")
    assert await scene.heard() == ["r1", "r2"]


async def test_a_newcomer_that_raises_the_cap_stands_behind_those_who_wait_for_room(
    scene: Scene,
) -> None:
    await scene.stock("a", "b")
    await scene.granted(cap=1)
    await scene.waits(cap=1, request="early")
    await scene.waits(cap=2, request="newcomer")
    assert await scene.heard() == ["early"]
    assert (await scene.granted(cap=2, request="early")).entry.id == "b"
    scene.still_waiting = 1


async def test_a_newcomer_that_raises_the_cap_is_served_after_them_at_once(scene: Scene) -> None:
    await scene.stock("a", "b", "c")
    await scene.granted(cap=1)
    await scene.waits(cap=1, request="early")
    assert (await scene.granted(cap=3, request="newcomer")).entry.id == "c"
    assert await scene.heard() == ["early"]


# ---------------------------------------------------------------------------- conversations


async def test_within_a_conversation_the_line_is_strict(scene: Scene) -> None:
    entry = (await scene.park("talk", "a"), await scene.granted("talk"))[1].entry
    for request in ("r1", "r2", "r3"):
        await scene.waits("talk", request=request)
    for request in ("r1", "r2", "r3"):
        await scene.give_back(entry, "parked")
        assert (await scene.heard())[-1] == request
        entry = (await scene.granted("talk", request=request)).entry
    assert await scene.heard() == ["r1", "r2", "r3"]


async def test_one_that_could_be_served_waits_for_those_before_it_in_its_conversation(
    scene: Scene,
) -> None:
    await scene.waits("talk", request="picky", wish=700)
    await scene.waits("talk", request="modest")
    await scene.stock("short", expires=600)
    assert await scene.heard() == []
    assert await scene.refused("talk", patience=0) == "empty"
    await scene.stock("long", expires=800)
    assert await scene.heard() == ["picky"]
    await scene.give_back((await scene.granted("talk", request="picky")).entry, "parked")
    assert (await scene.granted("talk", request="modest")).entry.id == "long"


async def test_when_the_first_of_a_conversation_leaves_the_next_moves_up(scene: Scene) -> None:
    await scene.waits("talk", request="picky", wish=700)
    await scene.waits("talk", request="modest")
    await scene.stock("short", expires=600)
    await scene.withdraw("picky")
    assert await scene.heard() == ["modest"]
    await scene.granted("talk", request="modest")


async def test_a_conversation_whose_session_dies_stands_at_its_old_place_for_a_new_one(
    scene: Scene,
) -> None:
    entry = (await scene.park("talk", "a"), await scene.granted("talk"))[1].entry
    await scene.waits("talk", request="r1")
    await scene.waits(request="r2")
    await scene.give_back(entry, "gone")
    assert (await scene.counts()).new == 2
    await scene.stock("b")
    assert await scene.heard() == ["r1"]
    before = (await scene.granted("talk", request="r1")).before
    assert before is not None
    assert before.id == "a"
    scene.still_waiting = 1


async def test_waiters_of_one_conversation_count_once_as_new(scene: Scene) -> None:
    for _ in range(3):
        await scene.waits("talk")
    ticket = await scene.waits("other")
    assert (ticket.counts.waiting, ticket.counts.new) == (4, 2)
    await scene.waits()
    counts = await scene.counts()
    assert (counts.waiting, counts.new) == (5, 3)
    scene.still_waiting = 5


async def test_those_beyond_the_cap_need_nothing_new(scene: Scene) -> None:
    await scene.stock("a")
    await scene.granted(cap=3)
    for _ in range(4):
        await scene.waits(cap=3)
    assert (await scene.counts()).new == 2
    scene.still_waiting = 4


async def test_a_waiter_for_its_own_session_needs_nothing_new(scene: Scene) -> None:
    await scene.park("talk", "a")
    await scene.stock("b")
    await scene.granted(cap=1)
    assert (await scene.waits("talk", cap=1)).needs == "room"
    assert (await scene.waits("talk", cap=2, request="r")).counts.new == 0
    scene.still_waiting = 1


async def test_in_line_a_conflict_of_versions_is_told_and_holds_nobody_up(scene: Scene) -> None:
    await scene.waits("talk", request="r1")
    await scene.waits("talk", request="r2", version="2.0")
    await scene.waits("talk", request="r3")
    await scene.stock("a", version="1.0")
    await scene.give_back((await scene.granted("talk", request="r1")).entry, "parked")
    assert set(await scene.heard()) == {"r1", "r2", "r3"}
    assert await scene.refused("talk", request="r2", version="2.0") == "version"
    assert (await scene.granted("talk", request="r3")).entry.id == "a"


async def test_a_conflict_is_told_to_whoever_asks_again_before_its_turn(scene: Scene) -> None:
    await scene.waits("talk", request="r1")
    await scene.waits("talk", request="r2", version="2.0")
    await scene.stock("a", version="1.0")
    assert await scene.refused("talk", request="r2", version="2.0") == "version"
    await scene.granted("talk", request="r1")


async def test_own_only_behind_others_waits_for_what_they_get(scene: Scene) -> None:
    parked = await scene.park("talk", "a")
    held = (await scene.granted("talk")).entry
    assert held.id == parked.id
    await scene.waits("talk", request="next")
    await scene.waits("talk", request="forget", own_only=True)
    await scene.stock("b")
    await scene.give_back(held, "gone")
    assert await scene.heard() == ["next"]
    await scene.give_back((await scene.granted("talk", request="next")).entry, "parked")
    assert (await scene.granted("talk", request="forget", own_only=True)).entry.id == "b"


# ---------------------------------------------------------------------------- found dead


@pytest.mark.parametrize("line", [100, 1])
async def test_one_whose_session_is_found_dead_keeps_its_place(scene: Scene, line: int) -> None:
    await scene.stock("dead")
    grant = await scene.granted(request="r1")
    await scene.waits(request="r2")
    dead = Put(KEY, "dead", "op", None, fence=grant.entry.fence)
    ticket = await scene.waits(request="r1", instead=dead, place=grant.place, line=line)
    assert ticket.place == grant.place
    await scene.stock("b")
    assert await scene.heard() == ["r1"]
    await scene.granted(request="r1")
    scene.still_waiting = 1


async def test_one_whose_session_is_found_dead_gets_the_next_at_once(scene: Scene) -> None:
    await scene.stock("dead", expires=100)
    await scene.stock("b", expires=200)
    grant = await scene.granted(cap=1)
    await scene.waits(cap=1, request="later")
    dead = Put(KEY, "dead", "op", None, fence=grant.entry.fence)
    second = await scene.granted(cap=1, instead=dead, place=grant.place)
    assert (second.entry.id, second.place) == ("b", grant.place)
    assert await scene.heard() == []
    scene.still_waiting = 1


async def test_the_room_it_gives_up_goes_to_an_earlier_one_all_the_same(scene: Scene) -> None:
    parked = await scene.park("talk", "own")
    await scene.keep(parked, "quarantined")
    early = await scene.waits("talk", cap=1, request="early")
    await scene.stock("dead", expires=100)
    await scene.stock("b", expires=200)
    grant = await scene.granted(cap=1)
    assert grant.place > early.place
    await scene.keep(await scene.entry("own"), "parked")
    dead = Put(KEY, "dead", "op", None, fence=grant.entry.fence)
    await scene.waits(cap=1, instead=dead, place=grant.place, request="r")
    assert await scene.heard() == ["early"]
    await scene.granted("talk", cap=1, request="early")
    scene.still_waiting = 1


async def test_a_conversation_that_finds_its_session_dead_comes_before_its_followers(
    scene: Scene,
) -> None:
    grant = (await scene.park("talk", "a"), await scene.granted("talk"))[1]
    await scene.waits("talk", request="r2")
    await scene.stock("b")
    dead = Put(KEY, "a", "op", "gone", fence=grant.entry.fence)
    second = await scene.granted("talk", instead=dead, place=grant.place)
    assert second.entry.id == "b"
    assert second.before is not None
    assert second.before.id == "a"
    await scene.give_back(second.entry, "parked")
    assert await scene.heard() == ["r2"]
    await scene.granted("talk", request="r2")


async def test_places_that_come_back_stand_before_all_later_ones(scene: Scene) -> None:
    await scene.stock("a", "b")
    grants = [await scene.granted() for _ in range(2)]
    for number in range(5):
        await scene.waits(request=f"r{number}")
    for grant in reversed(grants):
        dead = Put(KEY, grant.entry.id, scene.next_id("op"), None, fence=grant.entry.fence)
        await scene.waits(instead=dead, place=grant.place, request=f"back{grant.place}")
    await scene.stock("c", "d", "e")
    assert await scene.heard() == ["back1", "back2", "r0"]
    for request in list(await scene.heard()):
        await scene.granted(request=request)
    scene.still_waiting = 4


async def test_a_place_shown_twice_costs_nobody_his_turn(scene: Scene) -> None:
    await scene.waits(request="r1")
    await scene.waits(request="r2", place=1)
    await scene.waits(request="r3")
    await scene.stock("a", "b", "c")
    assert sorted(await scene.heard()) == ["r1", "r2", "r3"]
    assert (await scene.heard())[-1] == "r3"
    for request in ("r1", "r2", "r3"):
        await scene.granted(request=request)
