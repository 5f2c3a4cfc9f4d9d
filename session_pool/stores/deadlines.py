"""When upkeep looks at which entry, across all keys of the memory store.

What is due soon stands in a heap. What is due later lies in buckets, which cost a pointer per entry
and no order: a million parked sessions are looked at hours from now. Each row is queued once, under
the earliest time that was ever asked for; one whose deadline has moved on meanwhile is queued again
when its turn comes. So an entry that is leased and given back all the time costs nothing here.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Final

from session_pool.model import FOREVER
from session_pool.stores.rows import Row

WIDTH_S: Final = 64.0
"""Of a bucket: long enough that few are kept, short enough that few rows wait in the heap."""


class Deadlines:
    """Rows by the time when they are looked at."""

    def __init__(self) -> None:
        self._soon: list[tuple[float, Row]] = []
        self._later: dict[float, list[Row]] = {}
        self._buckets: list[float] = []
        self._poured = -FOREVER

    def queue(self, row: Row, at: float) -> None:
        """Look at a row then; only where `at` is before `row.queued`."""
        before = row.queued // WIDTH_S
        row.queued = at
        bucket = at // WIDTH_S
        if bucket <= self._poured:
            heappush(self._soon, (at, row))
        elif bucket != before:
            rows = self._later.get(bucket)
            if rows is None:
                rows = self._later[bucket] = []
                heappush(self._buckets, bucket)
            rows.append(row)

    def next(self) -> Row | None:
        """The row whose deadline comes first."""
        while True:
            while not self._soon:
                if not self._buckets:
                    return None
                self._pour()
            at, row = self._soon[0]
            deadline = row.deadline
            if row.queued == at == deadline:
                return row
            heappop(self._soon)
            if row.queued == at:
                row.queued = FOREVER
                if deadline != FOREVER:
                    self.queue(row, deadline)

    def _pour(self) -> None:
        # Into the heap goes who is still to be looked at within this bucket's time.
        bucket = self._poured = heappop(self._buckets)
        for row in self._later.pop(bucket):
            if row.queued // WIDTH_S == bucket:
                heappush(self._soon, (row.queued, row))
