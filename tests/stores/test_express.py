"""The express: who stands there loses nothing by it, and neither does who stands elsewhere."""

from __future__ import annotations

from typing import Any

from session_pool.model import FOREVER
from session_pool.space import Grant, Put, Refusal, Ticket, Want
from session_pool.stores.lending import MORE_WANTED, PASSED_ON
from session_pool.stores.memory import MemoryStore
from tests.stores.audit import audit
from tests.stores.pair import Chime
from tests.stores.scene import KEY

PLAIN = Want(KEY, "p1", None, None, 10.0, FOREVER, 3, 100)
TALK = PLAIN._replace(conversation="talk")


class Room:
    """A store, and who asks it."""

    def __init__(self, *sessions: str, want: Want = PLAIN) -> None:
        self.now = 1000.0
        self.store = MemoryStore(clock=lambda: self.now)
        self.lender = self.store.lender(KEY)
        self.rung: list[str] = []
        self.store.watch(self.rung.append)
        self.want = want
        self.made = 0
        for name in sessions:
            self.make(name)

    def name(self) -> str:
        """One that was never used."""
        self.made += 1
        return f"r{self.made}"

    def make(self, name: str, *, pinned: bool = False) -> None:
        """A session lies ready."""
        self.store.put_nowait(
            Put(
                KEY, name, self.name(), "idle", rid=name, agent_version="1.0", pinned=pinned,
                expires_in_s=1000.0, fresh_in_s=500.0,
            )
        )  # fmt: skip

    def lend(self, want: Want | None = None) -> Any:
        """What the short way brings."""
        return self.lender.lend(want or self.want, self.name(), 0, Chime)

    def take(
        self, want: Want, request: str = "", patience_s: float = FOREVER
    ) -> Grant | Ticket | Refusal:
        """The long way."""
        return self.store.take_nowait(
            want, request or self.name(), patience_s=patience_s, note_version=0
        )

    def end(self, grant: Grant, state: Any) -> None:
        """A lease that was had the long way."""
        entry = grant.entry
        self.store.put_nowait(Put(KEY, entry.id, self.name(), state, None, entry.fence, None, 50.0))


def talking(room: Room) -> Grant:
    """A conversation has a session, which it holds."""
    grant = room.take(TALK)
    assert isinstance(grant, Grant)
    return grant


def test_who_waits_in_vain_is_told_though_somebody_stands_in_the_express() -> None:
    room = Room("a")
    held = talking(room)
    room.take(TALK._replace(own_only=True), "forgets")
    _, _, bell, _ = room.lend()
    room.end(held, "gone")
    assert room.rung == ["forgets"]
    assert not bell.rung
    audit(room.store)
    assert isinstance(room.take(TALK._replace(own_only=True), "forgets"), Refusal)


def test_who_moves_up_behind_one_that_waits_in_vain_keeps_his_place_before_the_express() -> None:
    room = Room("a", "b")
    held, plain = talking(room), room.lend()
    room.take(TALK._replace(own_only=True), "forgets")
    room.take(TALK, "follows")
    _, _, bell, _ = room.lend()
    room.end(held, "gone")
    audit(room.store)
    room.lender.take_back(plain, plain.lease, 50.0)
    assert isinstance(room.take(TALK, "follows"), Grant)
    assert not bell.rung
    audit(room.store)


def test_a_raised_cap_serves_the_express_before_a_conversation_that_comes() -> None:
    room = Room("a", "b", want=PLAIN._replace(max_leased=1))
    talk, plain = TALK._replace(max_leased=1), room.want
    grant = room.take(talk)
    assert isinstance(grant, Grant)
    room.end(grant, "parked")
    held = room.lend(plain)
    _, _, bell, _ = room.lend(plain)
    room.make("c")
    raised = room.take(talk._replace(max_leased=2))
    assert isinstance(raised, Ticket)
    assert bell.rung
    assert held.lease
    audit(room.store)


def test_who_leaves_the_express_leaves_nothing_behind() -> None:
    room = Room("a", want=PLAIN._replace(max_leased=1))
    loan, patient = room.lend(), room.lend()
    for _ in range(1000):
        standing = room.lend()
        standing[2].left = True
        room.lender.leave(standing)
    assert room.store.read_nowait(KEY)[0].waiting == 1
    assert len(room.lender._express) < 200
    assert len(room.lender._left) < 200
    audit(room.store)
    assert room.lender.take_back(loan, loan.lease, 50.0) == PASSED_ON
    assert patient[2].rung == [loan]


def test_what_is_of_no_use_to_who_waits_is_told_so_as_it_comes_back() -> None:
    room = Room(want=PLAIN._replace(max_leased=1))
    room.make("a", pinned=True)
    loan = room.lend(room.want._replace(agent_version="1.0"))
    standing = room.lend()
    assert standing[3] is False
    assert room.lender.take_back(loan, loan.lease, 50.0) == MORE_WANTED
    assert room.store.read_nowait(KEY)[0].new == 1


def test_what_is_to_be_made_is_what_the_earliest_in_want_wants() -> None:
    room = Room("a", want=PLAIN._replace(max_leased=9))
    other = room.want._replace(agent_version="2.0")
    talk = TALK._replace(max_leased=9)
    talking(room)
    room.take(talk, "own")
    room.lend()
    room.take(talk._replace(conversation="new", agent_version="2.0"))
    room.lend()
    room.take(other)
    versions = [want.agent_version for want in room.lender.wants()]
    assert versions == [None, "2.0", None, "2.0"]
