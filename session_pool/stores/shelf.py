"""Free entries of one kind in the memory store, the earliest expiry first (B3).

A sorted list whose front is a cursor. What is handed out keeps its slot until somebody looks at
that slot, since it is often back by then: then neither hand-out nor return moves anything.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Final

from session_pool.stores.rows import Row

SLACK: Final = 64
"""Slots before the cursor that are not worth closing up."""

_Slot = tuple[float, str, Row]


class Shelf:
    """Rows in the order of (expiry, id).

    Args:
        pinned: whether they were created for a version asked for by number.
        version: the agent version that they have.
    """

    __slots__ = ("_slots", "_start", "pinned", "version")

    def __init__(self, pinned: bool, version: str) -> None:
        self.pinned = pinned
        self.version = version
        self._slots: list[_Slot] = []
        self._start = 0

    def __len__(self) -> int:
        return len(self._slots) - self._start

    def rows(self) -> Iterator[Row]:
        """All that have a slot, some of which may be handed out."""
        return (row for _, _, row in self._slots[self._start :])

    def first(self, least_expires: float) -> Row | None:
        """The free one that ends first, of those that live until `least_expires` or longer."""
        slots, at = self._slots, self._start
        if at < len(slots) and slots[at][0] < least_expires:
            at = bisect_left(slots, (least_expires,), at)  # a prefix is before what it begins
        while at < len(slots):
            row = slots[at][2]
            if row.state != "leased":
                return row
            row.shelf = None
            at = self._drop(at)
        return None

    def add(self, row: Row) -> None:
        """Give a row its slot."""
        slots, start = self._slots, self._start
        slot = (row.expires, row.id, row)
        row.shelf = self
        if not slots or slots[-1] < slot:
            slots.append(slot)
            return
        at = bisect_left(slots, slot, start)
        if start and at - start < len(slots) - at:
            # Nearer to the front, where dropped slots left room: nothing behind has to move.
            slots[start - 1 : at - 1] = slots[start:at]
            slots[at - 1] = slot
            self._start = start - 1
        else:
            slots.insert(at, slot)

    def remove(self, row: Row) -> None:
        """Take its slot away; to be called while it has the expiry it got the slot by."""
        row.shelf = None
        self._drop(bisect_left(self._slots, (row.expires, row.id, row), self._start))

    def _drop(self, at: int) -> int:
        # Answers where the next slot is now.
        slots, start = self._slots, self._start
        if at != start:
            del slots[at]
            return at
        start += 1
        if start == len(slots) or (start > SLACK and 2 * start > len(slots)):
            del slots[:start]
            start = 0
        self._start = start
        return start
