"""Every error a caller can meet, and whether trying again makes sense.

    SessionPoolError                    .retryable
    ├── ConfigError (ValueError)        a value that cannot be meant; names the field and the fix
    ├── PoolClosed                      the pool is closed, or not open in this loop or process
    ├── PoolPaused                      nothing is handed out until `resume`
    ├── AcquireTimeout (TimeoutError)   .phase .capped_by .waited_s .stats, the last cause attached
    ├── TooManyWaiting                  the line is full (`max_waiting`)
    ├── AlreadyHeld                     this task already holds that conversation
    ├── VersionConflict                 the conversation's session has another agent version
    ├── LeaseLost                       the lease is over; its session belongs to nobody or another
    ├── SessionGone                     the remote no longer knows the session
    ├── ContextLost                     the conversation's memory is gone (`context_lost="raise"`)
    ├── ExchangeUncertain               sent, and its outcome could not be learnt; .trace_id
    ├── AgentUnavailable                sessions of this agent cannot be created; .error_name
    ├── AuthError                       the credentials are refused, or cannot be had
    ├── RemoteError                     .error_name .error_instance_id .status
    │   ├── RemoteRejected              a definite answer: no
    │   ├── RemoteThrottled             slow down; .retry_after_s
    │   ├── RemoteUnavailable           no answer, or a 5xx; .sent says whether it may have begun
    │   └── RemoteMalformed             an answer that is none
    └── StoreError
        ├── StoreUnavailable            the shared state cannot be reached
        └── StoreMismatch               it is reached, and is not ours to use

This room knows nothing: no module of the package is imported here. Messages carry no token and no
text of a conversation (B29).
"""

from __future__ import annotations

from typing import Any, ClassVar


class SessionPoolError(Exception):
    """The root of all errors raised by this package.

    `retryable` says whether the same call may succeed later with nothing else changed.
    """

    retryable: ClassVar[bool] = False


class ConfigError(SessionPoolError, ValueError):
    """A value that cannot be meant; the message names the field and the fix."""


class PoolClosed(SessionPoolError):
    """The pool is closed, was never opened, or belongs to another event loop or process."""


class PoolPaused(SessionPoolError):
    """The agent is paused: nothing is handed out or created until it is resumed (B25)."""

    retryable = True


class AcquireTimeout(SessionPoolError, TimeoutError):
    """No session could be had in time (B7).

    Attributes:
        phase: where the time went: "line", "creation", "conversation", "confirmation" or "store".
        capped_by: the limit in the way ("max_leased", "max_creating", "budget", "conversation"),
            or None.
        waited_s: seconds waited.
        stats: the agent's `PoolStats` at that moment.
        holders: the oldest holders, as "file:line, held for N s", oldest first.
    """

    retryable = True

    def __init__(
        self,
        message: str,
        *,
        phase: str,
        capped_by: str | None,
        waited_s: float,
        stats: Any = None,
        holders: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.phase = phase
        self.capped_by = capped_by
        self.waited_s = waited_s
        self.stats = stats
        self.holders = holders


class TooManyWaiting(SessionPoolError):
    """The line for this agent is `max_waiting` long already (B7)."""

    retryable = True


class AlreadyHeld(SessionPoolError):
    """This task waits for a conversation that it holds itself: it would wait for ever (B7)."""


class VersionConflict(SessionPoolError):
    """The conversation's session was made for another agent version (B5)."""


class LeaseLost(SessionPoolError):
    """The lease has ended, so its session may not be used through it any more (B21)."""


class SessionGone(SessionPoolError):
    """The remote does not know the session any more: expired, deleted, or never this caller's."""


class ContextLost(SessionPoolError):
    """The conversation's session died and with it what was said; `start_over()` goes on (B5)."""


class ExchangeUncertain(SessionPoolError):
    """An exchange was sent and its outcome could not be learnt in time (B30).

    Attributes:
        trace_id: the `sessionTraceId` it was sent with, to look it up later.
    """

    def __init__(self, message: str, *, trace_id: str) -> None:
        super().__init__(message)
        self.trace_id = trace_id


class _Answered(SessionPoolError):
    """What an answer of the remote carried beside its status; the base of two branches."""

    def __init__(
        self,
        message: str,
        *,
        error_name: str | None = None,
        error_instance_id: str | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.error_name = error_name
        self.error_instance_id = error_instance_id
        self.status = status


class AgentUnavailable(_Answered):
    """Sessions of this agent cannot be created, and trying again at once will not help (B10).

    Attributes:
        error_name: the remote's name of the fault, e.g. "AgentNotFound"; None for an empty 404.
        error_instance_id: the remote's id of this occurrence, for its support; may be None.
    """


class AuthError(_Answered):
    """The credentials are refused, and one renewal did not cure it; or there are none."""


class RemoteError(_Answered):
    """The remote API did not do what was asked.

    Attributes:
        error_name: the remote's name of the fault, or None where it gave none.
        error_instance_id: the remote's id of this occurrence, or None.
        status: the HTTP status, or None where no answer came.
    """


class RemoteRejected(RemoteError):
    """A definite answer, and the answer is no: the same request will be refused again."""


class RemoteThrottled(RemoteError):
    """The remote asks for fewer requests.

    Attributes:
        retry_after_s: seconds it asked us to wait, or None where it gave no hint.
        begun: False where it is known that nothing was begun (429 and 503); True for throttles of
            the 400 class, which come from within the work.
    """

    retryable = True

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float | None = None,
        begun: bool = False,
        error_name: str | None = None,
        error_instance_id: str | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(
            message, error_name=error_name, error_instance_id=error_instance_id, status=status
        )
        self.retry_after_s = retry_after_s
        self.begun = begun


class RemoteUnavailable(RemoteError):
    """No answer came (no connection, a broken one, a timeout), or the remote failed (5xx).

    Attributes:
        sent: False where the request is known not to have reached the remote.
    """

    retryable = True

    def __init__(
        self,
        message: str,
        *,
        sent: bool = True,
        error_name: str | None = None,
        error_instance_id: str | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(
            message, error_name=error_name, error_instance_id=error_instance_id, status=status
        )
        self.sent = sent


class RemoteMalformed(RemoteError):
    """An answer came that is not what the contract says: broken JSON, or a missing field."""

    retryable = True


class StoreError(SessionPoolError):
    """The shared state failed."""


class StoreUnavailable(StoreError):
    """The shared state cannot be reached just now."""

    retryable = True


class StoreMismatch(StoreError):
    """The shared state is there, and its version, identity or contents are not ours."""
