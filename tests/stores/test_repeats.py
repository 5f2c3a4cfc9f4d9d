"""Asking again, taking back, falling silent: nothing is done twice, nothing lost (B9, B23)."""

from __future__ import annotations

import pytest

from session_pool.model import FOREVER, Facts
from session_pool.space import Done, Grant, NotDone, Put, Refusal
from tests.stores.scene import KEY, START, Scene


async def test_a_repeated_hit_is_the_same_grant(scene: Scene) -> None:
    await scene.keep(await scene.park("talk", "old"), "gone")
    await scene.stock("a", "b")
    first = await scene.granted("talk", request="r", ttl=30.0)
    scene.advance(5)
    again = await scene.granted("talk", request="r", ttl=30.0)
    assert again.entry == first.entry
    assert (again.place, again.before, again.now) == (first.place, first.before, START + 5)
    assert (await scene.counts()).of("leased") == 1


async def test_a_repeated_hit_that_has_lapsed_is_nobodys(scene: Scene) -> None:
    await scene.stock("a")
    await scene.granted(request="r", ttl=30.0)
    scene.advance(30)
    assert await scene.refused(request="r", ttl=30.0) == "withdrawn"


async def test_a_repeated_request_in_line_keeps_its_place(scene: Scene) -> None:
    first = await scene.waits(request="r1")
    await scene.waits(request="r2")
    assert (await scene.waits(request="r1")).place == first.place
    assert (await scene.counts()).waiting == 2
    await scene.stock("a")
    assert await scene.heard() == ["r1"]
    scene.still_waiting = 1
    await scene.granted(request="r1")


async def test_a_grant_made_in_line_is_fetched_by_asking_and_can_be_fetched_again(
    scene: Scene,
) -> None:
    ticket = await scene.waits(request="r", ttl=30.0)
    scene.advance(3)
    await scene.stock("a")
    scene.advance(2)
    first = await scene.granted(request="r", ttl=30.0)
    assert (first.place, first.now, first.entry.lapses) == (ticket.place, START + 5, START + 33)
    again = await scene.granted(request="r", ttl=30.0)
    assert (again.entry, again.place) == (first.entry, first.place)


async def test_a_fetched_grant_knows_what_has_changed_meanwhile(scene: Scene) -> None:
    await scene.waits(request="r")
    await scene.stock("a")
    await scene.note(0)
    grant = await scene.granted(request="r", known=0)
    assert grant.note_version == 1


async def test_a_grant_that_was_taken_away_before_it_was_fetched_is_no_grant(scene: Scene) -> None:
    await scene.waits(request="r1")
    await scene.stock("a")
    await scene.waits(request="r2")
    await scene.keep(await scene.entry("a"), "quarantined")
    assert (await scene.waits(request="r1")).place == 1
    await scene.stock("b")
    assert await scene.heard() == ["r1", "r1"]
    assert (await scene.granted(request="r1")).entry.id == "b"
    scene.still_waiting = 1


async def test_a_grant_whose_entry_was_deleted_before_it_was_fetched_harms_nobody(
    scene: Scene,
) -> None:
    await scene.waits(request="r")
    await scene.stock("a")
    await scene.keep(await scene.entry("a"), None)
    await scene.withdraw("r")
    assert (await scene.counts()).of("leased") == 0


async def test_a_grant_that_lapsed_before_it_was_fetched_is_made_anew(scene: Scene) -> None:
    await scene.waits(request="r", ttl=10.0, patience=30)
    await scene.stock("a")
    first = await scene.entry("a")
    scene.advance(10)
    grant = await scene.granted(request="r", ttl=10.0)
    assert grant.entry.id == "a"
    assert grant.entry.fence > first.fence
    assert grant.entry.lapses == START + 20


async def test_a_repeated_put_is_done_once_and_answered_alike(scene: Scene) -> None:
    await scene.stock("a")
    entry = (await scene.granted()).entry
    first = await scene.give_back(entry, op="op", tally=(("used", 1),))
    again = await scene.give_back(entry, op="op", tally=(("used", 1),))
    assert isinstance(first, Done)
    assert isinstance(again, Done)
    assert again.entry == first.entry
    assert again.counts.tally == {"used": 1}


async def test_a_repeated_put_after_the_next_hand_out_disturbs_nobody(scene: Scene) -> None:
    await scene.stock("a")
    first = (await scene.granted()).entry
    await scene.give_back(first, op="op")
    second = (await scene.granted()).entry
    assert isinstance(await scene.give_back(first, op="op"), NotDone)
    assert await scene.entry("a") == second


async def test_a_repeated_insertion_is_done_once(scene: Scene) -> None:
    put = Put(KEY, "a", "op", "creating", tally=(("claimed", 1),))
    assert isinstance(await scene.store.put(put), Done)
    assert isinstance(await scene.store.put(put), Done)
    assert (await scene.counts()).tally == {"claimed": 1}
    other = await scene.store.put(put._replace(op="another"))
    assert isinstance(other, NotDone)
    assert other.why == "changed"


async def test_a_repeated_deletion_finds_nothing(scene: Scene) -> None:
    await scene.stock("a")
    entry = await scene.entry("a")
    assert isinstance(await scene.keep(entry, None, op="op", tally=(("retired", 1),)), Done)
    again = await scene.keep(entry, None, op="op", tally=(("retired", 1),))
    assert isinstance(again, NotDone)
    assert again.why == "absent"
    assert again.counts.tally == {"retired": 1}


# ---------------------------------------------------------------------------- taking back


async def test_a_withdrawn_request_leaves_the_line(scene: Scene) -> None:
    await scene.waits(request="r1")
    await scene.waits(request="r2")
    assert (await scene.withdraw("r1")).waiting == 1
    await scene.stock("a")
    assert await scene.heard() == ["r2"]
    await scene.granted(request="r2")


async def test_a_withdrawn_grant_goes_to_the_next(scene: Scene) -> None:
    await scene.waits(request="r1")
    await scene.waits(request="r2")
    await scene.stock("a")
    await scene.withdraw("r1")
    assert await scene.heard() == ["r1", "r2"]
    await scene.granted(request="r2")


@pytest.mark.parametrize("in_line", [False, True])
@pytest.mark.parametrize("state", ["idle", "ageing"])
async def test_a_withdrawn_session_is_what_it_was_but_for_its_fence(
    scene: Scene, state: str, in_line: bool
) -> None:
    if in_line:
        await scene.waits("talk", request="r", ttl=5.0)
    await scene.stock("a", state=state, fresh_in_s=400.0, deadline_in_s=100.0)  # type: ignore[arg-type]  # one of the states, by name
    if not in_line:
        await scene.granted("talk", request="r", ttl=5.0)
    leased = await scene.entry("a")
    assert leased.state == "leased"
    # What follows from an earlier session of the conversation must not stay with this one.
    await scene.give_back(leased, "leased", facts=Facts(generation=2, replaces="rid-x"))
    await scene.withdraw("r")
    entry = await scene.entry("a")
    assert (entry.state, entry.conversation, entry.deadline) == (state, None, START + 100)
    assert entry.facts == Facts()
    assert entry.fence == leased.fence
    assert entry.version > leased.version
    assert (await scene.granted()).entry.fence > leased.fence


@pytest.mark.parametrize("in_line", [False, True])
async def test_a_withdrawn_session_of_a_conversation_is_parked_again(
    scene: Scene, in_line: bool
) -> None:
    parked = await scene.park("talk", "a", deadline_in_s=100.0)
    if in_line:
        await scene.keep(parked, "quarantined", deadline_in_s=70.0)
        await scene.waits("talk", request="r")
        await scene.keep(await scene.entry("a"), "parked", deadline_in_s=80.0)
    else:
        await scene.granted("talk", request="r")
    deadline = START + 80 if in_line else parked.deadline
    await scene.withdraw("r")
    entry = await scene.entry("a")
    assert (entry.state, entry.conversation, entry.deadline) == ("parked", "talk", deadline)


async def test_upkeep_finds_what_was_withdrawn(scene: Scene) -> None:
    await scene.stock("a", deadline_in_s=10.0)
    await scene.granted(request="r", ttl=FOREVER)
    scene.advance(5)
    await scene.due()
    scene.advance(10)
    assert (await scene.due()).entries == ()
    await scene.withdraw("r")
    assert [entry.id for _, entry in (await scene.due()).entries] == ["a"]


async def test_a_take_that_arrives_after_its_withdrawal_is_refused_for_a_minute(
    scene: Scene,
) -> None:
    await scene.stock("a")
    await scene.withdraw("r")
    assert await scene.refused(request="r") == "withdrawn"
    scene.advance(59.5)
    assert await scene.refused(request="r") == "withdrawn"
    scene.advance(0.5)
    await scene.granted(request="r")


async def test_withdrawing_again_prolongs_and_the_order_does_not_matter(scene: Scene) -> None:
    await scene.stock("a")
    await scene.withdraw("r1")
    scene.advance(30)
    await scene.withdraw("r2")
    await scene.withdraw("r1")
    scene.advance(30)
    assert await scene.refused(request="r1") == "withdrawn"
    assert await scene.refused(request="r2") == "withdrawn"
    scene.advance(30)
    await scene.granted(request="r2")


async def test_withdrawing_what_was_given_back_disturbs_nobody(scene: Scene) -> None:
    await scene.stock("a")
    first = (await scene.granted(request="r1")).entry
    await scene.give_back(first)
    second = (await scene.granted(request="r2")).entry
    await scene.withdraw("r1")
    assert await scene.entry("a") == second


# ---------------------------------------------------------------------------- falling silent


async def test_a_silent_waiter_leaves_at_the_very_instant(scene: Scene) -> None:
    await scene.waits(patience=5, request="r")
    scene.advance(4.5)
    assert (await scene.counts()).waiting == 1
    scene.advance(0.5)
    assert (await scene.counts()).waiting == 0
    await scene.stock("a")
    assert await scene.heard() == []


async def test_asking_again_renews_the_patience(scene: Scene) -> None:
    await scene.waits(patience=5, request="r")
    for _ in range(4):
        scene.advance(4)
        await scene.waits(patience=5, request="r")
    assert (await scene.counts()).waiting == 1
    scene.advance(5)
    assert (await scene.counts()).waiting == 0


async def test_asking_again_may_shorten_the_patience(scene: Scene) -> None:
    await scene.waits(patience=30, request="r")
    await scene.waits(patience=5, request="r")
    scene.advance(5)
    assert (await scene.counts()).waiting == 0


async def test_patience_may_have_no_end(scene: Scene) -> None:
    await scene.waits(patience=FOREVER)
    scene.advance(1e6)
    assert (await scene.counts()).waiting == 1
    scene.still_waiting = 1


async def test_a_grant_that_nobody_fetches_is_undone_and_goes_to_the_next(scene: Scene) -> None:
    await scene.waits(patience=5, request="r1", ttl=30.0)
    await scene.waits(patience=50, request="r2", ttl=30.0)
    await scene.stock("a", deadline_in_s=100.0, facts=Facts(exchanges=1))
    assert await scene.heard() == ["r1"]
    scene.advance(5)
    await scene.counts()
    assert await scene.heard() == ["r1", "r2"]
    grant = await scene.granted(request="r2", ttl=30.0)
    assert (grant.entry.lapses, grant.entry.facts) == (START + 35, Facts(exchanges=1))


async def test_an_unfetched_grant_is_undone_exactly(scene: Scene) -> None:
    await scene.waits("talk", patience=5, request="r", ttl=30.0)
    await scene.stock("a", state="ageing", deadline_in_s=100.0)
    scene.advance(5)
    assert (await scene.counts()).of("ageing") == 1
    entry = await scene.entry("a")
    assert (entry.state, entry.conversation, entry.lease) == ("ageing", None, "")
    assert (entry.deadline, entry.lapses) == (START + 100, FOREVER)


async def test_when_the_first_of_a_conversation_falls_silent_the_next_moves_up(
    scene: Scene,
) -> None:
    await scene.waits("talk", request="r1", wish=700, patience=5)
    await scene.waits("talk", request="r2")
    await scene.stock("a", expires=600)
    scene.advance(5)
    await scene.counts()
    assert await scene.heard() == ["r2"]
    await scene.granted("talk", request="r2")


@pytest.mark.parametrize("operation", ["take", "put", "withdraw", "read", "note", "find"])
async def test_every_operation_that_names_the_key_settles_it_first(
    scene: Scene, operation: str
) -> None:
    await scene.waits(patience=5, request="silent", wish=700)
    await scene.waits("talk", patience=5, request="gone")
    await scene.waits("talk", patience=50, request="next")
    await scene.stock("a", expires=600)
    assert await scene.heard() == ["gone"]
    scene.advance(5)
    if operation == "take":
        await scene.refused(patience=0)
    elif operation == "put":
        assert isinstance(await scene.store.put(Put(KEY, "b", "op", None, fence=1)), NotDone)
    elif operation == "withdraw":
        await scene.withdraw("unknown")
    elif operation == "read":
        await scene.counts()
    elif operation == "note":
        await scene.note(7)
    else:
        await scene.ids()
    assert await scene.heard() == ["gone", "next"]
    await scene.granted("talk", request="next")


async def test_the_last_look_leaves_the_line(scene: Scene) -> None:
    await scene.waits(request="r")
    answer = await scene.take(request="r", patience=0)
    assert isinstance(answer, Refusal)
    assert (answer.why, answer.needs, answer.counts.waiting) == ("empty", "new", 0)


async def test_the_last_look_still_gets_what_was_granted(scene: Scene) -> None:
    await scene.waits(request="r")
    await scene.stock("a")
    assert isinstance(await scene.take(request="r", patience=0), Grant)


async def test_a_last_look_lets_the_next_of_its_conversation_go_on(scene: Scene) -> None:
    await scene.waits("talk", request="picky", wish=700)
    await scene.waits("talk", request="modest")
    await scene.stock("a", expires=600)
    assert await scene.refused("talk", request="picky", wish=700, patience=0) == "empty"
    assert await scene.heard() == ["modest"]
    await scene.granted("talk", request="modest")
