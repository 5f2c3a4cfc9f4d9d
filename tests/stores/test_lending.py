"""Lending: the short ways of an engine in this process, held against the long ones.

Two stores live through the same history, side by side. One is asked by `take` and `put` alone, the
other the short way wherever there is one; after each step both must be the same, and so must be
what everybody was told.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest

from session_pool.model import FOREVER, Counts, Entry, State
from session_pool.space import Done, Grant, Note, Put, Refusal, Ticket, Want
from session_pool.stores.lending import NOT_DONE, PASSED_ON, Standing
from session_pool.stores.memory import MemoryStore
from tests.stores.audit import audit
from tests.stores.scene import KEY

STEPS, SEEDS = 120, 150

TAKEN: tuple[State | None, ...] = ("quarantined", "retiring", "ageing", None)
"""What a keeper makes of an entry, whoever holds it."""


PLAIN = Want(KEY, "p1", None, None, 10.0, FOREVER, 3, 4)


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
        chime: the bell of the one that was asked the short way, while it stands in line by it.
        entry: what was granted; equal in both.
        loan: of the short way.
    """

    request: str
    want: Want
    chime: Chime | None = None
    standing: Standing | None = None
    entry: Entry | None = None
    loan: Any = None


@dataclass
class Pair:
    """The same history, the long way and the short."""

    now: float = 1000.0
    rung: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    line: dict[str, Asking] = field(default_factory=dict)
    held: list[Asking] = field(default_factory=list)
    wants: dict[Want, Want] = field(default_factory=dict)
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

    def ask(self, want: Want, known: int) -> None:
        """A new request, which the one store is asked the long way and the other the short."""
        asking = Asking(self.name("r"), want)
        ours = self._take(self.long, asking, known)
        self.cap = want.max_leased
        lent: Any = None
        if want.conversation is None:
            lent = self.lender.lend(want, asking.request, known, self._chime(asking))
        if lent is None:
            asking.chime = None
            self._settled(asking, ours, self._take(self.short, asking, known))
            return
        self.seen["waits" if isinstance(lent, Standing) else "lent"] += 1
        if isinstance(lent, Standing):
            assert isinstance(ours, Ticket)
            assert (lent.place, lent.bell) == (ours.place, asking.chime)
            assert lent.wanting == (ours.counts.new > 0)
            asking.standing = lent
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
            asking.want, asking.request, patience_s=FOREVER, note_version=known
        )

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

    def listen(self, dice: random.Random) -> None:
        """Whoever was told anything asks again; a bell that brought a loan is an answer."""
        while self.rung or self.told or any(self._heard()):
            rung, self.rung[:], self.told[:] = list(dict.fromkeys(self.rung)), [], []
            bells = {asking.request: asking for asking in self._heard()}
            for request in dict.fromkeys([*rung, *bells]):
                asking = self.line.get(request)
                if asking is None:
                    continue
                loan = bells[request].chime.rung[0] if request in bells else None  # type: ignore[union-attr]
                lent = loan is not None and loan.lease == request
                if lent and dice.random() < 0.2:  # cancelled at the very tick of the hand-over
                    self.seen["undone"] += 1
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
            became = self.lender.take_back(asking.loan, asking.request, in_s)
            if became != NOT_DONE:
                self.seen["passed on" if became == PASSED_ON else "back"] += 1
                assert isinstance(ours, Done)
                return
        theirs = self.short.put_nowait(
            Put(KEY, entry.id, self.name("b"), "idle", None, entry.fence, None, in_s)
        )
        assert type(ours) is type(theirs)

    def leave(self, asking: Asking) -> None:
        """A request is taken back, in line or granted; its bell may be done by then."""
        if asking.chime is not None:
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


def _all(store: MemoryStore) -> list[Entry]:
    rows = sorted(store._rows.values(), key=lambda row: row.id)
    return [row.entry()._replace(op="") for row in rows]


def _plain(counts: Counts) -> Any:
    return ({k: v for k, v in counts.states.items() if v}, counts.waiting, counts.new, counts.tally)


ANYTHING, CALM = "aaaaabbbbbbbllsstwnk", "aaaaaaaabbbbbbbbblst"
"""How often which step is taken; in a calm history most wait for what is given back."""


def _step(pair: Pair, dice: random.Random, steps: str) -> None:
    match dice.choice(steps):
        case "a":
            version = dice.choice([None, None, None, "2.0"])
            want = Want(
                KEY, dice.choice(["p1", "p1", "p2"]), dice.choice([None, None, None, None, "talk"]),
                version, dice.choice([10.0, 10.0, 90.0]), dice.choice([FOREVER, FOREVER, 30.0]),
                dice.choice([3, 3, 3, 3, 2]), 4,
            )  # fmt: skip
            # Mostly it is the same object again, as an agent's plain want is.
            plain = 0.95 if steps is CALM else 0.5
            want = PLAIN if dice.random() < plain else pair.wants.setdefault(want, want)
            pair.ask(want, pair.version - (dice.random() < 0.1))
        case "b" if pair.held:
            asking = dice.choice(pair.held[-6:])
            if asking.entry is not None and asking.entry.conversation is None:
                pair.back(asking, dice.choice([5.0, 50.0, 500.0]))
        case "l" if pair.line:
            pair.leave(dice.choice(list(pair.line.values())))
        case "s":
            made = Put(
                KEY, f"e{dice.randrange(6)}", pair.name("o"), "idle", rid="rid",
                agent_version=dice.choice(["1.0", "1.0", "2.0"]), pinned=dice.random() < 0.2,
                expires_in_s=dice.choice([1000.0, 300.0, 100.0, 20.0]), fresh_in_s=200.0,
            )  # fmt: skip
            pair.put(made)
        case "t":
            pair.now += dice.choice([0.5, 5.0, 40.0])
        case "w" if pair.held:  # a holder writes down what it does, and goes on
            entry = dice.choice(pair.held[-6:]).entry
            assert entry is not None
            pair.put(Put(KEY, entry.id, pair.name("w"), "leased", None, entry.fence))
        case "n":
            open_ = not pair.open or dice.random() < 0.7
            pair.write(Note(early_death_s=float(pair.version)), open_=open_)
        case "k":  # a keeper takes something away, whoever holds it
            rows = [row for row in pair.long._rows.values() if row.state != "retiring"]
            if rows:
                row, states = dice.choice(rows), list[State | None](TAKEN)
                put = Put(KEY, row.id, pair.name("k"), dice.choice(states), version=row.version)
                pair.put(put)


def _live(seed: int, steps: str) -> Counter[str]:
    pair, dice = Pair(), random.Random(seed)
    for _ in range(STEPS):
        _step(pair, dice, steps)
        pair.listen(dice)
        pair.check()
    return pair.seen


@pytest.mark.parametrize("steps", [ANYTHING, CALM], ids=["anything", "calm"])
@pytest.mark.parametrize("seed", range(SEEDS))
def test_the_short_ways_mean_what_the_long_ones_mean(seed: int, steps: str) -> None:
    _live(seed, steps)


def test_the_histories_go_every_short_way() -> None:
    seen: Counter[str] = Counter()
    for seed in range(1000, 1060):
        seen += _live(seed, CALM if seed % 2 else ANYTHING)
    assert all(
        seen[way] > 10 for way in ("lent", "waits", "rung", "undone", "back", "passed on")
    ), seen
