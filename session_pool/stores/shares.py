"""How a principal's limit is divided among the processes that ask, in the memory store (B13).

Plain arithmetic on what each asked for last; every other store must come to the same numbers.
"""

from __future__ import annotations

from typing import NamedTuple

from session_pool.space import Share


class _Asked(NamedTuple):
    granted: float
    wish: float
    limit: float
    ends: float
    lacking_since: int  # its turn among those who got less than they wished for; 0 if it did not

    @property
    def lacks(self) -> float:
        return self.wish - self.granted


class Shares:
    """The live shares of one principal."""

    def __init__(self) -> None:
        self._asked: dict[str, _Asked] = {}
        self._turn = 0

    def ask(self, holder: str, limit: float, wish: float, for_s: float, now: float) -> Share:
        """See `Store.share`."""
        asked = self._asked = {who: one for who, one in self._asked.items() if one.ends > now}
        before = asked.pop(holder, None)
        least = min((one.limit for one in asked.values()), default=limit)
        free = min(limit, least) - sum(one.granted for one in asked.values())
        kept = min(before.granted, wish) if before is not None else 0.0
        turn = before.lacking_since if before is not None else 0
        earlier = sum(
            one.lacks
            for one in asked.values()
            if one.lacking_since and (not turn or one.lacking_since < turn)
        )
        granted = max(0.0, min(free, max(kept, min(wish, free - earlier))))
        if granted >= wish:
            turn = 0
        elif not turn:
            turn = self._turn = self._turn + 1
        if wish > 0:
            asked[holder] = _Asked(granted, wish, limit, now + for_s, turn)
        lacking = sum(one.lacks for who, one in asked.items() if who != holder)
        return Share(granted, lacking)
