"""What the pool needs from the remote, as a protocol: the HTTP client is one way to have it.

This room is a contract. It knows the nouns of the model, and no HTTP, no JSON and no policy, so
that an emulator, a recorder or a test double can stand in as `SessionPool(api=...)`.

All methods raise errors of `session_pool.errors` only. `timeout_s` bounds the whole call, token
and body included. Cancelling a call closes its connection and leaves the outcome open: the remote
may have done what was asked.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from session_pool.model import Exchange, Sighting

Background = Sequence[Callable[[], Awaitable[None]]]
"""Endless coroutine functions that the pool runs, supervised, in tasks of its own."""


class SessionPage(NamedTuple):
    """One page of an agent's sessions, most recently updated first.

    Attributes:
        next_page_token: None on the last page.
        date: the remote's clock as it answered, cut to the second; None where it did not say.
    """

    sessions: tuple[Sighting, ...]
    next_page_token: str | None
    date: datetime | None = None


class Api(Protocol):
    """The remote side of the pool.

    Errors of every method, beside those it names:

    - `PoolClosed`: not opened, closed, or used from another event loop.
    - `AuthError`: the credentials are refused and one renewal did not cure it.
    - `AgentUnavailable`: an empty 404, the API is not there; from `create_session` every other
      definite refusal too (B10).
    - `RemoteRejected`: a definite refusal of anything but a creation.
    - `RemoteThrottled`: 429 and 503 (`begun=False`), or a throttle from within the work.
    - `RemoteUnavailable`: no answer in time, no connection, or 5xx; `sent` says whether the
      request can have reached the remote.
    - `RemoteMalformed`: an answer that the contract does not know.
    - `SessionGone`: the session named is not known to the remote; nothing else means that.
    """

    async def open(self) -> None:
        """Bind to the running event loop; opening what is open does nothing."""
        ...

    async def aclose(self) -> None:
        """Close all connections, promptly; calls in flight fail. Closing twice does nothing."""
        ...

    def background(self) -> Background:
        """Return what has to run while it is open, e.g. the renewal of the token ahead of time."""
        ...

    async def create_session(
        self, agent_rid: str, *, agent_version: str | None = None, timeout_s: float
    ) -> Sighting:
        """Make a session (Create Session).

        Args:
            agent_rid: whose.
            agent_version: `major.minor`; None is the latest published version.
            timeout_s: seconds for the whole call.

        Raises:
            RemoteUnavailable: also, `sent=False`, for a SessionNotFound, which is passing here.
        """
        ...

    async def get_session(self, agent_rid: str, session_rid: str, *, timeout_s: float) -> Sighting:
        """Look at one session (Get Session)."""
        ...

    async def list_sessions(
        self,
        agent_rid: str,
        *,
        page_size: int | None = None,
        page_token: str | None = None,
        timeout_s: float,
    ) -> SessionPage:
        """Look at one page of this client's sessions of an agent (List Sessions).

        Args:
            agent_rid: whose.
            page_size: at most 100; None is the remote's own default.
            page_token: from the page before.
            timeout_s: seconds for the whole call.
        """
        ...

    async def delete_session(self, agent_rid: str, session_rid: str, *, timeout_s: float) -> None:
        """Delete one session (Delete Session); one that is gone raises `SessionGone`."""
        ...

    async def blocking_continue(
        self,
        agent_rid: str,
        session_rid: str,
        *,
        text: str,
        trace_id: str,
        parameter_inputs: Mapping[str, Any] | None = None,
        contexts_override: Sequence[Any] | None = None,
        timeout_s: float,
    ) -> Exchange:
        """Say something and wait for the whole answer (Blocking Continue Session).

        Args:
            agent_rid: whose agent.
            session_rid: in which session.
            text: the user's words.
            trace_id: a UUID, new in this session; the outcome can be looked up by it (B30).
            parameter_inputs: application variable id to value, as the API's page has it.
            contexts_override: contexts, as the API's page has them; None leaves them to the agent.
            timeout_s: seconds for the whole call.
        """
        ...

    def streaming_continue(
        self,
        agent_rid: str,
        session_rid: str,
        *,
        text: str,
        trace_id: str,
        message_id: str,
        parameter_inputs: Mapping[str, Any] | None = None,
        contexts_override: Sequence[Any] | None = None,
        timeout_s: float,
    ) -> AbstractAsyncContextManager[AsyncIterator[str]]:
        """Say something and read the answer as it comes (Streaming Continue Session).

        Entering sends the request and waits for the status, which may take as long as the agent
        thinks; errors before the first byte come from there. Iterating gives pieces of text, never
        half a character, none empty. Leaving early closes the connection, which does not end the
        exchange: `cancel` does.

        Args:
            agent_rid: whose agent.
            session_rid: in which session.
            text: the user's words.
            trace_id: a UUID, new in this session.
            message_id: a UUID, for `cancel`.
            parameter_inputs: as for `blocking_continue`.
            contexts_override: as for `blocking_continue`.
            timeout_s: seconds for the whole, from entering to the last piece; silence alone never
                ends it.

        Raises:
            RemoteUnavailable: also from the iteration, where the stream was cut.
        """
        ...

    async def cancel(
        self,
        agent_rid: str,
        session_rid: str,
        *,
        message_id: str,
        response: str | None = None,
        timeout_s: float,
    ) -> Exchange | None:
        """Stop a streamed exchange (Cancel Session).

        Args:
            agent_rid: whose agent.
            session_rid: in which session.
            message_id: the one its `streaming_continue` was given.
            response: what shall stand in the history as the answer; None keeps nothing of it.
            timeout_s: seconds for the whole call.

        Returns:
            The exchange as it was stored, or None if nothing was.

        Raises:
            RemoteRejected: CancelSessionFailedMessageNotInProgress, if it is over already.
        """
        ...

    async def content(
        self, agent_rid: str, session_rid: str, *, timeout_s: float
    ) -> tuple[Exchange, ...]:
        """Read a session's exchanges, oldest first (Get Content)."""
        ...

    async def trace_complete(
        self, agent_rid: str, session_rid: str, trace_id: str, *, timeout_s: float
    ) -> bool:
        """Tell whether the exchange of that trace is over (Get Session Trace).

        Raises:
            RemoteRejected: error_name "SessionTraceNotFound", for a trace not (yet) known.
        """
        ...
