"""Time: leases that lapse, renewals, what is due, shares of a limit (B13, B20, B21)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from session_pool.model import FOREVER, PoolKey
from session_pool.space import Done, NotDone
from session_pool.stores.memory import MemoryStore
from tests.stores.scene import KEY, OTHER, START, Scene


async def due_ids(scene: Scene, **asked: float) -> list[str]:
    """Ids of what is due now."""
    due = await scene.due(**asked)  # type: ignore[arg-type]  # limit is a number too
    return [entry.id for _, entry in due.entries]


# ---------------------------------------------------------------------------- lapsing


async def test_a_lapsed_lease_can_not_be_given_back(scene: Scene) -> None:
    await scene.stock("a")
    entry = (await scene.granted(ttl=30.0)).entry
    scene.advance(30)
    answer = await scene.give_back(entry)
    assert isinstance(answer, NotDone)
    assert answer.why == "lapsed"
    assert (await scene.entry("a")).state == "leased"


async def test_up_to_that_instant_it_can(scene: Scene) -> None:
    await scene.stock("a")
    entry = (await scene.granted(ttl=30.0)).entry
    scene.advance(29.5)
    assert isinstance(await scene.give_back(entry), Done)


async def test_a_lapsed_session_is_handed_to_nobody_and_falls_due(scene: Scene) -> None:
    await scene.stock("a")
    await scene.granted(ttl=30.0)
    scene.advance(29.5)
    assert await due_ids(scene) == []
    scene.advance(0.5)
    assert await scene.refused(patience=0) == "empty"
    (found,) = (await scene.due()).entries
    assert found[0] == KEY
    assert (found[1].id, found[1].state) == ("a", "leased")
    assert isinstance(await scene.keep(found[1], "quarantined"), Done)
    assert await scene.refused(patience=0) == "empty"


async def test_the_verdict_on_a_lapsed_lease_shuts_its_holder_out(scene: Scene) -> None:
    await scene.stock("a")
    held = (await scene.granted(ttl=30.0)).entry
    scene.advance(30)
    await scene.keep(held, "quarantined")
    answer = await scene.give_back(held)
    assert isinstance(answer, NotDone)
    assert answer.why == "changed"


async def test_a_renewed_lease_lives_on(scene: Scene) -> None:
    await scene.stock("a", "b")
    leases = [(await scene.granted(ttl=30.0)).entry for _ in range(2)]
    scene.advance(29.5)
    asked = [(entry.id, entry.fence) for entry in leases]
    assert list(await scene.store.renew("me", asked, 30.0)) == [True, True]
    scene.advance(29.5)
    assert await due_ids(scene) == []
    assert isinstance(await scene.give_back(leases[0]), Done)
    scene.advance(0.5)
    assert await due_ids(scene) == ["b"]


async def test_a_renewal_changes_no_version(scene: Scene) -> None:
    await scene.stock("a")
    entry = (await scene.granted(ttl=30.0)).entry
    scene.advance(5)
    await scene.store.renew("me", [(entry.id, entry.fence)], 30.0)
    lapses = START + 35
    assert await scene.entry("a") == entry._replace(lapses=lapses, deadline=lapses)


async def test_a_renewal_of_what_has_lapsed_is_refused(scene: Scene) -> None:
    await scene.stock("a", "b")
    lapsed = (await scene.granted(ttl=30.0)).entry
    alive = (await scene.granted(ttl=60.0)).entry
    scene.advance(30)
    asked = [(lapsed.id, lapsed.fence), (alive.id, alive.fence)]
    assert list(await scene.store.renew("me", asked, 30.0)) == [False, True]


async def test_a_renewal_of_another_lease_is_refused(scene: Scene) -> None:
    await scene.stock("a")
    old = (await scene.granted(ttl=30.0)).entry
    await scene.give_back(old)
    assert list(await scene.store.renew("me", [(old.id, old.fence)], 30.0)) == [False]
    new = (await scene.granted(ttl=30.0, holder="other")).entry
    asked = [(old.id, old.fence), (new.id, new.fence), ("unknown", 1)]
    assert list(await scene.store.renew("me", asked, 30.0)) == [False, False, False]
    assert list(await scene.store.renew("other", asked, 30.0)) == [False, True, False]


async def test_a_renewal_may_shorten_a_lease_and_upkeep_still_finds_it(scene: Scene) -> None:
    await scene.stock("a")
    entry = (await scene.granted(ttl=FOREVER)).entry
    assert list(await scene.store.renew("me", [(entry.id, entry.fence)], 5.0)) == [True]
    scene.advance(5)
    assert await due_ids(scene) == ["a"]


# ---------------------------------------------------------------------------- due


async def test_what_is_due_is_claimed_once(scene: Scene) -> None:
    await scene.stock("a", "b", deadline_in_s=10.0)
    await scene.stock("c", deadline_in_s=11.0)
    await scene.stock("d", deadline_in_s=5.0, key=OTHER)
    scene.advance(10)
    first = await scene.due(for_s=20.0)
    assert {(key, entry.id) for key, entry in first.entries} == {
        (KEY, "a"),
        (KEY, "b"),
        (OTHER, "d"),
    }
    assert (first.now, first.next_in_s) == (START + 10, 1.0)
    assert await due_ids(scene) == []
    scene.advance(20)
    assert set(await due_ids(scene)) == {"a", "b", "c", "d"}


async def test_a_claim_moves_only_the_deadline(scene: Scene) -> None:
    await scene.stock("a", deadline_in_s=10.0)
    before = await scene.entry("a")
    scene.advance(10)
    await scene.due(for_s=20.0)
    assert await scene.entry("a") == before._replace(deadline=START + 30)
    assert (await scene.granted()).entry.id == "a"


async def test_a_claim_is_limited_and_the_earliest_come_first(scene: Scene) -> None:
    for number, entry_id in enumerate(("c", "a", "b")):
        await scene.stock(entry_id, deadline_in_s=float(number))
    scene.advance(2)
    due = await scene.due(limit=2)
    assert [entry.id for _, entry in due.entries] == ["c", "a"]
    assert due.next_in_s == 0.0
    assert await due_ids(scene, limit=2) == ["b"]


async def test_nothing_due_says_when_to_come_again(scene: Scene) -> None:
    assert (await scene.due()).next_in_s == FOREVER
    await scene.stock("far", deadline_in_s=1e6)
    assert (await scene.due()).next_in_s == 1e6
    await scene.stock("near", deadline_in_s=7.0)
    assert (await scene.due()).next_in_s == 7.0
    await scene.granted(wish=0.0)
    assert (await scene.due()).next_in_s == 7.0


async def test_a_deadline_that_moved_on_is_not_due_early(scene: Scene) -> None:
    await scene.stock("a", deadline_in_s=10.0)
    await scene.keep(await scene.entry("a"), "idle", deadline_in_s=500.0)
    scene.advance(10)
    due = await scene.due()
    assert (due.entries, due.next_in_s) == ((), 490.0)
    scene.advance(490)
    assert await due_ids(scene) == ["a"]


async def test_a_deadline_that_moved_nearer_is_due_then(scene: Scene) -> None:
    await scene.stock("a", deadline_in_s=5000.0)
    await scene.keep(await scene.entry("a"), "idle", deadline_in_s=4999.5)
    await scene.keep(await scene.entry("a"), "idle", deadline_in_s=3.0)
    assert (await scene.due()).next_in_s == 3.0
    scene.advance(3)
    assert await due_ids(scene) == ["a"]
    assert (await scene.due(for_s=1.0)).next_in_s == 10.0


async def test_a_session_leased_over_and_over_falls_due_when_idle(scene: Scene) -> None:
    await scene.stock("a", fresh_in_s=100.0, deadline_in_s=100.0)
    for _ in range(50):
        scene.advance(1)
        await scene.give_back((await scene.granted(ttl=30.0)).entry)
    assert await due_ids(scene) == []
    scene.advance(49.5)
    assert await due_ids(scene) == []
    scene.advance(0.5)
    assert await due_ids(scene) == ["a"]


async def test_far_deadlines_are_due_at_their_instant(scene: Scene) -> None:
    for number in range(200):
        await scene.stock(f"e{number:03}", deadline_in_s=7.5 * number)
    for number in range(200):
        assert await due_ids(scene, for_s=1e9) == [f"e{number:03}"]
        scene.advance(7.5)


# ---------------------------------------------------------------------------- shares


async def test_shares_never_sum_above_the_limit(scene: Scene) -> None:
    share = scene.store.share
    assert await share("p", "a", limit=10, wish=6, for_s=5) == (6, 0)
    assert await share("p", "b", limit=10, wish=6, for_s=5) == (4, 0)
    assert await share("p", "c", limit=10, wish=6, for_s=5) == (0, 2)
    assert await share("q", "c", limit=10, wish=6, for_s=5) == (6, 0)
    assert await share("p", "a", limit=10, wish=2, for_s=5) == (2, 8)


async def test_what_comes_free_goes_to_whoever_lacks_it_longest(scene: Scene) -> None:
    share = scene.store.share
    await share("p", "a", limit=10, wish=10, for_s=50)
    await share("p", "b", limit=10, wish=4, for_s=50)
    await share("p", "c", limit=10, wish=4, for_s=50)
    assert await share("p", "a", limit=10, wish=5, for_s=50) == (5, 8)
    assert await share("p", "a", limit=10, wish=10, for_s=50) == (5, 8), "it is behind them now"
    assert await share("p", "c", limit=10, wish=4, for_s=50) == (1, 9), "four are kept for b"
    assert await share("p", "b", limit=10, wish=4, for_s=50) == (4, 8)
    assert await share("p", "c", limit=10, wish=0, for_s=50) == (0, 5)
    assert await share("p", "a", limit=10, wish=10, for_s=50) == (6, 0)


async def test_who_falls_silent_stands_in_no_line_for_shares(scene: Scene) -> None:
    share = scene.store.share
    await share("p", "a", limit=10, wish=8, for_s=50)
    await share("p", "b", limit=10, wish=8, for_s=5)
    scene.advance(5)
    assert await share("p", "c", limit=10, wish=8, for_s=5) == (2, 0)


async def test_a_share_given_back_or_run_out_is_free_at_that_instant(scene: Scene) -> None:
    share = scene.store.share
    await share("p", "a", limit=10, wish=10, for_s=5)
    assert (await share("p", "a", limit=10, wish=0, for_s=5)).granted == 0
    assert (await share("p", "b", limit=10, wish=10, for_s=5)).granted == 10
    scene.advance(4.5)
    assert (await share("p", "a", limit=10, wish=10, for_s=5)).granted == 0
    scene.advance(0.5)
    assert (await share("p", "a", limit=10, wish=10, for_s=5)).granted == 10


async def test_a_limit_lowered_by_one_holds_for_all(scene: Scene) -> None:
    share = scene.store.share
    await share("p", "a", limit=10, wish=6, for_s=5)
    assert (await share("p", "b", limit=5, wish=6, for_s=5)).granted == 0
    assert (await share("p", "a", limit=10, wish=6, for_s=5)).granted == 5


async def test_an_identity_is_recorded_once(scene: Scene) -> None:
    assert await scene.store.identify("p", "client-1") == "client-1"
    assert await scene.store.identify("p", "client-2") == "client-1"
    assert await scene.store.identify("q", "client-2") == "client-2"


@given(
    asked=st.lists(
        st.tuples(st.sampled_from("abcd"), st.integers(0, 12), st.integers(0, 4)), max_size=40
    )
)
async def test_whatever_is_asked_live_shares_stay_under_the_limit(
    asked: list[tuple[str, int, int]],
) -> None:
    now = 0.0
    store = MemoryStore(clock=lambda: now)
    live: dict[str, tuple[float, float]] = {}
    for holder, wish, passed in asked:
        now += passed
        got = await store.share("p", holder, limit=10, wish=wish, for_s=5)
        live[holder] = (got.granted, now + 5)
        assert got.granted <= wish
        assert sum(part for part, ends in live.values() if ends > now) <= 10


async def test_keys_are_equal_by_value(scene: Scene) -> None:
    await scene.stock("a", key=PoolKey(*KEY))
    assert (await scene.granted()).entry.id == "a"


async def test_a_session_is_found_by_its_rid(scene: Scene) -> None:
    await scene.stock("a", "b")
    assert [e.id for e in await scene.store.find(KEY, rid="rid-b")] == ["b"]
    assert list(await scene.store.find(KEY, rid="rid-b", states=("parked",))) == []
    assert list(await scene.store.find(KEY, rid="rid-c")) == []
