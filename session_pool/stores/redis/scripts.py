"""The scripts that run in the server, put together from their parts and named by their digest.

Each file in `lua` says one thing once; an operation is the parts it needs, one after the other.
"""

from __future__ import annotations

from hashlib import sha1
from importlib.resources import files
from typing import Final, NamedTuple

from session_pool.stores.redis.wire import bulk

_KEYED: Final = ("begin", "key")
_WAITING: Final = (*_KEYED, "waiter", "lines", "serve")

_PARTS: Final = {
    "enter": ("enter",),
    "take": (*_KEYED, "hit", "waiter", "fetch", "change", "lines", "serve", "take"),
    "put": (*_KEYED, "change", "give", "waiter", "lines", "serve", "put"),
    "withdraw": (*_WAITING, "withdraw"),
    "read": (*_WAITING, "read"),
    "note": (*_WAITING, "note"),
    "find": (*_WAITING, "find"),
    "register": (*_KEYED, "change", "waiter", "lines", "serve", "register"),
    "renew": ("begin", "renew"),
    "due": ("begin", "due"),
    "share": ("begin", "share"),
    "identify": ("begin", "identify"),
}


class Script(NamedTuple):
    """One operation.

    Attributes:
        name: of the operation, for errors.
        called: how its command begins, by digest.
        told: the same with its text, for a server that does not know it yet.
    """

    name: str
    called: bytes
    told: bytes


def _script(name: str) -> Script:
    folder = files("session_pool.stores.redis") / "lua"
    parts = [(folder / f"{part}.lua").read_bytes() for part in _PARTS[name]]
    text = b"\n".join(parts)
    digest = sha1(text, usedforsecurity=False).hexdigest().encode()  # how Redis names scripts
    return Script(name, bulk(b"EVALSHA") + bulk(digest), bulk(b"EVAL") + bulk(text))


SCRIPTS: Final = {name: _script(name) for name in _PARTS}
