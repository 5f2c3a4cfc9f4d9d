"""Whose token a principal uses: the same in every process that shares a store.

Sessions belong to whoever created them, so two identities under one name would hand each other
sessions that the remote refuses. The store keeps a short hash, not the identity.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from session_pool.errors import ConfigError, StoreMismatch
from session_pool.foundry import Auth
from session_pool.stores.base import Store
from session_pool.telemetry import log

SHOWN: Final = 8
"""Of a hash, in a message: enough to tell two apart."""


async def check_identity(store: Store, host: str, principal: str, auth: Auth) -> None:
    """Record whose token a principal uses, or find that it is the one on record.

    Args:
        store: opened.
        host: of the stack.
        principal: its name in this pool.
        auth: where tokens come from; one that cannot tell whose they are is not checked.

    Raises:
        StoreMismatch: the store knows it with other credentials; it says what to do.
        StoreUnavailable: the store cannot be reached.
    """
    tell = getattr(auth, "identity", None)
    try:
        identity = tell() if callable(tell) else None
    except ConfigError as error:  # a secret's file that is not there yet; who needs it says so
        log.debug("whose token %s uses cannot be told", principal, exc_info=error)
        return
    if not isinstance(identity, str):
        return
    mine = blake2b(f"{host} {identity}".encode(), digest_size=16).hexdigest()
    known = await store.identify(f"{host}/{principal}", mine)
    if known != mine:
        raise StoreMismatch(
            f"store: its sessions for {host} belong to other credentials (identity "
            f"{known[:SHOWN]}…, this pool's is {mine[:SHOWN]}…), and the stack would refuse them; "
            "give every process that shares the store the same token owner or client id, or give "
            "this pool a store of its own: another URL, or ?namespace=name"
        )
