"""Stores that are wrong in one thing: the histories must notice each of them.

A suite that passes a wrong store proves nothing about a right one. Each mutant is a mistake that
somebody could make in an engine; the list grows with every one that was made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

from session_pool.model import FOREVER, Entry, State
from session_pool.space import Put, Want
from session_pool.stores import counter as counting
from session_pool.stores import memory as operations
from session_pool.stores.counter import Counter
from session_pool.stores.entries import Entries
from session_pool.stores.loans import Loans
from session_pool.stores.rows import Hand, Row
from session_pool.stores.shelf import Shelf
from session_pool.stores.waiting import Line, Waiter, Waiting
from tests.stores import scene
from tests.stores.test_histories import play

SEEDS: Final = 200
"""Histories before a mutant counts as unnoticed; the slyest of them took 19."""


def play_many(seeds: int) -> None:
    """Histories until one of them finds something."""
    for seed in range(seeds):
        play("memory", seed, 100)


def lapsed_lease_can_be_given_back(patch: pytest.MonkeyPatch) -> None:
    right = Counter._put

    def wrong(self: Counter, put: Put, now: float) -> Any:
        row = self._rows.get(put.id)
        if row is not None and put.fence is not None and row.lapses <= now:
            row.lapses = FOREVER
        return right(self, put, now)

    patch.setattr(Counter, "_put", wrong)


def lapsed_lease_goes_back_to_idle(patch: pytest.MonkeyPatch) -> None:
    right = Counter.settle

    def wrong(self: Counter, now: float) -> None:
        for row in [row for row in self.entries.leases.values() if row.lapses <= now]:
            self._undo(row, now)
        right(self, now)

    patch.setattr(Counter, "settle", wrong)


def lapsed_lease_can_be_renewed(patch: pytest.MonkeyPatch) -> None:
    right = operations._holds
    patch.setattr(operations, "_holds", lambda r, holder, fence, _: right(r, holder, fence, -1.0))


def fence_does_not_grow(patch: pytest.MonkeyPatch) -> None:
    right = Entries.lease

    def wrong(self: Entries, row: Row, *how: Any) -> None:
        fence = row.fence
        right(self, row, *how)
        row.fence = fence

    patch.setattr(Entries, "lease", wrong)


def fence_comes_back_when_undone(patch: pytest.MonkeyPatch) -> None:
    _undone(patch, lambda row, _hand: setattr(row, "fence", row.fence - 1))


def undone_is_always_idle(patch: pytest.MonkeyPatch) -> None:
    def wrong(row: Row, _hand: Hand) -> None:
        row.state, row.conversation = "idle", None

    _undone(patch, wrong)


def hit_undone_keeps_its_conversation(patch: pytest.MonkeyPatch) -> None:
    right = Row.undo

    def wrong(self: Row, hand: Hand, now: float) -> None:
        conversation = self.conversation
        right(self, hand, now)
        if conversation is not None:
            self.state, self.conversation = "parked", conversation

    patch.setattr(Row, "undo", wrong)


def undone_keeps_what_its_holder_wrote(patch: pytest.MonkeyPatch) -> None:
    right = Row.undo
    patch.setattr(Row, "undo", lambda self, hand, now: right(self, (*hand[:3], None), now))


def _undone(patch: pytest.MonkeyPatch, wrong: Callable[[Row, Hand], None]) -> None:
    right = Row.undo

    def undo(self: Row, hand: Hand, now: float) -> None:
        right(self, hand, now)
        wrong(self, hand)

    patch.setattr(Row, "undo", undo)


def repeated_put_is_done_twice(patch: pytest.MonkeyPatch) -> None:
    right = Row.change

    def wrong(self: Row, put: Put, state: State, now: float) -> None:
        right(self, put, state, now)
        self.op = "forgotten"

    patch.setattr(Row, "change", wrong)


def newcomers_barge_when_the_cap_is_raised(patch: pytest.MonkeyPatch) -> None:
    right = Counter.take

    def wrong(self: Counter, want: Want, *asked: Any) -> Any:
        self._cap = want.max_leased
        return right(self, want, *asked)

    patch.setattr(Counter, "take", wrong)


def newcomers_barge_into_a_conversation(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Waiting, "behind", lambda _self, _conversation: False)


def last_come_is_first_served(patch: pytest.MonkeyPatch) -> None:
    def wrong(self: Line) -> Waiter | None:
        return max(self._members, key=lambda waiter: waiter.place, default=None)

    patch.setattr(Line, "head", wrong)


def cap_is_one_too_many(patch: pytest.MonkeyPatch) -> None:
    right = Counter.take

    def wrong(self: Counter, want: Want, *asked: Any) -> Any:
        return right(self, want._replace(max_leased=want.max_leased + 1), *asked)

    patch.setattr(Counter, "take", wrong)


def everybody_in_line_counts_as_new(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Loans, "wanting", property(lambda self: self.standing))


def withdrawn_request_may_come_back(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(counting, "TOMBSTONE_S", 0.0)


def patience_lasts_too_long(patch: pytest.MonkeyPatch) -> None:
    right = Waiting.silent
    patch.setattr(Waiting, "silent", lambda self, now: right(self, now - 0.5))


def latest_expiry_goes_first(patch: pytest.MonkeyPatch) -> None:
    def wrong(self: Shelf, least_expires: float) -> Row | None:
        free = [row for row in self.rows() if row.state != "leased"]
        free = [row for row in free if row.expires >= least_expires]
        return free[-1] if free else None

    patch.setattr(Shelf, "first", wrong)


def wish_is_met_only_above(patch: pytest.MonkeyPatch) -> None:
    right = Entries.free
    patch.setattr(Entries, "free", lambda self, version, ends: right(self, version, ends + 0.001))


def oldest_memory_is_told(patch: pytest.MonkeyPatch) -> None:
    def wrong(self: Entries, conversation: str | None) -> Entry | None:
        remembered = self._memories.get(conversation or "")
        return remembered[0].entry() if remembered else None

    patch.setattr(Entries, "memory", wrong)


def closed_key_hands_out(patch: pytest.MonkeyPatch) -> None:
    right = Counter.serve

    def wrong(self: Counter, now: float) -> None:
        was, self._open = self._open, True
        right(self, now)
        self._open = was

    patch.setattr(Counter, "serve", wrong)


MUTANTS: Final[tuple[Callable[[pytest.MonkeyPatch], None], ...]] = (
    lapsed_lease_can_be_given_back,
    lapsed_lease_goes_back_to_idle,
    lapsed_lease_can_be_renewed,
    fence_does_not_grow,
    fence_comes_back_when_undone,
    undone_is_always_idle,
    hit_undone_keeps_its_conversation,
    undone_keeps_what_its_holder_wrote,
    repeated_put_is_done_twice,
    newcomers_barge_when_the_cap_is_raised,
    newcomers_barge_into_a_conversation,
    last_come_is_first_served,
    cap_is_one_too_many,
    everybody_in_line_counts_as_new,
    withdrawn_request_may_come_back,
    patience_lasts_too_long,
    latest_expiry_goes_first,
    wish_is_met_only_above,
    oldest_memory_is_told,
    closed_key_hands_out,
)


@pytest.mark.parametrize("mutate", MUTANTS, ids=lambda mutate: mutate.__name__)
def test_a_wrong_store_is_noticed(
    mutate: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate(monkeypatch)
    # By what it says alone, as for an engine that cannot be looked into.
    monkeypatch.setattr(scene.MemoryEngine, "check", lambda _self: None)
    with pytest.raises((AssertionError, LookupError)):
        play_many(SEEDS)
