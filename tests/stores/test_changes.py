"""Changing entries: compare and set, guards, tallies, notes, finding, doorbells (B8, B24)."""

from __future__ import annotations

import asyncio

import pytest

from session_pool.model import FOREVER, Facts, Sought
from session_pool.space import Done, NotDone, Note, Put
from tests.stores.scene import KEY, OTHER, START, Scene, guard, want


def why(answer: Done | NotDone) -> str:
    """Why a put did not happen."""
    assert isinstance(answer, NotDone), answer
    return answer.why


async def test_an_insertion_says_everything(scene: Scene) -> None:
    answer = await scene.store.put(
        Put(
            KEY, "a", "op", "idle", rid="rid", agent_version="1.0", pinned=True, fresh_in_s=5.0,
            expires_in_s=10.0, deadline_in_s=3.0, facts=Facts(exchanges=1),
        )
    )  # fmt: skip
    assert isinstance(answer, Done)
    entry = answer.entry
    assert entry is not None
    assert entry == await scene.entry("a")
    assert (entry.rid, entry.agent_version, entry.pinned) == ("rid", "1.0", True)
    assert (entry.version, entry.fence, entry.op) == (1, 0, "op")
    assert (entry.since, entry.fresh_until) == (START, START + 5)
    assert (entry.expires, entry.deadline, entry.lapses) == (START + 10, START + 3, FOREVER)
    assert entry.facts == Facts(exchanges=1)
    counts = answer.counts
    assert (counts.of("idle"), sum(counts.states.values()), counts.waiting) == (1, 1, 0)


async def test_none_leaves_a_field_as_it_was(scene: Scene) -> None:
    await scene.stock("a", state="quarantined", fresh_in_s=5.0, pinned=True, deadline_in_s=7.0)
    before = await scene.entry("a")
    scene.advance(2)
    await scene.keep(before, "quarantined", op="op")
    assert await scene.entry("a") == before._replace(version=before.version + 1, op="op")


async def test_a_keeper_compares_by_version(scene: Scene) -> None:
    await scene.stock("a")
    stale = await scene.entry("a")
    assert isinstance(await scene.keep(stale, "ageing"), Done)
    assert why(await scene.keep(stale, "retiring")) == "changed"
    assert (await scene.entry("a")).state == "ageing"


async def test_a_keeper_that_read_before_a_hand_out_changes_nothing(scene: Scene) -> None:
    await scene.stock("a")
    stale = await scene.entry("a")
    await scene.granted()
    assert why(await scene.keep(stale, "retiring")) == "changed"


async def test_a_holder_compares_by_fence(scene: Scene) -> None:
    await scene.stock("a")
    first = (await scene.granted()).entry
    await scene.give_back(first)
    assert why(await scene.give_back(first, "retiring")) == "changed"
    second = (await scene.granted()).entry
    assert why(await scene.give_back(first, "retiring")) == "changed"
    assert await scene.entry("a") == second


async def test_a_holder_writes_down_what_it_does_and_goes_on(scene: Scene) -> None:
    await scene.stock("a")
    entry = (await scene.granted("talk", ttl=30.0, request="r")).entry
    scene.advance(5)
    facts = Facts(trace_id="trace")
    done = await scene.give_back(entry, "leased", facts=facts, expires_in_s=50.0, op="op")
    assert isinstance(done, Done)
    assert done.entry == entry._replace(
        version=entry.version + 1, facts=facts, expires=START + 55, op="op"
    )
    assert isinstance(await scene.give_back(entry, "parked"), Done)


async def test_a_lease_ends_in_any_state(scene: Scene) -> None:
    for number, state in enumerate(("idle", "quarantined", "retiring", None)):
        await scene.stock(f"a{number}")
        entry = (await scene.granted()).entry
        scene.advance(1)
        done = await scene.give_back(entry, state)  # type: ignore[arg-type]  # states, by name
        assert isinstance(done, Done)
        if done.entry is not None:
            assert (done.entry.holder, done.entry.lease, done.entry.lapses) == ("", "", FOREVER)
            assert done.entry.since == START + number + 1
            await scene.keep(done.entry, None)
    counts = await scene.counts()
    assert sum(counts.states.values()) == 0


async def test_an_idle_entry_is_looked_at_when_it_stops_being_fresh_at_the_latest(
    scene: Scene,
) -> None:
    await scene.stock("a", fresh_in_s=40.0, deadline_in_s=100.0)
    assert (await scene.entry("a")).deadline == START + 40
    entry = (await scene.granted()).entry
    await scene.give_back(entry, deadline_in_s=20.0)
    assert (await scene.entry("a")).deadline == START + 20
    await scene.give_back((await scene.granted()).entry)
    assert (await scene.entry("a")).deadline == START + 40


async def test_what_is_free_belongs_to_no_conversation(scene: Scene) -> None:
    await scene.stock("a", "b")
    await scene.give_back((await scene.granted("talk")).entry)
    assert (await scene.entry("a")).conversation is None
    await scene.keep(await scene.park("other", "c", expires=700), "ageing")
    assert (await scene.entry("c")).conversation is None
    assert (await scene.granted("talk", wish=650)).entry.id == "c"


async def test_nothing_but_a_take_leases(scene: Scene) -> None:
    await scene.stock("a")
    assert why(await scene.keep(await scene.entry("a"), "leased")) == "changed"
    assert why(await scene.store.put(Put(KEY, "b", "op", "leased"))) == "changed"


async def test_what_is_not_there_cannot_be_changed(scene: Scene) -> None:
    assert why(await scene.store.put(Put(KEY, "a", "op", "idle", version=1))) == "absent"
    assert why(await scene.store.put(Put(KEY, "a", "op", "idle", fence=1))) == "absent"


async def test_a_deletion_leaves_nothing(scene: Scene) -> None:
    await scene.stock("a", deadline_in_s=5.0)
    done = await scene.keep(await scene.entry("a"), None)
    assert isinstance(done, Done)
    assert done.entry is None
    assert await scene.ids() == []
    scene.advance(10)
    assert (await scene.due()).entries == ()
    assert await scene.refused(patience=0) == "empty"


# ---------------------------------------------------------------------------- guards and tallies


async def test_a_put_happens_only_if_every_guard_holds(scene: Scene) -> None:
    put = Put(KEY, "a", "op", "creating", tally=(("claimed", 1),))
    one_at_a_time = guard("creating", most=0)
    needed = guard("creating", minus=["new"], most=-1)
    refused = await scene.store.put(put._replace(guards=(one_at_a_time, needed)))
    assert why(refused) == "guard"
    assert refused.counts.tally == {}
    await scene.waits()
    assert isinstance(await scene.store.put(put._replace(guards=(one_at_a_time, needed))), Done)
    await scene.waits()
    other = put._replace(id="b", op="op2", guards=(one_at_a_time, needed))
    assert why(await scene.store.put(other)) == "guard"
    assert isinstance(await scene.store.put(other._replace(guards=(needed,))), Done)
    third = put._replace(id="c", op="op3", guards=(needed,))
    assert why(await scene.store.put(third)) == "guard"
    assert (await scene.counts()).tally == {"claimed": 2}
    scene.still_waiting = 2


async def test_ten_thousand_waiters_need_no_more_than_the_cap(scene: Scene) -> None:
    for _ in range(10):
        await asyncio.gather(*(scene.waits(cap=50, line=20_000) for _ in range(1000)))
    needed = (guard("creating", "idle", minus=["new"], most=-1),)
    made = 0
    while isinstance(
        await scene.store.put(Put(KEY, f"e{made}", f"op{made}", "creating", guards=needed)), Done
    ):
        made += 1
    assert made == 50
    scene.still_waiting = 10_000


async def test_guards_may_count_the_line(scene: Scene) -> None:
    await scene.waits()
    put = Put(KEY, "a", "op", "creating")
    assert why(await scene.store.put(put._replace(guards=(guard("waiting", most=0),)))) == "guard"
    nobody = guard("waiting", minus=["leased", "idle"], most=1)
    assert isinstance(await scene.store.put(put._replace(guards=(nobody,))), Done)
    scene.still_waiting = 1


async def test_tallies_run_on_through_every_kind_of_change(scene: Scene) -> None:
    await scene.stock("a", tally=(("created", 1),))
    await scene.stock("b", tally=(("created", 1), ("adopted", 2)))
    await scene.give_back((await scene.granted()).entry, None, tally=(("retired", 1),))
    assert (await scene.counts()).tally == {"created": 2, "adopted": 2, "retired": 1}
    assert (await scene.counts(OTHER)).tally == {}


async def test_a_refused_put_still_serves_nobody_wrongly(scene: Scene) -> None:
    await scene.stock("a")
    entry = (await scene.granted()).entry
    await scene.waits(request="r")
    assert why(await scene.give_back(entry._replace(fence=entry.fence + 1))) == "changed"
    assert await scene.heard() == []
    scene.still_waiting = 1


async def test_answers_are_of_one_moment(scene: Scene) -> None:
    await scene.stock("a", "b")
    first = await scene.granted()
    assert first.counts.of("leased") == 1
    counts = await scene.counts()
    await scene.granted()
    assert (first.counts.of("leased"), counts.of("leased")) == (1, 1)


# ---------------------------------------------------------------------------- finding, hearing


async def test_find_gives_those_longest_in_their_state_first(scene: Scene) -> None:
    for entry_id in ("c", "a", "b"):
        await scene.park(f"talk {entry_id}", entry_id)
        scene.advance(1)
    assert await scene.ids("parked") == ["c", "a", "b"]
    # Looking at one leaves it where it is; using it does not.
    await scene.keep(await scene.entry("c"), "parked", deadline_in_s=5.0)
    assert await scene.ids("parked", limit=2) == ["c", "a"]
    await scene.give_back((await scene.granted("talk c")).entry, "parked")
    assert await scene.ids("parked") == ["a", "b", "c"]


@pytest.mark.parametrize("state", ["idle", "ageing", "leased"])
async def test_find_keeps_that_order_for_every_state(scene: Scene, state: str) -> None:
    for number, entry_id in enumerate(("c", "a", "b")):
        await scene.stock(entry_id, state="ageing" if state == "ageing" else "idle")
        if state == "leased":
            await scene.granted()
        scene.advance(number + 1)
    first = await scene.entry("c")
    if state == "leased":
        await scene.give_back(first, "leased", facts=Facts(exchanges=1))
    else:
        await scene.keep(first, first.state, facts=Facts(exchanges=1))
    assert await scene.ids(state) == ["c", "a", "b"]  # type: ignore[arg-type]  # states, by name
    assert await scene.ids(state, limit=1) == ["c"]  # type: ignore[arg-type]  # states, by name


async def test_find_across_states_goes_by_the_time_in_each(scene: Scene) -> None:
    await scene.stock("a", state="retiring")
    scene.advance(1)
    await scene.stock("b")
    scene.advance(1)
    await scene.stock("c", state="retiring")
    assert await scene.ids("retiring", "idle") == ["a", "b", "c"]
    assert await scene.ids() == ["a", "b", "c"]
    assert await scene.ids(limit=2) == ["a", "b"]
    assert await scene.ids("parked") == []


async def test_find_by_conversation(scene: Scene) -> None:
    await scene.keep(await scene.park("talk", "a"), "gone")
    await scene.park("talk", "b")
    await scene.park("other", "c")
    assert await scene.ids(conversation="talk") == ["b", "a"]
    assert await scene.ids("gone", conversation="talk") == ["a"]
    assert await scene.ids(conversation="talk", limit=1) == ["b"]
    assert await scene.ids(conversation="nobody") == []


async def test_watching_ends_when_it_is_ended(scene: Scene) -> None:
    heard: list[str] = []
    end = scene.store.watch(heard.append)
    await scene.waits(request="r1")
    await scene.stock("a")
    await scene.heard()
    end()
    end()
    await scene.waits(request="r2")
    await scene.stock("b")
    assert await scene.heard() == ["r1", "r2"]
    assert heard == ["r1"]
    await scene.granted(request="r1")
    await scene.granted(request="r2")


async def test_a_hit_rings_nobody(scene: Scene) -> None:
    await scene.stock("a")
    await scene.granted()
    assert await scene.heard() == []


async def test_reading_an_unknown_key_finds_it_empty_and_open(scene: Scene) -> None:
    counts, noted = await scene.store.read(OTHER)
    assert (sum(counts.states.values()), counts.waiting, counts.new) == (0, 0, 0)
    assert (noted.version, noted.open, noted.note) == (0, True, Note())
    assert await scene.store.find(OTHER) == []
    assert want(key=OTHER).key == OTHER


async def test_what_a_creation_would_look_like_is_kept_and_falls_due(scene: Scene) -> None:
    sought = Sought("1.10", "1.2", 0, -3.5, 130.0, "ri.aip-agents..session.1")
    for state in ("creating", "unsettled"):
        claim = Put(KEY, state, state, state, facts=Facts(sought=sought), deadline_in_s=5.0)
        assert isinstance(await scene.store.put(claim), Done)
        assert (await scene.entry(state)).facts.sought == sought
    before = await scene.entry("creating")
    scene.advance(4)
    kept = Put(KEY, "creating", "kept", "creating", version=1, deadline_in_s=5.0)
    answer = await scene.store.put(kept)
    assert isinstance(answer, Done)
    assert answer.entry is not None
    assert answer.entry.since == before.since  # when it was claimed, however often it is kept
    scene.advance(2)
    due = await scene.due()
    assert [entry.id for _, entry in due.entries] == ["unsettled"]


async def test_the_rid_of_what_is_off_our_hands_can_be_kept_for_a_while(scene: Scene) -> None:
    entry = await scene.park("talk", "a")
    assert isinstance(await scene.keep(entry, "retiring"), Done)
    retired = await scene.entry("a")
    kept = Put(
        KEY, "a", "op", "chore", version=retired.version, unbind=True, deadline_in_s=5.0,
        tally=(("retired", 1),),
    )  # fmt: skip
    assert isinstance(await scene.store.put(kept), Done)
    found = await scene.store.find(KEY, rid=retired.rid)
    assert [(entry.id, entry.state, entry.conversation) for entry in found] == [
        ("a", "chore", None)
    ]
    await scene.waits("talk")  # it holds the conversation no more, and is no session to be had
    scene.still_waiting = 1
    scene.advance(6)
    assert [entry.id for _, entry in (await scene.due()).entries] == ["a"]


async def test_a_session_can_come_in_quarantine(scene: Scene) -> None:
    put = Put(KEY, "rid-1", "op", "quarantined", rid="rid-1", deadline_in_s=5.0)
    assert isinstance(await scene.store.put(put), Done)
    assert why(await scene.store.put(put._replace(op="another"))) == "changed"
    await scene.waits()
    scene.still_waiting = 1
