"""`postgresql://` under test: a real server, and a namespace of its own for each scene."""

from __future__ import annotations

from itertools import count
from typing import Final

from session_pool.stores.postgres.address import address_of
from session_pool.stores.postgres.bell import HELLO
from session_pool.stores.postgres.store import PostgresStore
from session_pool.stores.postgres.wire import Wire
from tests.servers.postgres import shared_server

AUDIT: Final = """
SET search_path = session_pool;
CREATE TEMP VIEW keys AS SELECT k.* FROM session_pool.keys k
    JOIN spaces s ON s.id = k.space WHERE s.name = '{name}';
CREATE TEMP VIEW entries AS SELECT * FROM session_pool.entries
    WHERE key IN (SELECT id FROM pg_temp.keys);
CREATE TEMP VIEW waiters AS SELECT * FROM session_pool.waiters
    WHERE key IN (SELECT id FROM pg_temp.keys);
SET search_path = pg_temp;
SELECT k.id, 'counts' FROM keys k WHERE EXISTS (
    SELECT FROM unnest(ARRAY['creating', 'unsettled', 'idle', 'ageing', 'leased', 'parked',
        'quarantined', 'retiring', 'gone', 'chore']) WITH ORDINALITY AS s (state, nr)
    WHERE k.counts[nr] <> (SELECT count(*) FROM entries e WHERE e.key = k.id AND e.state = s.state))
UNION ALL SELECT k.id, 'waiting' FROM keys k WHERE (k.present, k.standing, k.wanting) <> (
    SELECT count(*), count(*) FILTER (WHERE standing), count(*) FILTER (WHERE line = 'wish')
    FROM waiters w WHERE w.key = k.id)
UNION ALL SELECT k.id, 'patience' FROM keys k
    WHERE k.ends > (SELECT coalesce(min(patience), 'Infinity') FROM waiters w WHERE w.key = k.id)
UNION ALL SELECT key, 'a line of no waiter' FROM waiters WHERE line IS NOT NULL AND NOT standing
UNION ALL SELECT key, 'granted and standing' FROM waiters
    WHERE standing AND (granted IS NOT NULL OR verdict IS NOT NULL)
UNION ALL SELECT key, 'late for upkeep' FROM entries WHERE queued > deadline
UNION ALL SELECT key, 'how a hand-out is undone' FROM entries
    WHERE state <> 'leased' AND (was IS NOT NULL OR former_rid IS NOT NULL)
UNION ALL SELECT key, 'a lease of nobody' FROM entries WHERE (state = 'leased') <> (lease <> '')
UNION ALL SELECT key, 'a number among memories' FROM entries
    WHERE (remembered IS NOT NULL)
        <> (state IN ('retiring', 'gone') AND conversation IS NOT NULL)
UNION ALL SELECT key, 'two in their line' FROM waiters WHERE line IS NOT NULL
    AND conversation IS NOT NULL GROUP BY key, conversation HAVING count(*) > 1
"""
"""What the parts of the database must agree on; each row it gives is a contradiction."""

START: Final = 1000.0
_names: Final = count(1)


class PostgresEngine:
    """A real PostgreSQL, on a clock that stands still."""

    def __init__(self) -> None:
        self.now = START
        self._checks = 0
        url = f"{shared_server().url()}&namespace=scene-{next(_names)}"
        self.store = PostgresStore(address_of(url), clock=lambda: self.now)

    def advance(self, seconds: float) -> None:
        """Let the store's clock go on."""
        self.now += seconds

    def check(self) -> None:
        """What the database's parts must agree on, now and then: it costs more than a step."""
        self._checks += 1
        if self._checks % 100 == 0:
            name = self.store._address.namespace
            assert shared_server().sql(AUDIT.format(name=name)) == ""

    async def hear(self) -> None:
        """A ring to oneself comes after all that were rung before."""
        bell = self.store._bell

        async def ring(wire: Wire, channel: str, asked: list[str]) -> list[None]:
            await wire.execute("SELECT pg_notify($1, $2)", channel, asked[0])
            return [None]

        bell._hello.clear()
        await self.store._lanes.ask(bell.channel, "hear", ring, HELLO)
        await bell._hello.wait()
