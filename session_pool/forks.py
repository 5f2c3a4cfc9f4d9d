"""Forks: a pool belongs to the process that opened it, and its copies in children are told so.

Tasks, connections and leases do not survive a fork; whoever uses the copy must hear it at once.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forked(Protocol):
    """What must hear of a fork."""

    def forked(self) -> None:
        """This is the child."""


_open: weakref.WeakSet[Forked] = weakref.WeakSet()


def tell(pool: Forked) -> None:
    """Tell it, in each child of this process from now on."""
    _open.add(pool)


def _after_fork() -> None:
    for pool in tuple(_open):
        pool.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
