"""Every order of steps, breadth first, up to a depth; no state is gone on from twice.

A world cannot be copied, so it is made anew and led along its path: steps are cheap, and a path is
all that is needed to tell what went wrong.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator
from typing import NamedTuple

from session_pool.rules import Ending
from tests.rules.actors import Worker
from tests.rules.laws import LawBroken, before, state_laws, step_laws
from tests.rules.world import World

Step = tuple[str, ...]


class Scene(NamedTuple):
    """From where to walk, how far, and which steps there are beside those of a worker's main job.

    Attributes:
        make: the world at the start.
        depth: steps.
        lends: a worker may give its RID to another client.
        deaths: how many sessions may die.
        creates: sessions are created, as they are needed; else there are those at the start.
        dying: creators may die, and be slow to hear of what they made.
        ticks: how often time passes.
        recycles, evicts: how often that is ordered.
    """

    make: Callable[[], World]
    depth: int
    lends: bool = False
    deaths: int = 0
    creates: bool = False
    dying: bool = False
    ticks: int = 2
    recycles: int = 0
    evicts: int = 0


class Walked(NamedTuple):
    """How far a walk came."""

    states: int
    steps: int


def walk(scene: Scene) -> Walked:
    """Go every way, asserting all laws after each step.

    Raises:
        LawBroken: with the path that leads there.
    """
    seen: set[Hashable] = set()
    paths: deque[tuple[Step, ...]] = deque([()])
    steps = 0
    while paths:
        path = paths.popleft()
        for step in tuple(possible(scene, led(scene, path), path)):
            world = led(scene, path)
            was = before(world)
            steps += 1
            try:
                take(world, step)
                step_laws(world, was)
                state_laws(world)
            except (LawBroken, ValueError) as error:
                raise LawBroken(f"{error}, after {(*path, step)}") from error
            print_ = fingerprint(world, path, step)
            if print_ not in seen:
                seen.add(print_)
                if len(path) + 1 < scene.depth:
                    paths.append((*path, step))
    return Walked(len(seen), steps)


def led(scene: Scene, path: tuple[Step, ...]) -> World:
    """The world at the end of a path."""
    world = scene.make()
    for step in path:
        take(world, step)
    return world


def possible(scene: Scene, world: World, path: tuple[Step, ...]) -> Iterator[Step]:
    """What may happen next."""
    for worker in world.workers:
        yield from _of_worker(scene, world, worker)
    speaking = {worker.grant.entry.rid for worker in world.workers if worker.grant and worker.sent}
    for rid, remote in world.remote.items():
        if remote.speaking and rid not in speaking:
            yield ("remote_ends", rid)
        if remote.alive and sum(step[0] == "dies" for step in path) < scene.deaths:
            yield ("dies", rid)
    if sum(step[0] == "time_passes" for step in path) < scene.ticks:
        yield ("time_passes",)
    if sum(step[0] == "recycles" for step in path) < scene.recycles:
        yield ("recycles",)
    if sum(step[0] == "evicts" for step in path) < scene.evicts:
        for entry in world.entries().values():
            if entry.state in EVICTABLE:
                yield ("evicts", entry.rid)
    if not path or path[-1][0] != "keeper_reads":
        yield ("keeper_reads",)
    if world.claimed:
        yield ("keeper_acts",)
    if world.looked:
        yield ("keeper_judges",)
    if world.searches:
        yield ("keeper_finds",)
    if scene.creates:
        yield ("claims_creation",)
        yield ("trims",)
        if world.creating:
            yield ("creation_ends_well",)
            if not world.creating[0].rid:
                yield ("creation_fails",)
    if scene.dying:
        if any(not it.rid and world.now < it.until for it in world.creating):
            yield ("creation_is_sent",)
        if world.creating:
            yield ("creator_dies",)


def _of_worker(scene: Scene, world: World, worker: Worker) -> Iterator[Step]:
    name = worker.name
    if worker.grant is None:
        yield ("asks", name)
        return
    if not world.holds(worker):
        yield ("begins", name)  # it has not noticed yet
        yield ("gives_back", name, "plain")
        yield ("stops", name)
        return
    if worker.sent:
        yield ("ends", name)
    else:
        yield ("begins", name)
        if scene.lends and not worker.seen:
            yield ("lends", name)
    for how in HOW:
        yield ("gives_back", name, how)
    yield ("stops", name)


EVICTABLE = ("idle", "ageing", "leased", "parked", "quarantined")

HOW = {
    "plain": Ending(),
    "unused": Ending(said="unused"),
    "discard": Ending(said="discard"),
    "broken": Ending(broken=True),
}


def take(world: World, step: Step) -> None:
    """One step."""
    name, *more = step
    if name in ("asks", "begins", "ends", "lends", "stops"):
        worker = next(worker for worker in world.workers if worker.name == more[0])
        getattr(world, name)(worker)
    elif name == "gives_back":
        worker = next(worker for worker in world.workers if worker.name == more[0])
        world.gives_back(worker, HOW[more[1]])
    else:
        getattr(world, name)(*more)


def fingerprint(world: World, path: tuple[Step, ...], step: Step) -> Hashable:
    """What of a world decides what can still happen; ids and the past do not."""
    names = {entry_id: at for at, entry_id in enumerate(world.entries())}
    entries = tuple(
        (
            entry.state,
            entry.version,
            entry.fence,
            entry.conversation,
            entry.deadline - world.now,
            entry.lapses - world.now,
            entry.facts.exchanges,
            entry.facts.trace_id is not None,
            entry.facts.trouble,
            entry.facts.reason,
            entry.facts.batch,
            entry.facts.bound,
        )
        for entry in world.entries().values()
    )
    workers = tuple(
        (
            worker.grant is not None and names.get(worker.grant.entry.id, -1),
            worker.grant is not None and worker.grant.entry.version,
            worker.until - world.now if worker.grant is not None else 0.0,
            worker.request != "",
            worker.sent,
            worker.used,
            worker.seen,
            worker.batch,
        )
        for worker in world.workers
    )
    remote = tuple(
        (one.alive, len(one.owners), one.messages, one.speaking) for one in world.remote.values()
    )
    claimed = tuple(
        (names.get(entry.id, -1), entry.version, now - world.now) for entry, now in world.claimed
    )
    looked = tuple(
        (names.get(entry.id, -1), entry.version, now - world.now, evidence.trace, evidence.gone)
        for entry, now, evidence in world.looked
    )
    taken = [
        name for name, *_ in (*path, step) if name in ("time_passes", "dies", "recycles", "evicts")
    ]
    return (
        entries,
        workers,
        remote,
        claimed,
        looked,
        tuple((names.get(it.id, -1), it.until - world.now, bool(it.rid)) for it in world.creating),
        tuple(
            (names.get(entry.id, -1), entry.version, at - world.now, len(shown))
            for entry, at, shown in world.searches
        ),
        tuple(sorted(taken)),
        step[0] == "keeper_reads",
    )
