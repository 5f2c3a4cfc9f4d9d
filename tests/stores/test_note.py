"""The note of a key: one versioned text for all, and whether the key is open."""

from __future__ import annotations

from session_pool.space import Done, Failure, Note, Refusal, Refused
from tests.stores.scene import KEY, Scene


async def test_a_note_is_written_by_compare_and_set(scene: Scene) -> None:
    failure = Failure("agent", "no such agent", "AgentNotFound")
    note = Note(failure=failure, refused=(Refused("9.9", failure, 0.1, "probe"),))
    noted = await scene.store.note(KEY, 0, note, open_=True)
    assert (noted.note, noted.version, noted.open) == (note, 1, True)
    scene.advance(4)
    stale = await scene.store.note(KEY, 0, Note(), open_=False)
    assert (stale.note.failure, stale.version, stale.age_s, stale.open) == (failure, 1, 4.0, True)
    assert (await scene.store.read(KEY))[1] == stale


async def test_a_newer_note_is_answered_and_the_place_kept(scene: Scene) -> None:
    ticket = await scene.waits(request="r1")
    await scene.waits(request="r2")
    await scene.note(0, Note(early_death_s=9.0))
    assert await scene.heard() == ["r1", "r2"]
    answer = await scene.take(request="r1", known=0)
    assert isinstance(answer, Refusal)
    assert (answer.why, answer.noted.version, answer.noted.note.early_death_s) == ("note", 1, 9.0)
    assert (await scene.waits(request="r1", known=1)).place == ticket.place
    await scene.stock("a")
    assert (await scene.granted(request="r1", known=1)).note_version == 1
    scene.still_waiting = 1


async def test_a_hit_is_not_touched_by_a_newer_note(scene: Scene) -> None:
    await scene.stock("a")
    await scene.note(0)
    assert (await scene.granted(known=0)).note_version == 1
    assert await scene.refused(known=0) == "note"
    assert (await scene.counts()).waiting == 0


async def test_a_closed_key_hands_out_nothing_and_keeps_its_line(scene: Scene) -> None:
    await scene.waits(request="r")
    await scene.note(0, open_=False)
    await scene.stock("a")
    assert await scene.refused(known=1) == "closed"
    assert await scene.refused(request="r", known=0) == "note"
    await scene.waits(request="r", known=1)
    (await scene.heard()).clear()
    await scene.note(1, open_=True)
    assert "r" in await scene.heard()
    await scene.granted(request="r", known=2)


async def test_leases_end_on_a_closed_key_as_on_any(scene: Scene) -> None:
    await scene.stock("a")
    entry = (await scene.granted()).entry
    await scene.note(0, open_=False)
    assert isinstance(await scene.give_back(entry), Done)
    assert await scene.refused(known=1) == "closed"


async def test_a_grant_made_before_the_key_closed_can_be_fetched(scene: Scene) -> None:
    await scene.waits(request="r")
    await scene.stock("a")
    await scene.note(0, open_=False)
    await scene.granted(request="r", known=0)
