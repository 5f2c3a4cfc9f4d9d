"""What happened, counted: how a test sees whether its pool kept its promises.

A user text may carry the mark of its conversation, `[[name]]`; the counters about conversations
go by marks. This room only counts; it decides nothing and keeps no text.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

_MARK: Final = re.compile(r"\[\[([^\[\]]+)\]\]")


def mark_of(text: str) -> str | None:
    """The first mark in a text, without its brackets."""
    found = _MARK.search(text)
    return found[1] if found else None


@dataclass(frozen=True, slots=True)
class Audit:
    """The counters at one moment.

    Attributes:
        seed: of the emulator's chances, to run the same again.
        sessions_created, sessions_deleted: through the API.
        sessions_alive: neither expired nor deleted now.
        exchanges: begun, whatever became of them.
        exchanges_recorded: that reached `content`.
        exchanges_on_dead_sessions: continues by the owner on an expired or deleted session.
        overlapping_exchanges: continues on a session while another was under way there, refused
            ones too.
        sessions_with_two_marks: sessions that saw exchanges of more than one conversation.
        turns_that_lost_a_living_session: exchanges of a mark begun in another session although
            the one before was neither expired nor deleted (same user and agent).
        double_begun_texts: exchanges begun with a mark and a text that were begun before (same
            user and agent).
        max_creates_in_flight: most creations that the server was working on at once.
        max_in_flight: the same for each operation.
        requests, requests_by_operation: everything that came in, the token endpoints too.
        throttled: answers 429 and 503.
        errors_by_name: refusals by `errorName`; those without a name by status ("429").
        answers_lost: requests whose connection was broken by a script.
        clients_gone: requests whose client hung up before the answer.
    """

    seed: int
    sessions_created: int
    sessions_deleted: int
    sessions_alive: int
    exchanges: int
    exchanges_recorded: int
    exchanges_on_dead_sessions: int
    overlapping_exchanges: int
    sessions_with_two_marks: int
    turns_that_lost_a_living_session: int
    double_begun_texts: int
    max_creates_in_flight: int
    max_in_flight: dict[str, int]
    requests: int
    requests_by_operation: dict[str, int]
    throttled: int
    errors_by_name: dict[str, int]
    answers_lost: int
    clients_gone: int


@dataclass(slots=True)
class Ledger:
    """The running counters behind `Audit`; the names are the same."""

    sessions_created: int = 0
    sessions_deleted: int = 0
    exchanges: int = 0
    exchanges_recorded: int = 0
    exchanges_on_dead_sessions: int = 0
    overlapping_exchanges: int = 0
    turns_that_lost_a_living_session: int = 0
    double_begun_texts: int = 0
    throttled: int = 0
    answers_lost: int = 0
    clients_gone: int = 0
    requests_by_operation: Counter[str] = field(default_factory=Counter)
    errors_by_name: Counter[str] = field(default_factory=Counter)
    in_flight: Counter[str] = field(default_factory=Counter)
    max_in_flight: Counter[str] = field(default_factory=Counter)
    _mixed: set[str] = field(default_factory=set)
    _mark_of_session: dict[str, str] = field(default_factory=dict)
    _session_of_mark: dict[tuple[str, str, str], str] = field(default_factory=dict)
    _begun: set[bytes] = field(default_factory=set)

    def arrived(self, op: str) -> None:
        """A request came in."""
        self.requests_by_operation[op] += 1
        self.in_flight[op] += 1
        self.max_in_flight[op] = max(self.max_in_flight[op], self.in_flight[op])

    def left(self, op: str) -> None:
        """The server is done with a request."""
        self.in_flight[op] -= 1

    def refused(self, name: str | None, status: int) -> None:
        """A request was answered with an error."""
        self.errors_by_name[name or str(status)] += 1
        if status in (429, 503):
            self.throttled += 1

    def begun(
        self,
        *,
        user: str,
        agent_rid: str,
        session_rid: str,
        text: str,
        alive: Callable[[str], bool],
    ) -> None:
        """An exchange was begun; `alive` says of a session whether it still lives."""
        self.exchanges += 1
        mark = mark_of(text)
        if mark is None:
            return
        if self._mark_of_session.setdefault(session_rid, mark) != mark:
            self._mixed.add(session_rid)
        whose = (user, agent_rid, mark)
        before = self._session_of_mark.get(whose)
        if before is not None and before != session_rid and alive(before):
            self.turns_that_lost_a_living_session += 1
        self._session_of_mark[whose] = session_rid
        digest = hashlib.sha256("\0".join((*whose, text)).encode("utf-8", "surrogatepass")).digest()
        if digest in self._begun:
            self.double_begun_texts += 1
        self._begun.add(digest)

    def audit(self, *, seed: int, sessions_alive: int) -> Audit:
        """The counters now."""
        return Audit(
            seed=seed,
            sessions_created=self.sessions_created,
            sessions_deleted=self.sessions_deleted,
            sessions_alive=sessions_alive,
            exchanges=self.exchanges,
            exchanges_recorded=self.exchanges_recorded,
            exchanges_on_dead_sessions=self.exchanges_on_dead_sessions,
            overlapping_exchanges=self.overlapping_exchanges,
            sessions_with_two_marks=len(self._mixed),
            turns_that_lost_a_living_session=self.turns_that_lost_a_living_session,
            double_begun_texts=self.double_begun_texts,
            max_creates_in_flight=self.max_in_flight["create"],
            max_in_flight=dict(self.max_in_flight),
            requests=self.requests_by_operation.total(),
            requests_by_operation=dict(self.requests_by_operation),
            throttled=self.throttled,
            errors_by_name=dict(self.errors_by_name),
            answers_lost=self.answers_lost,
            clients_gone=self.clients_gone,
        )
