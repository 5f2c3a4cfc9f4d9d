"""Evidence to judge: that of a faultless demo, to be spoilt by a test."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from session_pool import PoolStats
from session_pool.cli.claims import Evidence
from session_pool.emulator import Audit

AUDIT = Audit(
    seed=1,
    sessions_created=20,
    sessions_deleted=2,
    sessions_alive=9,
    exchanges=50,
    exchanges_recorded=50,
    exchanges_on_dead_sessions=0,
    overlapping_exchanges=0,
    sessions_with_two_marks=0,
    turns_that_lost_a_living_session=0,
    double_begun_texts=0,
    max_creates_in_flight=3,
    max_in_flight={},
    requests=100,
    requests_by_operation={},
    throttled=0,
    errors_by_name={},
    answers_lost=0,
    clients_gone=0,
)

ORDERS = PoolStats(created=20, idle=3, leased=1, parked=4, retired=12)

FAULTLESS = Evidence(
    audit=AUDIT,
    answered=50,
    failed=0,
    unfinished=0,
    waits_s=(0.01, 0.02, 0.7),
    creation_s=1.2,
    replaced=5,
    left_to_expire=0,
    lost=4,
    announced=4,
    misled=0,
    looks=80,
    unbalanced=0,
    stats=PoolStats.total({"orders": ORDERS}),
    made=20,
    unsettled=0,
)


def spoilt(**fields: Any) -> Evidence:
    """The evidence with other values; those of the audit by their own names."""
    audit = {name: value for name, value in fields.items() if hasattr(AUDIT, name)}
    own = {name: value for name, value in fields.items() if name not in audit}
    return replace(FAULTLESS, audit=replace(AUDIT, **audit), **own)
