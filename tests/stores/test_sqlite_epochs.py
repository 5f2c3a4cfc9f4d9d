"""The file is deleted, replaced, or of another boot; and namespaces share it (B20, B27, B28)."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from session_pool.errors import StoreMismatch
from session_pool.model import FOREVER, Entry, Facts
from session_pool.space import Grant, Held, Put
from session_pool.stores.base import EPOCH
from session_pool.stores.sqlite.address import Address
from session_pool.stores.sqlite.epochs import Machine
from session_pool.stores.sqlite.store import SqliteStore
from tests.stores.scene import KEY, START, Scene, want
from tests.stores.sqlite_engine import audit

WALL = 1_700_000_000.0


class House:
    """Several processes' doors to one file, on a machine whose clocks stand still."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = START
        self.wall = WALL
        self.boot = "first"
        self.opened: list[SqliteStore] = []

    def machine(self) -> Machine:
        """As it is now."""
        return Machine(lambda: self.now, lambda: self.wall, self.boot)

    async def door(self, namespace: str = "default") -> Scene:
        """One more process."""
        store = SqliteStore(
            Address(self.path, namespace), clock=lambda: self.now, machine=self.machine()
        )
        self.opened.append(store)
        await store.open()
        return Scene(_Door(self, store))

    async def restart(self, *, off_s: float, clock_from: float = 50.0) -> None:
        """All processes end, and the machine is started anew after so long."""
        await self.close()
        self.boot += "'"
        self.wall += off_s
        self.now = clock_from

    async def close(self) -> None:
        """Close all doors."""
        while self.opened:
            await self.opened.pop().aclose()


class _Door:
    def __init__(self, house: House, store: SqliteStore) -> None:
        self._house = house
        self.store = store

    def advance(self, seconds: float) -> None:
        self._house.now += seconds
        self._house.wall += seconds

    def check(self) -> None:
        audit(self._house.path)

    async def hear(self) -> None:
        """Rung by its own operations."""


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """A machine with a place for a file; no two parts of which may contradict each other."""
    house = House(tmp_path / "pool.db")
    yield house
    await house.close()
    audit(house.path)


def delete(house: House) -> None:
    """Only the file itself: its journal stays."""
    house.path.unlink()


def replace(house: House) -> None:
    """An older state is put in its place."""
    older = house.path.with_name("older.db")
    older.replace(house.path)


def held(entry: Entry) -> Held:
    """A lease as its holder tells of it."""
    return Held(KEY, entry, expires_in_s=300.0, fresh_in_s=100.0)


# ---------------------------------------------------------------------------- epochs


async def test_a_new_file_is_nobodys_loss(house: House) -> None:
    one, other = await house.door(), await house.door()
    assert one.store.epoch == other.store.epoch != ""
    await one.stock("a")
    assert (await other.granted("talk")).entry.id == "a"
    assert other.rung == []


async def test_a_closed_and_opened_file_is_the_same_epoch(house: House) -> None:
    one = await house.door()
    await one.park("talk", "a")
    epoch = one.store.epoch
    await house.close()
    again = await house.door()
    assert again.store.epoch == epoch
    assert (await again.granted("talk")).entry.id == "a"
    assert again.rung == []


async def test_a_deleted_file_is_another_epoch_and_leases_are_told_to_it(house: House) -> None:
    one, other = await house.door(), await house.door()
    await one.stock("a", "b")
    entry = (await one.granted("talk", ttl=30.0)).entry
    await one.waits("talk", request="r")
    epoch = one.store.epoch
    delete(house)
    assert sum((await other.counts()).states.values()) == 0
    assert (other.rung, one.rung) == ([EPOCH], [])
    assert other.store.epoch != epoch
    # The other asked for no lease, so its calm is short; who comes later prolongs it.
    assert (await one.counts()).waiting == 0
    assert one.store.epoch == other.store.epoch
    assert one.rung == [EPOCH, "r"]
    # New sessions are handed out at once; a conversation waits for what somebody may hold.
    await other.stock("new", "newer")
    assert (await other.granted()).entry.id == "new"
    ticket = await other.waits("talk", request="t")
    assert (ticket.needs, ticket.counts.new) == ("own", 0)
    (now,) = await one.store.register("me", [held(entry)], 30.0)
    assert now is not None
    assert now.fence > entry.fence
    await one.give_back(now, "parked")
    assert (await other.granted("talk", request="t")).entry.id == "a"


async def test_calm_ends_and_who_waited_is_served(house: House) -> None:
    one = await house.door()
    await one.stock("a")
    await one.granted(ttl=30.0)
    delete(house)
    await one.stock("b")
    assert one.rung == [EPOCH]
    assert (await one.waits("talk", request="r", patience=FOREVER)).needs == "own"
    assert await one.refused("own", own_only=True, patience=0.0) == "empty"
    one.advance(29.5)
    assert (await one.counts()).waiting == 1
    one.advance(0.5)
    assert (await one.counts()).waiting == 0
    assert one.rung == [EPOCH, "r"]
    assert (await one.granted("talk", request="r")).entry.id == "b"


async def test_an_older_copy_in_its_place_is_handed_to_nobody_for_a_while(house: House) -> None:
    one = await house.door()
    await one.park("talk", "own")
    await one.stock("free")
    await house.close()
    shutil.copy(house.path, house.path.with_name("older.db"))
    one, other = await house.door(), await house.door()
    epoch = one.store.epoch
    entry = (await one.granted("talk", ttl=30.0)).entry
    await one.granted(ttl=30.0)
    one.advance(1.0)
    replace(house)
    assert await one.refused(patience=0.0) == "empty"
    assert one.store.epoch != epoch
    assert EPOCH in one.rung
    assert await other.refused("talk", patience=0.0) == "empty"
    (now,) = await other.store.register("me", [held(entry)], 30.0)
    assert now is not None
    assert (now.state, now.conversation) == ("leased", "talk")
    one.advance(30.0)
    assert (await one.granted()).entry.id == "free"


async def test_a_copy_that_nobody_knew_before_is_another_epoch_without_a_calm(
    house: House,
) -> None:
    one = await house.door()
    await one.stock("a")
    epoch = one.store.epoch
    await house.close()
    shutil.copy(house.path, house.path.with_name("copy.db"))
    house.path.with_name("copy.db").replace(house.path)
    again = await house.door()
    assert again.store.epoch != epoch
    assert (await again.granted()).entry.id == "a"


async def test_who_waits_hears_of_another_epoch_without_asking(house: House) -> None:
    one = await house.door()
    await one.waits(request="r")
    delete(house)
    one.store._look()  # type: ignore[attr-defined]  # what its timer does
    await one.counts()
    assert one.rung == [EPOCH, "r"]


Asked = Callable[[Scene, Entry], Awaitable[object]]
OPERATIONS: dict[str, Asked] = {
    "take": lambda scene, entry: scene.take(patience=0.0),
    "put": lambda scene, entry: scene.store.put(Put(KEY, "new", "op", "idle")),
    "withdraw": lambda scene, entry: scene.withdraw("r"),
    "renew": lambda scene, entry: scene.store.renew("me", [(entry.id, entry.fence)], 30.0),
    "register": lambda scene, entry: scene.store.register("me", [held(entry)], 30.0),
    "due": lambda scene, entry: scene.due(),
    "note": lambda scene, entry: scene.note(0),
    "read": lambda scene, entry: scene.counts(),
    "find": lambda scene, entry: scene.ids(),
    "share": lambda scene, entry: scene.store.share("p", "me", limit=1, wish=1, for_s=1),
    "identify": lambda scene, entry: scene.store.identify("p", "me"),
}


@pytest.mark.parametrize("operation", sorted(OPERATIONS))
async def test_each_operation_notices_another_epoch(house: House, operation: str) -> None:
    one = await house.door()
    await one.stock("a")
    entry = (await one.granted(ttl=30.0)).entry
    epoch = one.store.epoch
    delete(house)
    await OPERATIONS[operation](one, entry)
    assert one.store.epoch != epoch
    assert one.rung == [EPOCH]


async def test_numbers_grow_past_those_of_a_file_that_was_lost(tmp_path: Path) -> None:
    path = tmp_path / "pool.db"
    store = SqliteStore(Address(path, "default"))  # by the real clock
    await store.open()
    seen = []
    for number in range(2):
        await store.put(Put(KEY, "a", f"op{number}", "idle", expires_in_s=600.0))
        grant = await store.take(want(), f"r{number}", patience_s=0.0, note_version=0)
        assert isinstance(grant, Grant)
        seen.append((grant.entry.fence, grant.place))
        path.unlink()
    (fence, place), (later_fence, later_place) = seen
    assert fence > 1_000_000
    assert place > 1_000_000
    assert later_fence > fence
    assert later_place > place
    await store.aclose()


# ---------------------------------------------------------------------------- another boot


async def test_after_another_boot_leases_have_lapsed_and_sessions_are_looked_at(
    house: House,
) -> None:
    one = await house.door()
    # Those that live longest are made first: what is handed out is what ends first.
    await one.stock("idle", expires=9000.0, fresh_in_s=5000.0, deadline_in_s=4000.0)
    parked = await one.park("talk", "parked", expires=800.0, facts=Facts(exchanges=2))
    await one.keep(parked, "parked", deadline_in_s=3000.0)
    await one.stock("held", expires=700.0)
    assert (await one.granted(ttl=10_000.0)).entry.id == "held"
    await one.stock("gone", state="gone", deadline_in_s=500.0)
    await one.note(0)
    await one.waits("elsewhere", request="r", wish=99_999.0, known=1)
    await one.withdraw("buried")
    await one.store.share("p", "me", limit=10, wish=10, for_s=9999.0)
    await one.store.identify("p", "client")
    epoch = one.store.epoch
    one.advance(100.0)
    await house.restart(off_s=1000.0)
    again = await house.door()
    now, passed = house.now, 1100.0
    assert again.store.epoch != epoch
    assert again.rung == []
    held_, idle = await again.entry("held"), await again.entry("idle")
    assert (held_.state, held_.lapses, held_.deadline) == ("leased", now, now)
    assert (idle.expires, idle.deadline) == (now, now)
    assert idle.fresh_until == now + 5000.0 - passed
    own = await again.entry("parked")
    assert own.expires == now + 800.0 - passed, "what has passed its end is as far past it"
    assert own.deadline == now + 3000.0 - passed
    assert own.since == now - passed
    assert (await again.entry("gone")).deadline == now + 500.0 - passed
    # None of them is handed out for what it was, but a conversation still gets its own.
    assert await again.refused(wish=1.0, patience=0.0, known=1) == "empty"
    grant = await again.granted("talk", request="buried")
    assert (grant.entry.id, grant.entry.expires - grant.now) == ("parked", 800.0 - passed)
    counts, noted = await again.store.read(KEY)
    assert (counts.waiting, noted.version, noted.age_s) == (0, 1, passed)
    assert {e.id for _, e in (await again.due()).entries} == {"held", "idle", "gone"}
    assert await again.store.share("p", "you", limit=10, wish=10, for_s=1.0) == (10, 0)
    assert await again.store.identify("p", "another") == "client"


async def test_what_lives_still_by_the_wall_clock_is_shown_at_its_end(house: House) -> None:
    one = await house.door()
    await one.park("talk", "a", expires=5000.0)
    await house.restart(off_s=100.0, clock_from=9_999_999.0)
    grant = await (await house.door()).granted("talk")
    assert grant.entry.expires == grant.now


async def test_a_wall_clock_that_went_back_makes_nothing_younger_than_now(house: House) -> None:
    one = await house.door()
    await one.park("talk", "a")
    await house.restart(off_s=-10_000.0)
    again = await house.door()
    assert (await again.entry("a")).since == house.now
    assert (await again.granted("talk")).entry.id == "a"


async def test_a_second_machine_on_the_same_file_is_refused(house: House) -> None:
    one = await house.door()
    house.boot = "another machine's"
    await house.door()
    with pytest.raises(StoreMismatch, match="another machine"):
        await one.counts()


# ---------------------------------------------------------------------------- namespaces


async def test_namespaces_know_nothing_of_each_other(house: House) -> None:
    blue, green = await house.door("blue"), await house.door("green")
    await blue.stock("a", deadline_in_s=0.0)
    assert await green.ids() == []
    assert await green.refused(patience=0.0) == "empty"
    assert (await green.due()).entries == ()
    await green.stock("a")
    assert (await green.granted(request="r")).entry.id == "a"
    assert (await blue.granted(request="r")).entry.id == "a"
    await blue.store.identify("p", "one")
    assert await green.store.identify("p", "two") == "two"
    assert (await blue.store.share("p", "me", limit=1, wish=1, for_s=9)).granted == 1
    assert (await green.store.share("p", "you", limit=1, wish=1, for_s=9)).granted == 1
