"""The one thread that uses the database: it carries out what has come in, many in a transaction.

What arrives while a transaction is under way, or while another process has its turn, goes into the
next one (group commit). An operation that fails spoils the transaction; then each of them gets one
of its own. Knows no operation: each is a function of a `Moment`. Everything that can go wrong with
the file is translated here.
"""

from __future__ import annotations

import logging
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Final

from session_pool.errors import StoreError, StoreMismatch, StoreUnavailable
from session_pool.stores.sqlite import file
from session_pool.stores.sqlite.address import Address, check_begun
from session_pool.stores.sqlite.bells import Bell
from session_pool.stores.sqlite.epochs import Machine, Visitor, enter
from session_pool.stores.sqlite.lock import FileLock, inode_of
from session_pool.stores.sqlite.moment import Moment
from session_pool.stores.sqlite.statements import SQL

log = logging.getLogger(__name__)

AT_ONCE: Final = 64
"""Operations in one transaction at most: some 3 ms of other processes' waiting."""

Work = Callable[[Moment], Any]


@dataclass(slots=True, eq=False)
class Job:
    """One operation on its way.

    Attributes:
        work: carries it out.
        now: an injected clock's time when it was asked for; None for the machine's.
        ttl_s: the lease that it asks for, or 0.
        given_up: nobody waits for the answer any more, and it will be asked again.
        answer, error: what became of it.
    """

    work: Work
    now: float | None = None
    ttl_s: float = 0.0
    given_up: bool = False
    answer: Any = None
    error: BaseException | None = None


@dataclass(slots=True)
class Outcome:
    """What a transaction comes to.

    Attributes:
        jobs: those that are done, each with its answer or error.
        rung: requests of this instance that should ask again.
        epoch: the epoch it was done in; None where that is not known.
        another: it is another than was known.
        over: the thread has ended; nothing comes after this.
    """

    jobs: Sequence[Job] = ()
    rung: list[str] = field(default_factory=list)
    epoch: str | None = None
    another: bool = False
    over: bool = False


class Writer:
    """The thread and its connection.

    Args:
        address: the file and the namespace.
        machine: its clocks and boot.
        bell: the instance's own, and its way to others.
        tell: told, in this thread, what each transaction came to.
        counted: see `Moment`.
    """

    def __init__(
        self,
        address: Address,
        machine: Machine,
        bell: Bell,
        tell: Callable[[Outcome], None],
        *,
        counted: bool,
    ) -> None:
        self.lock = FileLock(address.path)
        self.connection: sqlite3.Connection | None = None
        self._address = address
        self._machine = machine
        self._bell = bell
        self._tell = tell
        self._counted = counted
        self._queue: SimpleQueue[Sequence[Job] | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="session-pool-sqlite", daemon=True)
        # A daemon: while another process is frozen in its turn, this one must be able to end.
        self._inode = -1
        self._epoch: str | None = None
        self._longest_s = 0.0
        self._looked_at = 0
        self._over = False
        self._backlog: deque[Job] = deque()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def submit(self, jobs: Sequence[Job]) -> None:
        """Hand over what came together; with nothing in it, it is a look for news."""
        self._queue.put(jobs)

    def stop(self) -> None:
        """End after what has been handed over."""
        self._queue.put(None)

    def join(self, timeout_s: float) -> bool:
        """Wait for the end; False if it has not come."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # ------------------------------------------------------------------ in the thread

    def _run(self) -> None:
        while self._backlog or not self._over:
            if self._backlog or self._wait():
                self._tell(self._safely(self._turn))
            elif not self._over:
                self._tell(self._safely(self._look))
        self._disconnect()
        self.lock.close()
        self._tell(Outcome(over=True))

    def _wait(self) -> bool:
        # Whether there is something to do; else it is time for a look, or for the end.
        self._put_by(self._queue.get())
        return bool(self._backlog)

    def _put_by(self, jobs: Sequence[Job] | None) -> None:
        if jobs is None:
            self._over = True
        else:
            self._backlog.extend(jobs)

    def _safely(self, step: Callable[[list[Job]], Outcome]) -> Outcome:
        jobs: list[Job] = []
        try:
            return step(jobs)
        except BaseException as error:  # noqa: BLE001  # whoever waits must hear of it
            self._disconnect()
            failed = jobs or list(self._backlog)
            if not jobs:  # it has not come to any of them
                self._backlog.clear()
            for job in failed:
                job.answer, job.error = None, self._translated(error)
            return Outcome(failed)

    def _turn(self, jobs: list[Job]) -> Outcome:
        with self.lock.held():
            self._gather(jobs)
            connection = self._connected()
            try:
                outcome, rung = self._transaction(connection, jobs)
            except Exception as error:
                if len(jobs) <= 1:
                    raise
                log.debug("a transaction of %d is done one by one", len(jobs), exc_info=error)
                return self._one_by_one(connection, jobs)
        self._ring(rung)
        return outcome

    def _gather(self, jobs: list[Job]) -> None:
        # What has come in while others had their turn, and as much of it as may keep them waiting.
        with suppress(Empty):
            while True:
                self._put_by(self._queue.get_nowait())
        while self._backlog and len(jobs) < AT_ONCE:
            job = self._backlog.popleft()
            if not job.given_up:
                jobs.append(job)

    def _one_by_one(self, connection: sqlite3.Connection, jobs: list[Job]) -> Outcome:
        together = Outcome(jobs)
        for job in jobs:
            try:
                outcome, rung = self._transaction(connection, [job])
            except Exception as error:  # noqa: BLE001  # it is this one's answer
                job.error = self._translated(error)
                continue
            self._ring(rung)
            together.rung += outcome.rung
            together.epoch = outcome.epoch
            together.another |= outcome.another
        if any(isinstance(job.error, StoreError) for job in jobs):
            self._disconnect()  # the next turn begins with a connection of its own
        return together

    def _transaction(
        self, connection: sqlite3.Connection, jobs: Sequence[Job]
    ) -> tuple[Outcome, dict[str, list[str]]]:
        for job in jobs:
            self._longest_s = max(self._longest_s, job.ttl_s)
        connection.execute("BEGIN IMMEDIATE")
        try:
            visitor = Visitor(self._address, self._machine, self._epoch, self._longest_s)
            space = enter(connection, visitor, self._inode)
            clock = self._machine.clock
            moment = Moment(connection, space, self._bell.name, clock(), counted=self._counted)
            for job in jobs:
                moment.now = clock() if job.now is None else job.now
                job.answer, job.error = job.work(moment), None
            moment.save()
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        another = self._epoch not in (None, space.epoch)
        self._epoch = space.epoch
        rung: dict[str, list[str]] = {}
        for bell, request in moment.rung:
            rung.setdefault(bell, []).append(request)
        return Outcome(jobs, rung.pop(self._bell.name, []), space.epoch, another), rung

    def _ring(self, rung: dict[str, list[str]]) -> None:
        for bell, requests in rung.items():
            self._bell.ring(bell, requests)

    def _look(self, jobs: list[Job]) -> Outcome:
        # Makes good what doorbells have lost: others have written, so there may be news.
        connection = self.connection
        if connection is None or inode_of(self._address.path) != self._inode:
            return self._turn(jobs)
        written = _version_of_data(connection)
        if written == self._looked_at:
            return Outcome()
        self._looked_at = written
        news = connection.execute(SQL["news"], (self._bell.name,)).fetchall()
        return Outcome(rung=[request for (request,) in news])

    # ------------------------------------------------------------------ the file

    def _connected(self) -> sqlite3.Connection:
        path = self._address.path
        if self.connection is not None:
            if inode_of(path) == self._inode:
                return self.connection
            self._disconnect()  # it was deleted, or another stands in its place
        if not self._address.begin:
            check_begun(path)
        self.lock.clear_leftovers()
        connection = file.connect(path)
        try:
            file.prepare(connection)
            self._inode = inode_of(path) or -1
            self._looked_at = _version_of_data(connection)
            self.lock.note_files()
        except BaseException:
            connection.close()
            raise
        self.connection = connection
        return connection

    def _disconnect(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            try:
                connection.close()
            except sqlite3.Error as error:
                log.debug("the database could not be closed", exc_info=error)

    def _translated(self, error: BaseException) -> BaseException:
        return translated(error, f"{self._address.path}")


def _version_of_data(connection: sqlite3.Connection) -> int:
    """Changes when another connection has written."""
    (version,) = connection.execute("PRAGMA data_version").fetchone()
    return int(version)


def translated(error: BaseException, where: str) -> BaseException:
    """What an error of the driver, or of the file system, means to whoever asked."""
    if isinstance(error, StoreMismatch):
        answer: StoreError = StoreMismatch(f"store: {where}: {error}")
    elif isinstance(error, (sqlite3.Error, sqlite3.Warning)):
        code = getattr(error, "sqlite_errorname", "") or ""
        if code.startswith("SQLITE_NOTADB"):
            answer = StoreMismatch(f"store: {where} is no SQLite database; name another file")
        elif code.startswith("SQLITE_CORRUPT"):
            answer = StoreMismatch(
                f"store: {where} is damaged ({error}); move it away, or restore a backup"
            )
        elif code.startswith("SQLITE_READONLY"):
            answer = StoreUnavailable(f"store: {where} cannot be written; allow it")
        else:
            answer = StoreUnavailable(f"store: {where} could not be used: {error}")
    elif isinstance(error, OSError):
        answer = StoreUnavailable(f"store: {where} could not be reached: {error.strerror}")
    else:
        return error
    answer.__cause__ = error
    return answer
