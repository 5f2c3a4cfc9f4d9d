"""What must hold inside the memory store between any two operations (placeholder for now)."""

from __future__ import annotations

from session_pool.stores.memory import MemoryStore


def audit(store: MemoryStore) -> None:
    """Assert that the store's parts agree with each other."""
    assert store is not None
