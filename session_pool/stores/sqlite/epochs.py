"""Whose state the file holds: of which machine's boot, of which file, and since when (B27).

A file that was deleted, replaced by a copy, or last used before the machine was started anew begins
another epoch. Of another boot's clock only durations can be kept, by what the wall clock says has
passed: leases have lapsed; idle and parked sessions are shown as at their end, so that those who
use them look first whether they live; who waited is gone.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple
from uuid import uuid4

from session_pool.errors import StoreMismatch
from session_pool.stores.base import unbegun
from session_pool.stores.sqlite.address import Address
from session_pool.stores.sqlite.moment import Space
from session_pool.stores.sqlite.statements import SQL

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")

LEAST_CALM_S: Final = 1.0
"""How long the shortest calm is, of a process that has asked for no lease with an end."""

SHIFT: Final = """
UPDATE entries SET
    since = min(since + :shift, :now),
    fresh_until = fresh_until + :shift,
    expires = iif(state IN ('idle', 'ageing', 'parked'), min(expires + :shift, :now),
        expires + :shift),
    lapses = iif(state = 'leased', :now, 9e999),
    deadline = iif(state IN ('leased', 'idle', 'ageing'), :now, deadline + :shift),
    hand_state = NULL, hand_deadline = NULL, hand_place = NULL, hand_before = NULL
"""
FORGET: Final = """
UPDATE keys SET noted_at = noted_at + :shift, standing = 0, wanting = 0, present = 0,
    ends = 9e999, buried_until = 0.0, calm = 0
"""


class Machine(NamedTuple):
    """The machine's clocks and its present boot; tests bring their own.

    Attributes:
        clock: seconds that go on while the machine sleeps, and begin anew as it starts.
        wall: seconds of civil time, which may be set.
        boot: names the time since its last start; empty where that is not told.
    """

    clock: Callable[[], float]
    wall: Callable[[], float]
    boot: str


def this_machine() -> Machine:
    """The one this process runs on."""
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    clock = time.monotonic if boottime is None else partial(time.clock_gettime, boottime)
    try:
        boot = BOOT_ID.read_text(encoding="utf-8").strip()
    except OSError:
        boot = ""
    return Machine(clock, time.time, boot)


class Visitor(NamedTuple):
    """Who opens a transaction.

    Attributes:
        address: the file, and which part of it is used.
        machine: where it runs.
        knew: the epoch that it knows; None at first.
        longest_s: the longest finite lease that it has asked for.
    """

    address: Address
    machine: Machine
    knew: str | None
    longest_s: float


def enter(connection: sqlite3.Connection, visitor: Visitor, inode: int) -> Space:
    """The namespace and its epoch, made or begun anew where need be; in a transaction.

    Raises:
        ConfigError: there is none, and the visitor begins none.
        StoreMismatch: another machine uses the file at the same time.
    """
    run, machine, namespace = connection.execute, visitor.machine, visitor.address.namespace
    record = run(SQL["enter"], (namespace,)).fetchone()
    if record is not None and record[1:2] + record[4:] == (visitor.knew, machine.boot, inode):
        return Space(*record[:4])
    now = machine.clock()
    _check_machine(connection, visitor, inode, now)
    record = run(SQL["space"], (namespace,)).fetchone()
    if record is None:
        if not visitor.address.begin:
            raise unbegun(str(visitor.address.path), f"namespace {namespace}")
        run(SQL["new_space"], (namespace, uuid4().hex, now, None))
        record = run(SQL["space"], (namespace,)).fetchone()
    space = Space(*record)
    another = visitor.knew is not None and visitor.knew != space.epoch
    if another and (space.calm_until is None or now < space.calm_until):
        until = max(space.calm_until or 0.0, now + max(visitor.longest_s, LEAST_CALM_S))
        run(SQL["keep_calm"], (until, space.id))
        space = space._replace(calm_until=until)
    return space


def _check_machine(
    connection: sqlite3.Connection, visitor: Visitor, inode: int, now: float
) -> None:
    run, machine = connection.execute, visitor.machine
    ahead = machine.wall() - now
    record = run(SQL["machine"]).fetchone()
    if record is None:
        run(SQL["new_machine"], (machine.boot, inode, ahead))
        return
    boot, was, ahead_then = record
    if boot != machine.boot:
        if visitor.knew is not None and was == inode:
            raise StoreMismatch(
                "another machine uses it at the same time, and SQLite is for one; "
                "use redis:// or postgresql:// for many"
            )
        _begin_boot(connection, ahead_then - ahead, now)
    elif was != inode:  # a copy was put in its place, of whatever age
        run(SQL["begin_epochs"], (now,))
    run(SQL["same_machine"], (machine.boot, inode, ahead))


def _begin_boot(connection: sqlite3.Connection, shift: float, now: float) -> None:
    told = {"shift": shift, "now": now}
    connection.execute(SHIFT, told)
    connection.execute(FORGET, {"shift": shift})
    for table in ("waiters", "tombstones", "shares"):
        connection.execute(f"DELETE FROM {table}")  # noqa: S608  # names of ours
    connection.execute(SQL["begin_epochs"], (now,))
