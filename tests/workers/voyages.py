"""What happens to a fleet, whatever its store: each ends with all that must be true afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from tests.servers.forwarder import Forwarder
from tests.workers.account import (
    FROZEN_S,
    LIFETIME_S,
    all_are_accounted_for,
    jobs,
    looking,
    lost_leases,
    remote_is_content,
    settled,
    workers_are_content,
)
from tests.workers.fleet import fleet

SKEWS_S: Final = (0.0, 300.0, -300.0, 600.0)
"""How far the clocks of four workers are ahead of the machine's: five minutes apart at least."""

EXCHANGE_S: Final = 0.02

TASKS: Final = 25
"""Of one process, so as many creations may be under way in one that is frozen."""

LOSSES: Final = ("LeaseLost", "ExchangeUncertain")
"""What a caller meets whose lease ends against its will, and nobody else."""


async def in_peace(url: str) -> None:
    """Nothing happens: nobody meets any error, and no lease is lost."""
    async with fleet(lifetime_s=LIFETIME_S, exchange_latency_s=EXCHANGE_S) as ships:
        usual = jobs(ships.emu, url)
        await ships.start(usual)
        ships.go()
        await ships.turns(100)
        await ships.stop()
        accounts = await settled(ships.emu, usual[0])
        remote_is_content(ships.emu)
        all_are_accounted_for(ships.emu, accounts)
        workers_are_content(ships)


async def killed_and_frozen(url: str) -> None:
    """On clocks of their own, one is killed, and another frozen for longer than a lease."""
    async with fleet(lifetime_s=LIFETIME_S, exchange_latency_s=EXCHANGE_S) as ships:
        usual = jobs(ships.emu, url)
        await ships.start(
            [job._replace(clock_ahead_s=skew) for job, skew in zip(usual, SKEWS_S, strict=True)]
        )
        ships.go()
        await ships.turns(50)
        doomed, frozen, *_ = ships.workers
        ships.kill(doomed)
        await ships.turns(30)
        async with looking(url, ships.emu) as store:
            await ships.freeze_holding(frozen, store)
        await asyncio.sleep(FROZEN_S)
        frozen.thaw()
        await ships.turns(30)
        await ships.stop()
        accounts = await settled(ships.emu, usual[0])
        remote_is_content(ships.emu)
        all_are_accounted_for(ships.emu, accounts, twice=TASKS)
        workers_are_content(ships, LOSSES, of=[frozen])
        assert lost_leases(frozen) > 0


async def cut_off(near: str, port: int, far: str) -> None:
    """Two of four cannot reach the store for longer than a lease, and then are not answered.

    Args:
        near: where the store is.
        port: the same on loopback.
        far: where it is for those two, with `{port}` for the link's.
    """
    async with (
        fleet(lifetime_s=LIFETIME_S, exchange_latency_s=EXCHANGE_S) as ships,
        Forwarder(port) as front,
    ):
        usual = jobs(ships.emu, near)
        beyond = [job._replace(store=far.format(port=front.port)) for job in usual[:2]]
        await ships.start([*beyond, *usual[2:]])
        ships.go()
        await ships.turns(50)
        cut, others = ships.workers[:2], ships.workers[2:]
        async with looking(near, ships.emu) as store:
            front.cut()
            await ships.lapsed(cut, store)
            await ships.turns(10, of=others)
            front.heal()
            await ships.turns(10)
            front.deaf = True  # they are heard, and hear nothing
            await ships.lapsed(cut, store)
            front.deaf = False
            front.cut()
            front.heal()
        await ships.turns(10)
        await ships.stop()
        accounts = await settled(ships.emu, usual[0])
        remote_is_content(ships.emu)
        all_are_accounted_for(ships.emu, accounts, exact=False)  # see `claims`: some count twice
        workers_are_content(ships, LOSSES, of=cut)
        assert sum(map(lost_leases, cut)) > 0


async def restarted(url: str, restart: Callable[[], object], *, anew: bool) -> None:
    """The store's server is started again, having forgotten nothing.

    Args:
        url: of the store.
        restart: does it.
        anew: it counts as another epoch, of which every process hears.
    """
    async with fleet(lifetime_s=LIFETIME_S, exchange_latency_s=EXCHANGE_S) as ships:
        usual = jobs(ships.emu, url)
        await ships.start(usual)
        ships.go()
        await ships.turns(50)
        await asyncio.to_thread(restart)
        if anew:
            await ships.hear_of_another_epoch()
        await ships.turns(50)
        await ships.stop()
        accounts = await settled(ships.emu, usual[0])
        remote_is_content(ships.emu)
        # What was given back and not answered is made known once more, and counted as adopted.
        all_are_accounted_for(ships.emu, accounts, exact=not anew)
        # Who held something goes on, unless the server was away for longer than a lease.
        workers_are_content(ships, LOSSES)


async def wiped(url: str, wipe: Callable[[], object]) -> None:
    """The store forgets everything. What is held goes on, and what nobody held is forgotten."""
    async with fleet(lifetime_s=LIFETIME_S, exchange_latency_s=EXCHANGE_S) as ships:
        usual = jobs(ships.emu, url)
        await ships.start(usual)
        ships.go()
        await ships.turns(50)
        await asyncio.to_thread(wipe)
        before = set(ships.emu.sessions)
        await ships.hear_of_another_epoch()
        await ships.turns(50)
        await ships.stop()
        accounts = await settled(ships.emu, usual[0])
        # Whose a session was is forgotten with it: once for each conversation at the most.
        remote_is_content(ships.emu, {"turns_that_lost_a_living_session"})
        assert ships.emu.audit().turns_that_lost_a_living_session <= usual[0].talks + len(usual)
        all_are_accounted_for(ships.emu, accounts, forgotten=before)
        workers_are_content(ships, LOSSES)  # a busy machine may be slower than a lease
