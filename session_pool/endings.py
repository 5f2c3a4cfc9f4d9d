"""Telling the store how a lease ended, whatever the store does meanwhile (B21, B22, B23, B27).

A release keeps its caller for a moment at most; what a store that is away was not told goes on
behind the caller's back. Where it comes too late and the lease has lapsed, the holder still knows
more than a quarantine would find out, and says it. What it says is `rules.ended`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from session_pool.errors import StoreError, StoreUnavailable
from session_pool.events import QuarantineEnded
from session_pool.lapse import aged
from session_pool.space import Done, Held, Put
from session_pool.telemetry import log
from session_pool.verdicts import late
from session_pool.works import TELL_S, Works


class Known(NamedTuple):
    """What a holder knows of its lease beyond how it ended.

    Attributes:
        held: makes the lease known again to a store that has forgotten it; None: it cannot be.
        rid: of its session.
        late_s: after the lease's end it is of use for so long to say how it ended.
    """

    held: Callable[[], Held] | None
    rid: str
    late_s: float


class End(NamedTuple):
    """How a lease ends, and for how long the store has to be told."""

    put: Put
    began: float
    until: float
    known: Known | None
    epoch: str


def give_back(
    works: Works, put: Put, lapses_in_s: float, known: Known | None = None
) -> Coroutine[Any, Any, None] | None:
    """End a lease without failing: what a store that is away is not told lapses (B21, B23).

    Args:
        works: the pool's means.
        put: how it ends.
        lapses_in_s: until the lease ends by itself, and with it the need to tell.
        known: what else its holder knows, should the store have forgotten it, or it have lapsed.

    Returns:
        What is still to be awaited, for a store that is awaited; it takes `TELL_S` at most, and
        the rest goes on by itself.
    """
    if works.local is not None:
        works.put_nowait(works.local, put)
        return None
    now = works.loop.time()
    return _tell(works, End(put, now, now + lapses_in_s, known, works.epoch))


async def _tell(works: Works, end: End) -> None:
    if not works.away:
        try:
            answer = await works.limits.within(end.began + TELL_S, works.store.put(end.put))
        except StoreUnavailable:
            pass  # it is told behind the caller's back
        except asyncio.CancelledError:
            works.write(_go_on(works, end), "release")
            raise
        else:
            if isinstance(answer, Done):
                works.on_change(end.put.key, answer.counts, end.put.deadline_in_s)
                return
    works.write(_go_on(works, end), "release")


async def _go_on(works: Works, end: End) -> None:
    """Tell it until the lease's end, and what is certain for a while longer."""
    put, known = end.put, end.known
    try:
        try:
            in_time = end.until > end.began
            if in_time and isinstance(await works.told(put, end.began, end.until), Done):
                return
        except StoreUnavailable:
            if known is None:
                raise
        if known is None:
            return
        if works.store.epoch == end.epoch:
            await _tell_late(works, end, known)
        elif known.held is not None:
            await _make_known(works, end, known.held())
    except StoreError as error:
        log.warning("a lease could not be given back and will lapse", exc_info=error)


async def _make_known(works: Works, end: End, held: Held) -> None:
    # The store has forgotten the lease: what is not there can only be given back if it is made
    # known first (B27).
    until, ttl_s = end.until, end.until - end.began
    found = await works.again(lambda: works.store.register(works.holder, [held], ttl_s), until)
    if (entry := found[0]) is not None:
        again = end.put._replace(op=works.next_id(), fence=entry.fence)
        await works.told(again, works.loop.time(), until)


async def _tell_late(works: Works, end: End, known: Known) -> None:
    """End the quarantine that its lapse has brought, if it is certain that it may end (B22)."""
    store, key, until = works.store, end.put.key, end.until + known.late_s
    if end.put.state == "quarantined":
        return
    while True:
        found = await works.again(
            lambda: store.find(key, states=("leased", "quarantined"), rid=known.rid), until
        )
        entry = next((one for one in found if one.id == end.put.id), None)
        put = None if entry is None else late(entry, end.put, works.next_id())
        if entry is None or put is None or store.epoch != end.epoch:
            return
        put = aged(put, works.loop.time() - end.began)
        if isinstance(await works.told(put, works.loop.time(), until), Done):
            if entry.state == "quarantined":
                works.bus.publish(
                    QuarantineEnded(
                        agent_rid=key.agent_rid,
                        session_rid=entry.rid,
                        outcome=put.state or "retired",
                    )
                )
            return
