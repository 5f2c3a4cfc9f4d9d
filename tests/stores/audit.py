"""What must hold inside the memory store between any two operations.

Looks into its parts on purpose: an index that disagrees with an entry is wrong long before an
answer shows it.
"""

from __future__ import annotations

from session_pool.model import FOREVER
from session_pool.space import Want
from session_pool.stores.entries import Entries
from session_pool.stores.lending import Standing
from session_pool.stores.loans import Loans
from session_pool.stores.memory import MemoryStore
from session_pool.stores.rows import FREE, MEMORIES, Row
from session_pool.stores.waiting import OWN, Waiter, refusal


def audit(store: MemoryStore) -> None:
    """Assert that the store's parts agree with each other."""
    rows = list(store._rows.values())
    assert all(entry_id == row.id for entry_id, row in store._rows.items())
    for row in rows:
        assert row.queued <= row.deadline, "upkeep would come too late"
    for key, counter in store._counters.items():
        assert counter.key == key
        own = [row for row in rows if row.key is counter.key]
        _audit_entries(counter.entries, own)
        _audit_waiting(counter, own)
        _audit_service(counter, own, store._clock())
    known = [counter.key for counter in store._counters.values()]
    assert all(any(row.key is key for key in known) for row in rows)


def _audit_entries(entries: Entries, rows: list[Row]) -> None:
    for state in set(entries.count) | {row.state for row in rows}:
        assert entries.count.get(state, 0) == sum(row.state == state for row in rows)
    leased = {row.lease: row for row in rows if row.state == "leased"}
    assert entries.leases == leased
    assert "" not in leased
    for row in rows:
        assert row.hand is None or row.state == "leased"
        # A lease that was registered had been seen, so nothing can undo it (B27).
        assert row.hand is not None or row.state != "leased" or row.fence > 1
    shelved: list[Row] = []
    for (pinned, version), shelf in entries._shelves.items():
        slots = shelf._slots[shelf._start :]
        assert slots == sorted(slots)
        for expires, entry_id, row in slots:
            entry = row
            assert row.shelf is shelf
            assert (expires, entry_id) == (entry.expires, entry.id)
            assert (pinned, version) == (entry.pinned, entry.agent_version)
            assert entry.state in FREE or entry.state == "leased"
        shelved += shelf.rows()
    assert len(shelved) == len({row.id for row in shelved})
    assert {row.id for row in rows if row.shelf is not None} == {row.id for row in shelved}
    assert all(row.shelf is not None for row in rows if row.state in FREE)
    for state, roll in entries._rolls.items():
        assert set(roll) == {row.id for row in rows if row.state == state}
        assert [r.since for r in roll.values()] == sorted(r.since for r in roll.values())
    bound = [row for row in rows if row.conversation and row.state not in MEMORIES]
    assert {row.conversation: row for row in bound} == entries._bound
    assert len(bound) == len(entries._bound), "two sessions of one conversation"
    remembered = {row.id for row in rows if row.conversation} - {row.id for row in bound}
    assert remembered == {r.id for kept in entries._memories.values() for r in kept}


def _audit_waiting(counter: Loans, rows: list[Row]) -> None:
    waiting, counts = counter.waiting, counter.counts
    standing = [w for w in waiting.by_request.values() if w.row is None and w.verdict is None]
    express = _express(counter)
    assert not (express and waiting.lines), "they stand in the lines, if anybody does"
    assert counter._left <= {place for _, place, _, _ in counter._express}
    assert [place for _, place, _, _ in express] == sorted(place for _, place, _, _ in express)
    assert waiting.standing == len(standing)
    assert counts.waiting == len(standing) + len(express)
    for waiter in standing:
        conversation = waiter.want.conversation
        if conversation is None:
            assert _stands(waiter) == (waiter.want.agent_version, waiter.want.wish_s)
            continue
        line = waiting._conversations[conversation]
        first = min((w for w in standing if w.want.conversation == conversation), key=_turn)
        assert line.head() is line.promoted is first
        assert len(line) == sum(w.want.conversation == conversation for w in standing)
        assert _stands(waiter) == (_where(waiter, counter) if waiter is first else None)
    assert set(waiting._conversations) == {
        w.want.conversation for w in standing if w.want.conversation is not None
    }
    for where, lined in waiting.lines.items():
        members = [w for w in standing if _stands(w) == where]
        assert len(lined) == len(members) > 0
        assert lined.head() is min(members, key=_turn)
    assert {_stands(w) for w in standing} - {None} == set(waiting.lines)
    wanting = sum(_stands(w) not in (None, OWN) for w in standing)
    assert waiting.wanting == wanting
    room = counter._cap - counter.entries.count["leased"]
    assert counts.new == max(0, min(wanting + len(express), room))
    assert not waiting.vain
    impatient = [w.patience for w in waiting.by_request.values() if w.patience != FOREVER]
    assert waiting.ends <= min(impatient, default=FOREVER)
    for waiter in waiting.by_request.values():
        if waiter.row is not None and waiter.row.lease == waiter.request:
            assert waiter.row in rows


def _express(counter: Loans) -> list[Standing]:
    return [one for one in counter._express if one[1] not in counter._left]


def _turn(waiter: Waiter) -> tuple[int, str]:
    return (waiter.place, waiter.request)


def _stands(waiter: Waiter) -> tuple[str | None, float] | None:
    return waiter.line.where if waiter.line is not None else None


def _where(waiter: Waiter, counter: Loans) -> tuple[str | None, float] | None:
    own = counter.entries.own(waiter.want.conversation)
    if own is None:
        return (waiter.want.agent_version, waiter.want.wish_s)
    return OWN if own.state == "parked" else None


def _audit_service(counter: Loans, rows: list[Row], now: float) -> None:
    """Nobody stands in line for what is there."""
    count = counter.entries.count
    if not counter._open or count["leased"] >= counter._cap:
        return
    free = [row for row in rows if row.state in FREE]
    for waiter in counter.waiting.by_request.values():
        if waiter.row is not None or waiter.verdict is not None or waiter.line is None:
            continue
        own = counter.entries.own(waiter.want.conversation)
        assert refusal(waiter.want, own) is None
        assert own is None or own.state != "parked", "its own session is there"
        assert own is not None or not any(_fits(entry, waiter.want, now) for entry in free)
    want = counter._known
    for _, _, bell, _ in _express(counter):
        assert want is not None
        assert bell.done() or not any(_fits(entry, want, now) for entry in free)


def _fits(entry: Row, want: Want, now: float) -> bool:
    wanted = want.agent_version
    right = not entry.pinned if wanted is None else entry.agent_version == wanted
    return right and entry.expires >= now + want.wish_s
