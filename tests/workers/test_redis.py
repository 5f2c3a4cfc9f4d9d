"""Fleets on one Redis: killed, frozen, cut off, and the server restarted, wiped and replaced."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Final

import pytest

from tests.servers.forwarder import Forwarder
from tests.servers.valkey import Server, shared
from tests.workers.account import (
    FROZEN_S,
    LIFETIME_S,
    SKEWS_S,
    all_are_accounted_for,
    jobs,
    looking,
    lost_leases,
    remote_is_content,
    settled,
    workers_are_content,
)
from tests.workers.fleet import fleet

pytestmark = pytest.mark.timeout(120)

KEPT: Final = ("--appendonly", "yes", "--appendfsync", "always")
"""A server that has after a restart what it had before."""

_numbers = count(1)


async def test_killed_and_frozen_processes_on_clocks_of_their_own_harm_nobody() -> None:
    url = f"{shared().url}?namespace=fleet-{next(_numbers)}"
    async with fleet(lifetime_s=LIFETIME_S, exchange_latency_s=0.02) as ships:
        usual = jobs(ships.emu, url)
        await ships.start(
            [job._replace(clock_ahead_s=skew) for job, skew in zip(usual, SKEWS_S, strict=True)]
        )
        ships.go()
        await ships.turns(50)
        doomed, frozen, *_ = ships.workers
        async with looking(url) as store:
            await ships.kill_between_creations(doomed, store)
            await ships.turns(40)
            await ships.freeze_holding(frozen, store)
        await asyncio.sleep(FROZEN_S)
        frozen.thaw()
        await ships.turns(40)
        await ships.stop()
        accounts = await settled(ships.emu, usual[0])
        remote_is_content(ships.emu)
        all_are_accounted_for(ships.emu, accounts)
        workers_are_content(ships, {"LeaseLost", "ExchangeUncertain"}, of=[frozen])
        assert lost_leases(frozen) > 0


async def test_a_cut_link_costs_leases_and_a_restart_that_forgets_nothing_does_not() -> None:
    with Server(*KEPT) as server:
        async with (
            fleet(lifetime_s=LIFETIME_S, exchange_latency_s=0.02) as ships,
            Forwarder(server.port) as front,
        ):
            near = jobs(ships.emu, server.url)
            far = [job._replace(store=front.url) for job in near[:2]]
            await ships.start([*far, *near[2:]])
            ships.go()
            await ships.turns(50)
            cut, others = ships.workers[:2], ships.workers[2:]
            async with looking(server.url) as store:
                front.cut()
                await ships.lapsed(cut, store)
                await ships.turns(20, of=others)
                front.heal()
                await ships.turns(20)
                front.deaf = True  # they are heard, and hear nothing
                await ships.lapsed(cut, store)
                front.deaf = False
                front.cut()
                front.heal()
                await ships.turns(20)
            await asyncio.to_thread(server.stop)
            await asyncio.to_thread(server.start)
            await ships.hear_of_another_epoch()
            await ships.turns(40)
            await ships.stop()
            accounts = await settled(ships.emu, near[0])
            remote_is_content(ships.emu)
            all_are_accounted_for(ships.emu, accounts)
            workers_are_content(ships, {"LeaseLost", "ExchangeUncertain"}, of=cut)
            assert all(lost_leases(worker) > 0 for worker in cut)


async def test_a_fleet_goes_on_when_its_server_is_wiped() -> None:
    with Server() as server:
        async with fleet(lifetime_s=LIFETIME_S, exchange_latency_s=0.02) as ships:
            usual = jobs(ships.emu, server.url)
            await ships.start(usual)
            ships.go()
            await ships.turns(50)
            await asyncio.to_thread(server.flushall)
            before = set(ships.emu.sessions)
            await ships.hear_of_another_epoch()
            await ships.turns(50)
            await ships.stop()
            accounts = await settled(ships.emu, usual[0])
            # What nobody held at that moment is forgotten, and so is whose it was.
            remote_is_content(ships.emu, {"turns_that_lost_a_living_session"})
            assert ships.emu.audit().turns_that_lost_a_living_session <= usual[0].talks
            all_are_accounted_for(ships.emu, accounts, forgotten=before)
            workers_are_content(ships)
