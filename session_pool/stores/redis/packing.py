"""Values as the scripts read them, and what they answer as values.

Numbers travel as big-endian doubles, so that they arrive as they were (Lua's text form keeps 14
digits) and "without end" is just infinity. Texts hold no NUL: inside an entry they end with one.
The formats are those of `lua/begin.lua`, `lua/key.lua` and `lua/change.lua`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from struct import Struct
from typing import Final, cast

from session_pool.errors import ConfigError
from session_pool.model import NO_FACTS, Counts, Entry, Facts, PoolKey
from session_pool.space import Guard, Held, Note, Noted, Put, Want
from session_pool.stores.coding import facts_as_text, facts_of_text, note_of_text

UNKNOWN: Final = float("nan")
"""Stands for None among durations, which may be any number."""

_ROW: Final = Struct(">11d")
_HEAD: Final = Struct(">7d14I")
_ONE: Final = Struct(">d")
_TWO: Final = Struct(">2d")
_PUT: Final = Struct(">7d")
_WANT: Final = Struct(">5d")
_HELD: Final = Struct(">7d")
_entry: Final[Callable[[type[Entry], tuple[object, ...]], Entry]] = tuple.__new__
# `Entry` from all its fields in order, at half the price of calling it: this is the hit path.

doubles: Final = {number: Struct(f">{number}d").pack for number in range(1, 8)}
"""That many numbers in one argument."""


def text_of(text: str) -> bytes:
    """A text as an argument.

    Raises:
        ConfigError: it has a U+0000 in it, which ends texts inside an entry.
    """
    if "\0" in text:
        raise ConfigError("store: a text with U+0000 in it cannot be kept in Redis")
    return text.encode("utf-8", "surrogatepass")


def key_text(key: PoolKey) -> bytes:
    """A pool key, as entries name it."""
    return json.dumps(key, separators=(",", ":")).encode()


@lru_cache(maxsize=4096)
def _key_of(text: str) -> PoolKey:
    return PoolKey(*json.loads(text))


# ------------------------------------------------------------------------------ what is answered


@lru_cache(maxsize=4096)
def _facts_of(text: str) -> Facts:
    return facts_of_text(text)


def entry_of(row: bytes) -> Entry:
    """An entry as a script answers it."""
    version, fence, lapses, since, fresh, expires, deadline, pinned, _, _, _ = _ROW.unpack_from(row)
    texts = row[_ROW.size :].decode("utf-8", "surrogatepass").split("\0", 9)
    entry_id, state, rid, agent, talk, holder, lease, op, facts, _ = texts
    return _entry(
        Entry,
        (
            entry_id, state, int(version), int(fence), rid, agent, pinned == 1.0, talk or None,
            holder, lease, lapses, since, fresh, expires, deadline,
            _facts_of(facts) if facts else NO_FACTS, op,
        ),
    )  # fmt: skip


def keyed_entry_of(row: bytes) -> tuple[PoolKey, Entry]:
    """An entry, and whose it is."""
    texts = row[_ROW.size :].decode("utf-8", "surrogatepass").split("\0", 10)
    return _key_of(texts[9]), entry_of(row)


@lru_cache(maxsize=1024)
def _tally_of(text: bytes) -> dict[str, int]:
    pairs = (part.split("=") for part in text.decode().split(";")[:-1])
    return {name: int(float(number)) for name, number in pairs}


def counts_of(head: bytes) -> tuple[Counts, int, bool]:
    """The counts that a head tells, the note's version, and whether the key is open."""
    (
        cap, _, _, note_version, _, _, _, open_, _, waiting, new,
        creating, unsettled, idle, ageing, leased, parked, quarantined, retiring, gone, chore,
    ) = _HEAD.unpack_from(head)  # fmt: skip
    # Written out, since this is on the hit path: a third of the price of `zip`.
    states = {
        "creating": creating, "unsettled": unsettled, "idle": idle, "ageing": ageing,
        "leased": leased, "parked": parked, "quarantined": quarantined, "retiring": retiring,
        "gone": gone, "chore": chore,
    }  # fmt: skip
    if new:
        new = max(0, min(new, int(cap) - leased))
    tally = _tally_of(head[_HEAD.size :]).copy() if len(head) > _HEAD.size else {}
    return Counts(states, waiting, new, tally), int(note_version), open_ == 1


def noted_of(head: bytes, text: bytes, age: bytes) -> tuple[Counts, Noted]:
    """The counts, and the note as it stands."""
    counts, version, open_ = counts_of(head)
    (age_s,) = _ONE.unpack(age)
    note = note_of_text(text.decode()) if text else Note()
    return counts, Noted(note, version, age_s, open_)


def one_of(numbers: bytes) -> float:
    """One number."""
    return cast("float", _ONE.unpack(numbers)[0])


def two_of(numbers: bytes) -> tuple[float, float]:
    """Two numbers."""
    return cast("tuple[float, float]", _TWO.unpack(numbers))


# ------------------------------------------------------------------------------ what is asked


def want_arg(want: Want, bell: bytes) -> bytes:
    """What never changes of a want, and where its asker hears."""
    numbers = _WANT.pack(
        want.wish_s, want.ttl_s, want.max_leased, want.max_waiting, float(want.own_only)
    )
    talk, version = text_of(want.conversation or ""), text_of(want.agent_version or "")
    return numbers + b"\0".join((text_of(want.holder), talk, version, bell, b""))


def _perhaps(text: str | None) -> bytes:
    return b"" if text is None else b"+" + text_of(text)


def put_arg(put: Put, key: bytes) -> bytes:
    """A put."""
    (
        _, entry_id, op, state, version, fence, facts, deadline_in_s, expires_in_s, fresh_in_s,
        rid, agent_version, pinned, unbind, guards, tally,
    ) = put  # fmt: skip
    numbers = _PUT.pack(
        -1 if version is None else version,
        -1 if fence is None else fence,
        UNKNOWN if deadline_in_s is None else deadline_in_s,
        UNKNOWN if expires_in_s is None else expires_in_s,
        UNKNOWN if fresh_in_s is None else fresh_in_s,
        -1 if pinned is None else pinned,
        unbind,
    )
    texts = (
        text_of(entry_id),
        text_of(op),
        b"" if state is None else state.encode(),
        b"" if facts is None else b"+" + _facts_text(facts),
        _perhaps(rid),
        _perhaps(agent_version),
        _guards_text(guards) if guards else b"",
        _tally_text(tally) if tally else b"",
        key,
        b"",
    )
    return numbers + b"\0".join(texts)


_told: dict[int, tuple[Facts, bytes]] = {}


def _facts_text(facts: Facts) -> bytes:
    # Most leases end with the facts they began with: the same object, whose text is known. By
    # identity, since comparing facts costs as much as writing them down.
    known = _told.get(id(facts))
    if known is not None and known[0] is facts:
        return known[1]
    text = facts_as_text(facts).encode()
    if len(_told) >= 4096:
        _told.clear()
    _told[id(facts)] = (facts, text)
    return text


@lru_cache(maxsize=1024)
def _guards_text(guards: tuple[Guard, ...]) -> bytes:
    return json.dumps([_plain(guard) for guard in guards]).encode()


@lru_cache(maxsize=1024)
def _tally_text(tally: tuple[tuple[str, int], ...]) -> bytes:
    return json.dumps(tally).encode()


def _plain(guard: Guard) -> tuple[tuple[str, ...], tuple[str, ...], float]:
    most = guard.most if abs(guard.most) != float("inf") else 1e15 * (1 if guard.most > 0 else -1)
    return (guard.plus, guard.minus, most)


def held_args(held: Held, holder: str, now: float, ttl_s: float, key: bytes) -> tuple[bytes, ...]:
    """A lease as its holder tells of it."""
    entry = held.entry
    numbers = _HELD.pack(
        now, entry.version, entry.fence, entry.pinned, held.expires_in_s, held.fresh_in_s, ttl_s
    )
    texts = (
        entry.id, entry.rid, entry.agent_version, entry.conversation or "", holder, entry.lease,
    )  # fmt: skip
    return (numbers, *map(text_of, texts), _facts_text(entry.facts), key)
