"""Several processes on one Redis: bells, races, and numbers that survive a failover."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from session_pool.model import FOREVER, Entry
from session_pool.space import Done, Grant, Held, Note, Put, Ticket
from session_pool.stores.base import EPOCH
from tests.servers.forwarder import Forwarder
from tests.servers.valkey import Server, shared
from tests.stores.redis_scene import Process, namespace, process
from tests.stores.scene import KEY

# ---------------------------------------------------------------------------- bells


async def test_a_release_rings_the_process_that_waits_and_no_other() -> None:
    url = shared().url + namespace()
    async with process(url) as one, process(url) as two, process(url) as three:
        await one.stock("a")
        grant = await one.granted()
        assert isinstance(await two.take(request="r"), Ticket)
        await one.give_back(grant)
        await two.hears("r")
        await two.granted(request="r")
        await three.store.read(KEY)
        assert (one.heard, two.heard, three.heard) == ([], ["r"], [])


async def test_a_note_rings_everybody_in_line_wherever_it_waits() -> None:
    url = shared().url + namespace()
    async with process(url) as one, process(url) as two:
        assert isinstance(await one.take(request="r1"), Ticket)
        assert isinstance(await two.take(request="r2"), Ticket)
        await one.store.note(KEY, 0, Note(), open_=False)
        await one.hears("r1")
        await two.hears("r2")
        assert (one.heard, two.heard) == (["r1"], ["r2"])


async def test_a_ring_goes_to_where_the_waiter_asked_last() -> None:
    url = shared().url + namespace()
    async with process(url) as one, process(url) as two:
        assert isinstance(await one.take(request="r"), Ticket)
        assert isinstance(await two.take(request="r"), Ticket)
        await one.stock("a")
        await two.hears("r")
        assert one.heard == []


# ---------------------------------------------------------------------------- races


async def test_processes_that_race_never_hold_the_same_session() -> None:
    url = shared().url + namespace()
    holders: dict[str, str] = {}
    served = 0

    async def worker(one: Process, name: str) -> None:
        nonlocal served
        for number in range(15):
            request = f"{name}-{number}"
            answer = await one.take(request=request, cap=4)
            while isinstance(answer, Ticket):
                await one.hears(request)
                answer = await one.take(request=request, cap=4)
            assert isinstance(answer, Grant)
            entry = answer.entry
            assert holders.setdefault(entry.id, request) == request, "two at once"
            await asyncio.sleep(0)
            del holders[entry.id]
            served += 1
            assert await one.give_back(answer)

    async with process(url) as one, process(url) as two:
        await one.stock("a", "b", "c", "d", "e")
        async with asyncio.timeout(30):
            await asyncio.gather(
                *(worker(p, f"{n}-{t}") for n, p in enumerate((one, two)) for t in range(8))
            )
        counts, _ = await one.store.read(KEY)
        assert (served, counts.of("idle"), counts.waiting) == (240, 5, 0)


async def test_two_first_calls_of_a_conversation_make_it_one_session() -> None:
    url = shared().url + namespace()
    async with process(url) as one, process(url) as two:
        await one.stock("a", "b")
        answers = await asyncio.gather(one.take("talk"), two.take("talk"))
        assert sorted(type(answer).__name__ for answer in answers) == ["Grant", "Ticket"]


_CHILD = """
import asyncio, sys
from tests.stores.redis_scene import process

async def main() -> None:
    async with process(sys.argv[1]) as one:
        grant = await one.granted("talk", ttl=float(sys.argv[2]), holder="child")
        await one.take("talk", "in-line", patience=float(sys.argv[2]))
        print(grant.entry.id, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_killed_processs_lease_lapses_and_its_session_is_handed_to_nobody() -> None:
    url, clock_s = shared().url + namespace(), 0.3
    async with process(url) as one:
        await one.stock("a", "b")
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _CHILD, url, str(clock_s), stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )  # fmt: skip
        assert child.stdout is not None
        assert (await child.stdout.readline()).strip() == b"a"
        child.send_signal(signal.SIGKILL)
        await child.wait()
        assert isinstance(await one.take("talk", "r"), Ticket)
        due = await one.store.due("me", limit=5, for_s=10.0)
        while not due.entries:
            await asyncio.sleep(due.next_in_s)  # the server's clock is the real one
            due = await one.store.due("me", limit=5, for_s=10.0)
        ((key, entry),) = due.entries
        assert (key, entry.id, entry.state, entry.holder) == (KEY, "a", "leased", "child")
        put = Put(KEY, "a", "op", "quarantined", version=entry.version, deadline_in_s=FOREVER)
        assert isinstance(await one.store.put(put), Done)
        assert isinstance(await one.take("talk", "r"), Ticket)
        assert (await one.store.read(KEY))[0].waiting == 1, "its waiter has left with it"


# ---------------------------------------------------------------------------- numbers


async def test_fences_and_places_grow_with_the_servers_clock() -> None:
    async with process(shared().url + namespace()) as one:
        await one.stock("a")
        before = time.time()
        first = await one.granted()
        assert abs(first.entry.fence / 1e6 - before) < 600
        assert abs(first.place / 1e6 - before) < 600
        assert abs(first.now - before) < 600
        await one.give_back(first)
        second = await one.granted()
        assert second.entry.fence > first.entry.fence
        assert second.place > first.place


async def test_a_greater_fence_than_the_clock_is_still_exceeded() -> None:
    async with process(shared().url + namespace()) as one:
        await one.stock("a")
        entry: Entry = (await one.granted()).entry
        far = entry._replace(fence=8 * 10**15)
        await one.store.put(Put(KEY, "a", "op", None, fence=entry.fence))
        (held,) = await one.store.register("me", [Held(KEY, far, 100.0, 50.0)], 30.0)
        assert held is not None
        assert held.fence == far.fence + 1


async def test_a_failover_that_lost_the_last_writes_shuts_the_stale_holder_out() -> None:
    """The hazard of asynchronous replication: one session is granted twice, and it is noticed."""
    with Server() as primary, Server() as replica:
        async with (
            Forwarder(primary.port) as front,
            Forwarder(primary.port) as between,
            process(front.url) as stale,
            process(front.url) as other,
        ):
            await stale.stock("a")
            assert await stale.give_back(await stale.granted())
            replica.ask("REPLICAOF", "127.0.0.1", str(between.port))
            await asyncio.to_thread(replica.in_step)
            synced = (await stale.store.read(KEY))[0]
            assert synced.of("idle") == 1
            between.cut()
            first = (await stale.granted()).entry
            with primary.raw() as way:
                assert way("WAIT", "1", "1") == 0, "the replica has not heard of it"
            front.cut()
            primary.kill()
            replica.replica_of(None)
            front.heal(replica.port)
            await stale.hears(EPOCH)
            await other.hears(EPOCH)
            # The replica knows nothing of the lease. Nobody has it until one lease's length
            # is over; its holder does not tell of it, and somebody else gets it.
            answer = await other.take(request="r", ttl=30.0)
            assert isinstance(answer, Ticket)
            await _after_the_calm(replica)
            second = (await other.granted(request="r")).entry
            assert (first.id, second.id) == ("a", "a")
            assert second.fence > first.fence
            assert second.fence - first.fence < 600 * 10**6
            assert not await stale.give_back(Grant(first, 0, None, 0.0, synced, 0))
            assert list(await stale.store.renew("me", [("a", first.fence)], 30.0)) == [False]
            assert await other.give_back(Grant(second, 0, None, 0.0, synced, 0))


async def _after_the_calm(server: Server) -> None:
    # As if a lease's length had passed: the server's clock cannot be moved, the calm can.
    with server.raw() as way:
        meta = bytearray(way("GET", "session-pool:{default}:meta"))
        meta[16:24] = bytes(8)
        way("SET", "session-pool:{default}:meta", bytes(meta))
