"""Two stores that live through the same history, side by side; `test_lending`.

One is asked by `take` and `put` alone, the other the short way wherever there is one.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from session_pool.model import FOREVER, Counts, Entry, State
from session_pool.space import Done, Grant, Note, Put, Refusal, Ticket, Want
from session_pool.stores.lending import MORE_WANTED, NOT_DONE, PASSED_ON, Standing
from session_pool.stores.memory import MemoryStore
from tests.stores.audit import audit
from tests.stores.scene import KEY

PLAIN: Final = Want(KEY, "p1", None, None, 10.0, FOREVER, 3, 4)
"""Of who asks for nothing in particular."""


class Chime:
    """A bell, as a future is one."""

    def __init__(self) -> None:
        self.rung: list[Any] = []
        self.left = False

    def done(self) -> bool:
        """Whether it was rung, or its waiter is leaving."""
        return bool(self.rung) or self.left

    def cancelled(self) -> bool:
        """Whether its waiter is leaving, and it was not rung before."""
        return self.left and not self.rung

    def set_result(self, loan: Any, /) -> None:
        """Ring it, once."""
        assert not self.done()
        self.rung.append(loan)


@dataclass
class Asking:
    """A request as both stores have it.

    Attributes:
        patience: seconds for which it stays in line without asking again.
        chime: the bell of the one that was asked the short way, while it stands in line by it.
        place: its number, once it stood there by a bell.
        entry: what was granted; equal in both.
        loan: of the short way.
    """

    request: str
    want: Want
    patience: float = FOREVER
    chime: Chime | None = None
    place: int | None = None
    standing: Standing | None = None
    entry: Entry | None = None
    loan: Any = None

    @property
    def brought(self) -> Any:
        """What its bell brought."""
        return self.chime.rung[0] if self.chime is not None else None


@dataclass
class Pair:
    """The same history, the long way and the short."""

    now: float = 1000.0
    rung: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    line: dict[str, Asking] = field(default_factory=dict)
    held: list[Asking] = field(default_factory=list)
    wants: dict[Want, Want] = field(default_factory=dict)
    plain: Want = PLAIN
    made: int = 0
    seen: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.long = MemoryStore(clock=lambda: self.now)
        self.short = MemoryStore(clock=lambda: self.now)
        self.lender = self.short.lender(KEY)
        self.long.watch(self.rung.append)
        self.short.watch(self.told.append)
        self.version = self.cap = 0
        self.open = True

    def name(self, kind: str) -> str:
        """A name that was never used."""
        self.made += 1
        return f"{kind}{self.made}"

    # ------------------------------------------------------------------ asking

    def ask(self, want: Want, known: int, patience: float = FOREVER) -> None:
        """A new request, which the one store is asked the long way and the other the short."""
        asking = Asking(self.name("r"), want, patience)
        ours = self._take(self.long, asking, known)
        self.cap = want.max_leased
        lent: Any = None
        if want.conversation is None and patience == FOREVER:
            lent = self.lender.lend(want, asking.request, known, self._chime(asking))
        if lent is None:
            asking.chime = None
            self._settled(asking, ours, self._take(self.short, asking, known))
            return
        self.seen["waits" if isinstance(lent, tuple) else "lent"] += 1
        if isinstance(lent, tuple):
            assert isinstance(ours, Ticket)
            request, place, bell, wanting = asking.standing = lent
            asking.place = place
            assert (request, place, bell) == (asking.request, ours.place, asking.chime)
            assert wanting == (ours.counts.new > 0)
            self.line[asking.request] = asking
        else:
            assert isinstance(ours, Grant)
            assert lent.place == ours.place
            assert ours.before is None
            self._hold(asking, ours.entry, lent)

    def _chime(self, asking: Asking) -> Any:
        def make() -> Chime:
            asking.chime = Chime()
            return asking.chime

        return make

    def _take(self, store: MemoryStore, asking: Asking, known: int) -> Grant | Ticket | Refusal:
        return store.take_nowait(
            asking.want,
            asking.request,
            patience_s=asking.patience,
            note_version=known,
            place=asking.place if store is self.short else None,
        )

    def take_instead(self, found_dead: Asking, state: State | None) -> None:
        """What was granted is found dead: give it up, and ask anew at the same place."""
        entry = found_dead.entry
        assert entry is not None
        row = self.long._rows.get(entry.id)
        asking, op = Asking(self.name("r"), found_dead.want), self.name("i")
        place = row.place if row is not None else 1
        self.cap = asking.want.max_leased
        answers = [
            store.take_nowait(
                asking.want, asking.request, patience_s=FOREVER, note_version=self.version,
                place=place, instead=Put(KEY, entry.id, op, state, None, entry.fence),
            )
            for store in (self.long, self.short)
        ]  # fmt: skip
        self._settled(asking, *answers)

    def _settled(self, asking: Asking, ours: Any, theirs: Any) -> None:
        assert type(ours) is type(theirs)
        if isinstance(ours, Grant):
            self.line.pop(asking.request, None)
            self._hold(asking, ours.entry, None)
            assert ours.entry == theirs.entry
            assert (ours.place, ours.before) == (theirs.place, theirs.before)
        elif isinstance(ours, Ticket):
            assert (ours.place, ours.needs) == (theirs.place, theirs.needs)
            self.line[asking.request] = asking
        else:
            assert (ours.why, ours.needs) == (theirs.why, theirs.needs)
            if ours.why != "note":  # then its place is kept
                self.line.pop(asking.request, None)
            elif asking.request in self.line or asking.chime is not None:
                self.line[asking.request] = asking

    def _hold(self, asking: Asking, entry: Entry, loan: Any) -> None:
        asking.entry, asking.loan, asking.chime, asking.standing = entry, loan, None, None
        if loan is not None:
            assert loan.entry() == entry
            assert (loan.fence, loan.lease) == (entry.fence, asking.request)
        self.held.append(asking)

    def listen(self, dice: random.Random, *, late: bool = False) -> None:
        """Whoever was told anything asks again; a bell that brought a loan is an answer.

        Args:
            dice: who is cancelled meanwhile.
            late: some hear it later.
        """
        while self.rung or self.told or any(self._heard()):
            bells = {asking.request: asking for asking in self._heard()}
            missed = {*self.rung} & {*self.line} - {*self.told, *bells}
            assert not missed, "who has news is told the short way as well"
            hearing = dict.fromkeys([*self.rung, *bells])
            if late:  # but a loan that may lapse before: a pool's own have no end where it is lent
                soon = {request for request, asking in bells.items() if _may_lapse(asking.brought)}
                hearing = dict.fromkeys(
                    one for one in hearing if one in soon or dice.random() < 0.5
                )
            self.rung[:] = [one for one in self.rung if late and one not in hearing]
            self.told[:] = [one for one in self.told if late and one not in hearing]
            for request in hearing:
                asking = self.line.get(request)
                if asking is None:
                    continue
                loan: Any = asking.brought if request in bells else None
                if loan is False:  # its time was up
                    asking.patience = 0.0
                lent = bool(loan) and loan.lease == request
                if lent and dice.random() < 0.2:  # cancelled at the very tick of the hand-over
                    self.seen["undone"] += 1
                    self.leave(asking)
                    continue
                if loan and not lent and not self.open:
                    # It was taken away meanwhile. Having been fetched, it is asked for anew, and a
                    # closed key refuses what the long way leaves in line; either way it is told.
                    self.leave(asking)
                    continue
                if lent:  # fetching what it was granted, it speaks of the caps again; a bell not
                    asking.want = asking.want._replace(max_leased=self.cap)
                ours = self._take(self.long, asking, self.version)
                self.cap = asking.want.max_leased
                if lent:
                    assert isinstance(ours, Grant)
                    self.seen["rung"] += 1
                    del self.line[request]
                    self._hold(asking, ours.entry, loan)
                else:
                    asking.chime = asking.standing = None
                    self._settled(asking, ours, self._take(self.short, asking, self.version))
            if late:
                return

    def _heard(self) -> list[Asking]:
        line = self.line.values()
        return [asking for asking in line if asking.chime is not None and asking.chime.rung]

    # ------------------------------------------------------------------ changing

    def put(self, put: Put) -> None:
        """Change both the long way."""
        ours, theirs = self.long.put_nowait(put), self.short.put_nowait(put)
        assert type(ours) is type(theirs)

    def back(self, asking: Asking, in_s: float) -> None:
        """A lease ends, with nothing to say; perhaps for the second time, or too late."""
        entry = asking.entry
        assert entry is not None
        ours = self.long.put_nowait(
            Put(KEY, entry.id, self.name("b"), "idle", None, entry.fence, None, in_s)
        )
        if asking.loan is not None:
            before = self.short._counter(KEY).counts.new
            became = self.lender.take_back(asking.loan, asking.request, in_s)
            if became != NOT_DONE:
                self.seen["passed on" if became == PASSED_ON else "back"] += 1
                assert isinstance(ours, Done)
                if became == PASSED_ON:
                    assert ours.counts.new <= before
                else:
                    assert (ours.counts.new > 0) == (became == MORE_WANTED)
                return
        theirs = self.short.put_nowait(
            Put(KEY, entry.id, self.name("b"), "idle", None, entry.fence, None, in_s)
        )
        assert type(ours) is type(theirs)

    def end(self, asking: Asking, state: State) -> None:
        """A conversation's lease ends."""
        entry, in_s = asking.entry, 50.0
        assert entry is not None
        put = Put(KEY, entry.id, self.name("b"), state, None, entry.fence, None, in_s)
        ours = self.long.put_nowait(put)
        if state == "parked":
            theirs = self.short.give_back_nowait(KEY, put.id, entry.fence, put.op, state, in_s)
            assert isinstance(ours, Done) == (theirs is not None)
        else:
            assert type(self.short.put_nowait(put)) is type(ours)

    def late(self, asking: Asking) -> None:
        """The time of one that stands by a bell is up."""
        if asking.chime is not None and not asking.chime.done():
            asking.chime.rung.append(False)
            self.rung.append(asking.request)

    def leave(self, asking: Asking, *, cancelled: bool = True) -> None:
        """A request is taken back, in line or granted; its bell may be done by then.

        Args:
            asking: which.
            cancelled: else its task was thrown away, and nobody cancelled the bell.
        """
        if asking.chime is not None and cancelled:
            asking.chime.left = True
        self.long.withdraw_nowait(KEY, asking.request)
        if asking.standing is not None:
            self.lender.leave(asking.standing)
        else:
            self.short.withdraw_nowait(KEY, asking.request)
        self.line.pop(asking.request, None)

    def write(self, note: Note, *, open_: bool) -> None:
        """News of the key."""
        for store in (self.long, self.short):
            store._counter(KEY).note(self.version, note, self.now, open_=open_)
        self.version, self.open = self.version + 1, open_

    # ------------------------------------------------------------------ the same

    def check(self) -> None:
        """Both are the same, but for the ids of what was written last."""
        audit(self.long)
        audit(self.short)
        assert _all(self.long) == _all(self.short)
        ours, theirs = self.long.read_nowait(KEY)[0], self.short.read_nowait(KEY)[0]
        assert _plain(ours) == _plain(theirs)
        assert _alike(self.long.lender(KEY).wants()) == _alike(self.lender.wants())


def _may_lapse(loan: Any) -> bool:
    return bool(loan) and loan.lapses != FOREVER


def _alike(wants: Iterable[Want]) -> list[Want]:
    """What they want of a session; the caps are those that somebody else asked with."""
    return [want._replace(max_leased=0) for want in wants]


def _all(store: MemoryStore) -> list[Entry]:
    rows = sorted(store._rows.values(), key=lambda row: row.id)
    return [row.entry()._replace(op="") for row in rows]


def _plain(counts: Counts) -> Any:
    return ({k: v for k, v in counts.states.items() if v}, counts.waiting, counts.new, counts.tally)
