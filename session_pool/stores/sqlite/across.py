"""What goes across keys: renewing, what is due, shares, identities (B13, B21)."""

from __future__ import annotations

from collections.abc import Sequence

from session_pool.model import FOREVER, PoolKey
from session_pool.space import Due, Share
from session_pool.stores.sqlite.moment import Moment
from session_pool.stores.sqlite.rows import Row
from session_pool.stores.sqlite.statements import SQL

BY_ID, PROLONG, PUT_OFF = SQL["entry"], SQL["prolong"], SQL["put_off"]


def renew(
    moment: Moment, holder: str, leases: Sequence[tuple[str, int]], ttl_s: float
) -> list[bool]:
    """See `Store.renew`."""
    answers, lapses = [], moment.now + ttl_s
    for entry_id, fence in leases:
        record = moment.one(BY_ID, moment.space.id, entry_id)
        row = Row(record) if record is not None else None
        mine = row is not None and (row.state, row.holder, row.fence) == ("leased", holder, fence)
        alive = row is not None and mine and row.lapses > moment.now
        if row is not None and alive:
            moment.run(PROLONG, (lapses, lapses, row.n))
        answers.append(alive)
    return answers


def due(moment: Moment, limit: int, for_s: float) -> Due:
    """See `Store.due`."""
    space, now = moment.space.id, moment.now
    rows = [Row(record) for record in moment.run(SQL["due"], (space, now, limit))]
    names: dict[int, PoolKey] = {}
    claimed = []
    for row in rows:
        if row.key not in names:
            names[row.key] = PoolKey(*(moment.one(SQL["name_of_key"], row.key) or ()))
        moment.run(PUT_OFF, (now + for_s, row.n))
        claimed.append((names[row.key], row.entry()))
    soonest = moment.one(SQL["next_due"], space)
    next_in_s = FOREVER if soonest is None else max(0.0, soonest[0] - now)
    return Due(tuple(claimed), now, next_in_s)


def share(
    moment: Moment, principal: str, holder: str, limit: float, wish: float, for_s: float
) -> Share:
    """See `Store.share`."""
    space, now = moment.space.id, moment.now
    asked = {
        who: rest for who, *rest in moment.run(SQL["shares"], (space, principal, now)).fetchall()
    }
    before, before_turn = 0.0, 0
    if holder in asked:
        before, _, _, before_turn = asked.pop(holder)
    least = min((most for _, _, most, _ in asked.values()), default=limit)
    free = min(limit, least) - sum(granted for granted, _, _, _ in asked.values())
    # Who lacks something for longer comes first; whoever never lacked stands at the end.
    earlier = sum(
        wished - granted
        for granted, wished, _, turn in asked.values()
        if turn and (not before_turn or turn < before_turn)
    )
    granted = max(0.0, min(free, max(min(before, wish), min(wish, free - earlier))))
    turn = before_turn
    if granted >= wish:
        turn = 0
    elif not turn:
        turn = 1 + max((turn for _, _, _, turn in asked.values()), default=0)
    moment.run(SQL["clear_shares"], (space, principal, now, holder))
    if wish > 0:
        values = (space, principal, holder, granted, wish, limit, now + for_s, turn)
        moment.run(SQL["ask_share"], values)
    lacking = sum(wished - granted for granted, wished, _, _ in asked.values())
    return Share(granted, lacking)


def identify(moment: Moment, principal: str, identity: str) -> str:
    """See `Store.identify`."""
    record = moment.one(SQL["identity"], moment.space.id, principal)
    if record is not None:
        recorded: str = record[0]
        return recorded
    moment.run(SQL["identify"], (moment.space.id, principal, identity))
    return identity
