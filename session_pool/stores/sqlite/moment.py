"""One transaction: the connection, the clock, the keys it has looked at, and the bells to ring.

Operations that came together are carried out in one (group commit). A key's row is read once in it
and written once, at its end; in between its counts are kept here. Knows what a key's row holds,
and neither entries nor lines.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Any, NamedTuple

from session_pool.model import FOREVER, Counts, PoolKey
from session_pool.space import Note, Noted
from session_pool.stores.coding import note_as_text, note_of_text
from session_pool.stores.sqlite.statements import SQL

Record = tuple[Any, ...]

KEY, NEW_KEY, SAVE_KEY, SAVE_NOTE = (
    SQL["key"], SQL["new_key"], SQL["save_key"], SQL["save_note"],
)  # fmt: skip


class Space(NamedTuple):
    """The part of the file that is one namespace's, and its epoch."""

    id: int
    epoch: str
    epoch_since: float
    calm_until: float | None


class Moment:
    """A transaction under way.

    Args:
        connection: in a transaction that may write.
        space: the namespace.
        bell: where waiters of this process are rung.
        now: the store's clock; each operation may set it to a later one.
        counted: numbers grow by one only, rather than to the clock's microseconds at least.

    Attributes:
        rung: bells and the requests to ring them for, once it is committed.
    """

    def __init__(
        self, connection: sqlite3.Connection, space: Space, bell: str, now: float, *, counted: bool
    ) -> None:
        self.run = connection.execute
        self.space = space
        self.bell = bell
        self.now = now
        self.rung: list[tuple[str, str]] = []
        self._counted = counted
        self._keys: dict[PoolKey, Key] = {}

    @property
    def calm(self) -> bool:
        """What stands here from before the epoch may be held by somebody who has not said so."""
        until = self.space.calm_until
        return until is not None and self.now < until

    @property
    def handed_since(self) -> float:
        """Only what came into its state then or later is handed out."""
        return self.space.epoch_since if self.calm else -FOREVER

    def one(self, sql: str, *values: object) -> Record | None:
        """The first row of an answer."""
        record: Record | None = self.run(sql, values).fetchone()
        return record

    def after(self, previous: int) -> int:
        """A number greater than all given before, even by a file that was lost since."""
        following = previous + 1
        return following if self._counted else max(following, int(self.now * 1e6))

    def key(self, name: PoolKey) -> Key:
        """A key as it stands in this transaction."""
        key = self._keys.get(name)
        if key is None:
            record = self.one(KEY, self.space.id, *name)
            while record is None:
                self.run(NEW_KEY, (self.space.id, *name))
                record = self.one(KEY, self.space.id, *name)
            key = self._keys[name] = Key(record)
        return key

    def save(self) -> None:
        """Write what has changed of the keys; to be called before the transaction's end."""
        for key in self._keys.values():
            columns = key.columns()
            if columns != key.saved:
                self.run(SAVE_KEY, (*columns, key.id))


class Key:
    """One key's row.

    Attributes:
        name: whose.
        states, tally: as in `Counts`; a state that nothing is in may be missing or zero.
        standing, wanting, present: waiters in line, those for a free session, and all.
        ends: nobody's patience ends before.
        buried_until: no tombstone lasts longer.
        place, remembered: the last number in line, and of a memory, that was given.
        calm: lines were last arranged as during a calm.
    """

    cap: int
    standing: int
    wanting: int

    def __init__(self, record: Record) -> None:
        (
            self.id, _, host, principal, agent_rid, states, tally, self.standing, self.wanting,
            self.present, self.ends, self.buried_until, self.cap, self.max_waiting, self.place,
            self.remembered, self.calm, self._note, self.note_version, self._noted_at, open_,
        ) = record  # fmt: skip
        self.name = PoolKey(host, principal, agent_rid)
        self.states: dict[str, int] = json.loads(states)
        self.tally: dict[str, int] = json.loads(tally)
        self.open = bool(open_)
        self.saved = (states, tally, *record[7:17])

    @property
    def leased(self) -> int:
        """How many are leased."""
        return self.states.get("leased", 0)

    @property
    def new(self) -> int:
        """Waiters that need a session not yet made, as far as there is room for them (B8)."""
        return max(0, min(self.wanting, self.cap - self.leased))

    def counts(self) -> Counts:
        """The counts of this moment, for whoever asked."""
        return Counts(dict(self.states), self.standing, self.new, dict(self.tally))

    def count(self, name: str) -> int:
        """One of the numbers that guards are about."""
        if name == "new":
            return self.new
        return self.standing if name == "waiting" else self.states.get(name, 0)

    def noted(self, now: float) -> Noted:
        """The note as it stands."""
        note = note_of_text(self._note)
        return Noted(note, self.note_version, now - self._noted_at, self.open)

    def write_note(self, moment: Moment, note: Note, *, open_: bool) -> None:
        """Let another note stand."""
        self._note, self._noted_at, self.open = note_as_text(note), moment.now, open_
        self.note_version += 1
        moment.run(SAVE_NOTE, (self._note, self.note_version, moment.now, open_, self.id))

    def columns(self) -> Record:
        """What is written at the end of a transaction, in the order of its statement."""
        return (
            json.dumps(self.states), json.dumps(self.tally), self.standing, self.wanting,
            self.present, self.ends, self.buried_until, self.cap, self.max_waiting, self.place,
            self.remembered, self.calm,
        )  # fmt: skip
