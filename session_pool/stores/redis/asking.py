"""How a question reaches the store and its answer comes back, whatever happens on the way.

Here are the epoch that this process knows, the bells it hears, and the one place where a failure
becomes the pool's. Knows no operation.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from hashlib import blake2b
from struct import pack
from typing import Any, Final, NamedTuple, NoReturn
from uuid import uuid4

import hiredis

from session_pool.errors import PoolClosed, StoreMismatch, StoreUnavailable
from session_pool.model import FOREVER, PoolKey
from session_pool.stores.base import EPOCH, unbegun
from session_pool.stores.redis.address import Address
from session_pool.stores.redis.greeting import Greeting
from session_pool.stores.redis.link import Link
from session_pool.stores.redis.packing import key_text
from session_pool.stores.redis.scripts import SCRIPTS, Script
from session_pool.stores.redis.trouble import LOST, PREFIX, code_of, translated
from session_pool.stores.redis.wire import Wire, bulk

SCHEMA: Final = 1
"""Of what the scripts keep; another one is refused."""

SERVERS_CLOCK: Final = -1.0
"""Sent in the place of a time: the server's own counts (B20)."""

ATTEMPTS: Final = 3
"""Of one question: once more for a script that the server must learn, or for another epoch."""


_forks = 0


def _forked() -> None:
    global _forks  # of this process alone: counted in each child
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


class Scope(NamedTuple):
    """The Redis keys of one operation: those of the namespace, and those of one pool key.

    Attributes:
        keys: as they go over the wire, their number before them.
        words: how many those are.
        text: the pool key as entries name it.
        digest: the same, short.
    """

    keys: bytes
    words: int
    text: bytes = b""
    digest: bytes = b""


class Asking:
    """One process's way to ask.

    Args:
        address: where the store is.
        clock: seconds, in place of the server's; for tests.

    Attributes:
        epoch: see `Store`.
    """

    durable = True
    epoch = ""

    def __init__(self, address: Address, *, clock: Callable[[], float] | None = None) -> None:
        self._address = address
        self._clock = clock
        self._base = f"{PREFIX}{{{address.namespace}}}:"
        self._everybody = f"{self._base}bell".encode()
        self._bell = f"{self._base}bell:{uuid4().hex}".encode()
        self._bells: list[Callable[[str], None]] = []
        self._waiting: dict[str, bytes] = {}
        self._scopes: dict[PoolKey, Scope] = {}
        self._prefixes: dict[tuple[Script, Scope], bytes] = {}
        self._publish = b"PUBLISH"
        self._longest_s = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._forks = -1
        self._common = self.scope("entries", "due")
        self._link = Link(
            address, f"{self._base}meta".encode(), (self._everybody, self._bell), self._heard,
            self._arrived,
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._address.shown} {self._address.namespace!r}>"

    async def open(self) -> None:
        """Connect, and learn or begin the epoch.

        Raises:
            ConfigError: the URL, or how the server is set up, must be changed.
            StoreMismatch: what is kept there is of another version.
            StoreUnavailable: it cannot be reached now.
        """
        self._loop, self._forks = asyncio.get_running_loop(), _forks
        await self._link.open()

    async def aclose(self) -> None:
        """Let go of the connection and its task."""
        if self._forks in (-1, _forks):  # after a fork the parent's are not ours to close
            await self._link.aclose()

    def watch(self, ring: Callable[[str], None]) -> Callable[[], None]:
        """See `Store.watch`."""
        self._bells.append(ring)

        def end() -> None:
            if ring in self._bells:
                self._bells.remove(ring)

        return end

    # ------------------------------------------------------------------ asking

    def scope(self, *names: str) -> Scope:
        """The Redis keys of these names, the epoch's before them."""
        keys = [f"{self._base}{name}".encode() for name in ("meta", *names)]
        return Scope(b"".join(map(bulk, (b"%d" % len(keys), *keys))), len(keys) + 1)

    def scope_of(self, key: PoolKey) -> Scope:
        """Those of an operation on a pool key."""
        scope = self._scopes.get(key)
        if scope is None:
            text = key_text(key)
            digest = blake2b(text, digest_size=10).hexdigest()
            names = (f"{digest}:{name}" for name in ("head", "names", "index"))
            scope = self.scope("entries", "due", *names)
            scope = self._scopes[key] = scope._replace(text=text, digest=digest.encode())
        return scope

    def now(self) -> float:
        """The time that goes with a question."""
        return SERVERS_CLOCK if self._clock is None else self._clock()

    async def run(self, script: Script, scope: Scope, count: int, body: bytes) -> list[Any]:
        """Run a script; cancelling leaves it open whether it ran.

        Args:
            script: which.
            scope: on what.
            count: how many arguments follow.
            body: those, as they go over the wire.

        Raises:
            StoreUnavailable: no answer, or one that says not now.
            StoreError: an answer that should not be.
            PoolClosed: this is another event loop, or another process.
        """
        if self._loop is not asyncio.get_running_loop() or self._forks != _forks:
            self._misused()
        link, called = self._link, script.called
        for _ in range(ATTEMPTS):
            wire = link.wire or await link.ready()
            prefix = self._prefixes.get((script, scope))
            if prefix is None:
                prefix = self._prefix(script, scope)
            if called is not script.called:
                prefix = prefix.replace(script.called, called, 1)
            known = self.epoch
            try:
                answer = await wire.ask(b"*%d\r\n%b%b" % (scope.words + 4 + count, prefix, body))
            except OSError as error:
                raise translated(error, link.shown, script.name) from error
            if type(answer) is list:
                if len(answer) > 1:
                    return answer
                await self._another_epoch(wire, known)
            elif isinstance(answer, hiredis.ReplyError) and code_of(answer) == "NOSCRIPT":
                called = script.told
            else:
                self._refused(wire, answer, script)
        raise StoreUnavailable(f"{script.name}: the store at {link.shown} changes all the time")

    def _prefix(self, script: Script, scope: Scope) -> bytes:
        words = bulk(self.epoch.encode()) + bulk(self._publish)
        prefix = self._prefixes[script, scope] = script.called + scope.keys + words
        return prefix

    def _refused(self, wire: Wire, answer: Any, script: Script) -> NoReturn:
        error = answer if isinstance(answer, Exception) else TypeError("an answer of another kind")
        if code_of(error) in LOST:
            self._link.lost(wire, error)
        raise translated(error, self._link.shown, script.name) from error

    def _misused(self) -> NoReturn:
        if self._loop is None:
            raise PoolClosed("the store is not open")
        if self._forks != _forks:
            raise PoolClosed(
                "the store was opened before this process was forked; open it after the fork"
            )
        raise PoolClosed(
            "the store was opened in another event loop; open one in each loop that uses it"
        )

    # ------------------------------------------------------------------ epochs

    async def _arrived(self, wire: Wire, greeting: Greeting) -> None:
        self._identity = greeting.identity
        self._publish = greeting.publish
        self._prefixes.clear()
        if not await self._enter(wire) and self._waiting:
            self._ring(*self._waiting)  # what was rung meanwhile was not heard

    async def _another_epoch(self, wire: Wire, known: str) -> None:
        if known == self.epoch:
            try:
                await self._enter(wire)
            except OSError as error:
                raise translated(error, self._link.shown, "looking at the epoch") from error

    async def _enter(self, wire: Wire) -> bool:
        script = SCRIPTS["enter"]
        told = (
            self.epoch.encode(), b"%d" % SCHEMA, pack(">dd", self.now(), self._longest_s),
            uuid4().hex.encode(), self._identity.encode(), b"%d" % self._address.begin,
        )  # fmt: skip
        scope = self.scope()
        words = b"".join((script.told, scope.keys, *map(bulk, told)))
        answer = await wire.ask(b"*%d\r\n%b" % (scope.words + 2 + len(told), words))
        if isinstance(answer, hiredis.ReplyError):
            raise translated(answer, self._link.shown, "looking at the epoch") from answer
        what, found = (part.decode() for part in answer)
        if what == "unbegun":
            raise unbegun(self._address.shown, f"namespace {self._address.namespace}")
        if what == "schema":
            raise StoreMismatch(
                f"store: {self._address.shown} keeps namespace {self._address.namespace!r} in "
                f"version {found}, and this release speaks version {SCHEMA}; run: session-pool "
                "migrate"
            )
        if found == self.epoch:
            return False
        knew, self.epoch = self.epoch, found
        self._prefixes.clear()
        if knew:
            self._ring(EPOCH, *self._waiting)
        return True

    def remember_length(self, ttl_s: float) -> None:
        """The longest lease that was asked for is how long another epoch stays calm."""
        if self._longest_s < ttl_s != FOREVER:
            self._longest_s = ttl_s

    # ------------------------------------------------------------------ bells

    def _heard(self, channel: bytes, said: bytes) -> None:
        if channel == self._bell:
            self._ring(*said.decode().split("\0"))
        elif self._waiting:  # a note of a key: news for everybody in its lines
            self._ring(*(who for who, digest in self._waiting.items() if digest == said))

    def _ring(self, *requests: str) -> None:
        for request in requests:
            for ring in tuple(self._bells):
                ring(request)
