"""Looking at a session under its lease, before anybody is given it: one GET decides (B2, B16).

It asks the remote until it answers or the time is up. Knows no store and no line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from session_pool.desk import Desk
from session_pool.errors import RemoteError, RemoteRejected, SessionGone
from session_pool.foundry import Urgency
from session_pool.model import Sighting
from session_pool.space import Grant
from session_pool.timeouts import timed_out
from session_pool.works import Works


async def look(
    works: Works,
    desk: Desk,
    grant: Grant,
    began: float,
    deadline: float,
    check_open: Callable[[], None],
) -> Sighting | None:
    """The session as the remote shows it; None is death, and nothing but SessionNotFound is (B16).

    Args:
        works: the pool's means.
        desk: the agent's.
        grant: of the session.
        began, deadline: of the acquire, by the loop's clock.
        check_open: raises once the pool hands out nothing any more.

    Raises:
        AcquireTimeout: the remote did not answer in time.
    """
    attempt = 0
    while True:
        check_open()
        try:
            async with asyncio.timeout_at(min(deadline, works.loop.time() + 1e6)):
                return await works.paced.call(
                    Urgency.CONFIRM,
                    works.api.get_session,
                    desk.rid,
                    grant.entry.rid,
                    timeout_s=desk.policy.create_timeout_s,
                )
        except SessionGone:
            return None
        except RemoteRejected as error:
            desk.last_error = error
            remaining_s = grant.entry.expires - grant.now
            return Sighting(grant.entry.facts.session, remaining_s)  # type: ignore[arg-type]
        except (RemoteError, TimeoutError) as error:
            desk.last_error = error if isinstance(error, RemoteError) else desk.last_error
            pause_s = works.backoff_s(attempt)
            if works.loop.time() + pause_s >= deadline:
                desk.timeouts += 1
                raise timed_out(desk, works.loop.time() - began, "confirmation", None) from error
            attempt += 1
            await asyncio.sleep(pause_s)
