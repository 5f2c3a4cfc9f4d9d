"""What must hold inside a Redis store between any two operations.

Everything that is kept is read by hand, and every index, count and deadline is made anew from the
entries and the waiters alone: it must be what is there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from struct import pack, unpack_from
from typing import Any, Final, NamedTuple, get_args

from session_pool.model import State

STATES: Final[tuple[State, ...]] = get_args(State)

FREE: Final = (b"idle", b"ageing")
MEMORIES: Final = (b"retiring", b"gone")
OWN: Final = b"\1\0" + pack(">d", 0)

Ask = Callable[..., Any]


class _Row(NamedTuple):
    since: float
    expires: float
    deadline: float
    pinned: float
    seq: float
    id: bytes
    state: bytes
    rid: bytes
    agent: bytes
    talk: bytes
    lease: bytes
    key: bytes
    hand: bytes


class _Waiter(NamedTuple):
    place: float
    patience: float
    wish: float
    kind: int
    talk: bytes
    version: bytes
    granted: bytes
    verdict: bytes
    request: bytes


def audit(ask: Ask, base: str, now: float) -> None:
    """Assert that the parts of a namespace agree with each other."""
    rows = [_row(text) for text in _hash(ask, f"{base}entries").values()]
    deadlines = _pairs(ask("ZRANGE", f"{base}due", "0", "-1", "WITHSCORES"))
    finite = {row.id: row.deadline for row in rows if row.deadline != float("inf")}
    assert {name: float(score) for name, score in deadlines.items()} == finite
    keys = {row.key for row in rows}
    heads = ask("KEYS", f"{base}*:head")
    assert len(keys) <= len(heads)
    seen = 0
    for name in heads:
        prefix = name.decode().removesuffix("head")
        index = set(ask("ZRANGE", f"{prefix}index", "0", "-1"))
        mine = {member[-len(row.id) :]: row for row in rows for member in index if _of(row, member)}
        seen += len(mine)
        _audit_key(ask, prefix, list(mine.values()), index)
    assert seen == len(rows)


def _of(row: _Row, member: bytes) -> bool:
    return member == b"S" + row.state + b"\0" + pack(">d", row.since) + row.id


def _audit_key(ask: Ask, prefix: str, rows: list[_Row], index: set[bytes]) -> None:
    names = _hash(ask, f"{prefix}names")
    waiters = [_waiter(name[1:], text) for name, text in names.items() if name[:1] == b"w"]
    standing = [w for w in waiters if not w.granted and not w.verdict]
    head = ask("GET", f"{prefix}head")
    numbers = unpack_from(">14I", head, 56)
    wanting = sum(w.kind == 1 for w in standing)
    assert numbers[1:4] == (len(waiters), len(standing), wanting)
    counted = Counter(row.state.decode() for row in rows)
    assert dict(zip(STATES, numbers[4:], strict=True)) == {s: counted[s] for s in STATES}
    tombs = {name[1:]: ends for name, ends in names.items() if name[:1] == b"d"}
    expected = {mark for row in rows for mark in _marks(row)}
    expected |= {mark for w in waiters for mark in _lines(w)}
    expected |= {b"D" + ends + request for request, ends in tombs.items()}
    assert index == expected
    bound = {row.talk: row.id for row in rows if row.talk and row.state not in MEMORIES}
    heads = {w.talk: w for w in sorted(standing, key=_turn, reverse=True) if w.talk}
    assert {n[1:]: t for n, t in names.items() if n[:1] == b"o"} == bound
    assert {n[1:]: t for n, t in names.items() if n[:1] == b"p"} == {
        talk: w.request for talk, w in heads.items()
    }
    assert {n[1:]: t for n, t in names.items() if n[:1] == b"l"} == {
        row.lease: row.id for row in rows if row.lease
    }
    for w in standing:
        assert w.kind == 0 or not w.talk or heads[w.talk] is w
    for row in rows:
        assert bool(row.lease) == (row.state == b"leased")
        assert not row.hand or row.state == b"leased"


def _turn(waiter: _Waiter) -> tuple[float, bytes]:
    return (waiter.place, waiter.request)


def _marks(row: _Row) -> list[bytes]:
    marks = [b"S" + row.state + b"\0" + pack(">d", row.since) + row.id]
    if row.state in FREE:
        marks.append(b"V" + row.agent + b"\0" + pack(">d", row.expires) + row.id)
        if not row.pinned:
            marks.append(b"F" + pack(">d", row.expires) + row.id)
    if row.state in MEMORIES and row.talk:
        marks.append(b"M" + row.talk + b"\0" + pack(">d", row.seq) + row.id)
    if row.rid:
        marks.append(b"R" + row.rid + b"\0" + row.id)
    return marks


def _lines(w: _Waiter) -> list[bytes]:
    marks, turn = [], pack(">d", w.place) + w.request
    if w.patience != float("inf"):
        marks.append(b"P" + pack(">d", w.patience) + w.request)
    if w.talk and not w.granted and not w.verdict:
        marks.append(b"T" + w.talk + b"\0" + turn)
    if w.kind:
        line = OWN if w.kind == 2 else w.version + b"\0" + pack(">d", w.wish)
        marks += [b"W" + line + turn, b"X" + line]
    return marks


def _row(text: bytes) -> _Row:
    _, _, _, since, _, expires, deadline, pinned, _, _, seq = unpack_from(">11d", text)
    entry_id, state, rid, agent, talk, _, lease, _, _, key, hand, _, _ = text[88:].split(b"\0")
    return _Row(
        since, expires, deadline, pinned, seq, entry_id, state, rid, agent, talk, lease, key, hand
    )


def _waiter(request: bytes, text: bytes) -> _Waiter:
    place, patience, wish, _, _, kind = unpack_from(">6d", text)
    talk, version, _, _, granted, verdict, _ = text[48:].split(b"\0")
    return _Waiter(place, patience, wish, int(kind), talk, version, granted, verdict, request)


def _hash(ask: Ask, name: str) -> dict[bytes, bytes]:
    return _pairs(ask("HGETALL", name))


def _pairs(flat: list[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))
