"""What must hold in every state of the world, and of every step from one to the next.

State laws alone let real mutants through ("take an entry whose claim still holds" leaves a state
that looks like any other), hence the laws of steps.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from session_pool.model import Entry, State
from session_pool.rules import CHANGES
from tests.rules.world import World

LIVING: Final = ("idle", "ageing", "leased", "parked", "quarantined", "retiring")


class LawBroken(AssertionError):
    """A law does not hold; the message names it."""


def law(holds: object, name: str, detail: object = "") -> None:
    """Assert one law."""
    if not holds:
        raise LawBroken(f"{name} {detail}")


def state_laws(world: World) -> None:
    """What holds whenever nobody is in the middle of a step."""
    entries = world.entries()
    _exclusive(world)
    _unmixed(world)
    bound = [
        entry.conversation
        for entry in entries.values()
        if entry.conversation is not None and entry.state not in ("retiring", "gone")
    ]
    law(len(bound) == len(set(bound)), "B5: one session per conversation", bound)
    counts = world.counts()
    tally = counts.tally
    made = tally.get("created", 0) + tally.get("adopted", 0)
    law(made == counts.of(*LIVING) + tally.get("retired", 0), "B24: conservation", counts)
    rids = [entry.rid for entry in entries.values() if entry.state in LIVING]
    law(len(rids) == len(set(rids)), "B1: one entry for each session", rids)
    _accounted(world)
    law(counts.of("leased") <= world.terms.max_leased, "B6: never above max_leased", counts)


def _exclusive(world: World) -> None:
    held = [
        worker.grant.entry.rid
        for worker in world.workers
        if worker.grant is not None and world.holds(worker)
    ]
    law(len(held) == len(set(held)), "B1: one holder", held)
    for rid, remote in world.remote.items():
        law(remote.speaking <= 1, "B22: no two exchanges at once", rid)


def _accounted(world: World) -> None:
    """What a creation made is known, or on the way to its creator, or a record stands for it."""
    entries = world.entries()
    adopted = {entry.rid for entry in entries.values() if entry.id == entry.rid}
    law(not adopted & world.born, "B12: nothing else is adopted", adopted)
    known = {entry.rid for entry in entries.values()} | world.left
    coming = {creation.rid for creation in world.creating}
    lost = [
        rid
        for rid, remote in world.remote.items()
        if remote.alive and remote.messages == 0 and rid not in known | coming
    ]
    open_ = [entry for entry in entries.values() if entry.state in ("creating", "unsettled")]
    law(len(lost) <= len(open_), "B12: orphans are accounted for", lost)


def _unmixed(world: World) -> None:
    for worker in world.workers:
        if worker.grant is None or not world.holds(worker):
            continue
        remote = world.remote[worker.grant.entry.rid]
        law(remote.owners <= {worker.owner}, "B4: nobody reads another's history", remote.owners)
    for entry in world.entries().values():
        if entry.state in ("idle", "ageing"):
            law(not world.remote[entry.rid].owners, "B4: what lies ready was never used", entry.id)
            law(world.remote[entry.rid].speaking == 0, "B22: what lies ready is quiet", entry.id)


class Before(NamedTuple):
    """The world before a step.

    Attributes:
        entries: by id.
        now: the clock.
        fetched: leases that somebody knows of.
    """

    entries: dict[str, Entry]
    now: float
    fetched: frozenset[str]


def before(world: World) -> Before:
    """The world as it is now, to be compared after a step."""
    return Before(world.entries(), world.now, frozenset(world.fetched))


def step_laws(world: World, was: Before) -> None:
    """What holds of a step."""
    after = world.entries()
    claimed = [entry_id for entry_id in after if entry_id not in was.entries]
    if any(after[entry_id].state == "creating" for entry_id in claimed):
        counts = world.counts()
        most = min(world.terms.max_creating, counts.new)  # the target is 0 here
        law(counts.of("creating") <= most, "B8: never more than needed", counts)
    for entry_id in was.entries.keys() | after.keys():
        _one(was.entries.get(entry_id), after.get(entry_id), was, world)


def _one(old: Entry | None, new: Entry | None, then: Before, world: World) -> None:
    was = old.state if old is not None else None
    is_ = new.state if new is not None else None
    if old is None or new is None:
        if was != is_:
            law(_leads(was, is_), "every change is in the table", f"{was} to {is_}")
        return
    law(new.fence >= old.fence, "B1: a fence never falls", old.id)
    law(new.version >= old.version, "a version never falls", old.id)
    if new.fence != old.fence:
        law(is_ == "leased", "B1: a fence grows at hand-outs only", old.id)
        law(new.fence == old.fence + 1, "B1: a fence grows by one", old.id)
        law(was != "leased" or _let_go(old, then, world), "B1: it is somebody's", old.id)
    elif is_ == "leased":
        law(was == "leased" and new.lease == old.lease, "B1: a hand-out has a new fence", old.id)
    if was != is_:
        law(_leads(was, is_), "every change is in the table", f"{was} to {is_}")
    if was == "leased" and old.lapses <= then.now and old.lease in then.fetched:
        law(is_ in ("leased", "quarantined"), "B22: what has lapsed is looked at first", is_)
        law(new.fence == old.fence, "B22: what has lapsed goes to nobody", old.id)
    if was == "quarantined" and is_ in ("idle", "parked", "leased"):
        law(world.remote[old.rid].speaking == 0, "B22: an exchange goes on", old.id)
    if is_ == "parked":
        law(new.conversation is not None, "B4: parked for nobody", old.id)


def _let_go(old: Entry, then: Before, world: World) -> bool:
    """A lease that another got in one step was given back in it, in time, or never fetched."""
    if old.lease not in then.fetched:
        return True
    holders = [worker.grant.entry.lease for worker in world.workers if worker.grant is not None]
    return old.lapses > then.now and old.lease not in holders


def _leads(was: State | None, is_: State | None) -> bool:
    """The table has the change, or one to what is then handed out to who waits for it."""
    if (was, is_) in CHANGES:
        return True
    freed: tuple[State, ...] = ("idle", "parked")
    return is_ == "leased" and any((was, between) in CHANGES for between in freed)
