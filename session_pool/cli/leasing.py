"""`session-pool lease`: a live session for a command, or for whoever reads its RID.

Acquires, lets a command of the user's have the session, and gives it back whatever becomes of the
command. Knows the pool's public face, child processes and signals; nothing of stores.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import threading
from asyncio.subprocess import Process
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from session_pool import ConfigError, Lease, SessionPool, SessionPoolError
from session_pool.cli.stopping import AND_HANGUP, Stop, stopping
from session_pool.cli.tying import tie
from session_pool.cli.words import Failed, refused
from session_pool.config import Settings
from session_pool.events import CreationFailed
from session_pool.telemetry import Subscription

GRACE_S: Final = 5.0
"""For a command to end by itself once its lease is lost; then it is killed."""

NOT_FOUND, NOT_EXECUTABLE = 127, 126
"""The shell's own codes, so that a wrapped command fails as it would have without us."""

INPUT: Final = 0
"""The descriptor of our input. Its Python file is left alone: it cannot be read half."""

LOST: Final = "the lease was lost, so its session may be somebody else's now"


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for.

    Attributes:
        agent: a listed name, or a RID.
        conversation: its name, or None.
        timeout: seconds to wait for the session; None is the policy's.
        command: what to run under the lease; nothing prints the RID and holds it.
        as_json: print all of the lease instead of the bare RID.
    """

    agent: str
    conversation: str | None = None
    timeout: float | None = None
    command: Sequence[str] = ()
    as_json: bool = False


_NOTHING_AHEAD: Final = {"min_idle": 0}


class _Cut(Exception):
    """The command was cut off: an exchange of its may still be going on (B22)."""


def pool_for(settings: Settings, wish: Wish) -> SessionPool:
    """The pool to lease from.

    On memory:// nobody else will ever come for what is made in advance, so nothing is; on a shared
    store this process is one of many that keep all agents warm.
    """
    arguments = settings.arguments
    if settings.store.partition("://")[0] == "memory":
        arguments["policy"] = settings.policy.model_copy(update=_NOTHING_AHEAD)
        arguments["agents"] = {
            name: replace(it, policy=it.policy and it.policy.model_copy(update=_NOTHING_AHEAD))
            for name, it in settings.agents.items()
        }
        if wish.conversation is not None:
            _note("memory:// forgets the conversation as this ends; try --store sqlite:///pool.db")
    return SessionPool(**arguments)


def check_command(words: Sequence[str]) -> None:
    """Refuse a command that cannot be run, before a session is made for it.

    Raises:
        Failed: there is none of that name, or it may not be run.
    """
    if words and shutil.which(words[0]) is None:
        if os.sep in words[0] and Path(words[0]).exists():
            raise Failed(
                f"{words[0]!r} is no program that may be run; see chmod +x", NOT_EXECUTABLE
            )
        raise Failed(f"there is no command {words[0]!r}", NOT_FOUND)


async def lease(pool: SessionPool, wish: Wish) -> int:
    """Acquire, run or hold, release.

    Args:
        pool: not open yet; it is closed in the end.
        wish: what is asked for.

    Returns:
        The exit code: the command's own, or 128 + n where signal n ended it, or us.

    Raises:
        Wrong: the wish cannot be meant.
        Failed: no session in time, the command cannot be started, or the lease was lost.
    """
    with stopping(AND_HANGUP) as stop:
        try:
            async with pool:
                return await _leased(pool, wish, stop)
        except ConfigError as error:
            raise refused(error) from error
        except SessionPoolError as error:
            raise Failed(str(error)) from error


async def _leased(pool: SessionPool, wish: Wish, stop: Stop) -> int:
    conversation = wish.conversation
    acquiring = pool.acquire(wish.agent, conversation=conversation, timeout=wish.timeout)
    telling = asyncio.create_task(_tell_of_trouble(pool.subscribe()))
    try:
        held = await stop.unless(_awaited(acquiring))
    finally:
        telling.cancel()
    if held is None or stop.signal is not None:
        if held is not None:
            await held.release()  # nobody saw its RID: it goes back as it was
        assert stop.signal is not None  # noqa: S101 - nothing else gives none, for the type checker
        return 128 + stop.signal
    return await use(held, wish, stop)


async def _awaited(acquiring: Any) -> Lease:
    got: Lease = await acquiring
    return got


async def use(held: Lease, wish: Wish, stop: Stop) -> int:
    """Run the command, or print and hold; then give the session back.

    What ran to its own end in a conversation counts as one exchange: the pool cannot see what
    another client does with a RID, and must not take a session that was talked to for a new one. A
    command that was cut off leaves its session in quarantine (B22).

    Raises:
        Failed: the command could not be started, or the lease was lost.
    """
    if held.context_is_lost:
        _note(
            f"this conversation's earlier session is no more ({held.replace_reason}), and with it "
            "what was said; this one is new"
        )
    code = 1
    with suppress(_Cut):
        async with held:
            if wish.command:
                code = await run(held, wish.command, stop)
                if code > 128 or (code and stop.signal is not None):
                    raise _Cut
            else:
                told = json.dumps(facts(held)) if wish.as_json else held.rid
                print(told, flush=True)
                code = await hold(held, stop)
            if wish.conversation is not None:
                await held.touch()
    return code


# ---------------------------------------------------------------------------------- with a command


def environment(held: Lease) -> dict[str, str]:
    """What a command is told of its session, in variables."""
    told = {
        "SESSION_AGENT_RID": held.agent_rid,
        "SESSION_IS_NEW": "1" if held.is_new else "0",
        "SESSION_RID": held.rid,
    }
    return {**os.environ, **told}


async def run(held: Lease, words: Sequence[str], stop: Stop, *, grace_s: float = GRACE_S) -> int:
    """Run a command to its end, pass signals on to it, and end it if the lease is lost.

    Args:
        held: whose RID it gets.
        words: the command.
        stop: where signals come in.
        grace_s: seconds between SIGTERM and SIGKILL, if it comes to that.

    Returns:
        Its exit code, 128 + n where signal n ended it.

    Raises:
        Failed: it could not be started, or the lease was lost.
    """
    try:
        child = await asyncio.create_subprocess_exec(
            *words, env=environment(held), preexec_fn=tie()
        )
    except OSError as error:
        await held.release(unused=True)  # nobody but us has read the RID
        code = NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
        raise Failed(f"{words[0]}: cannot be run: {error.strerror}", code) from error
    stop.instead = _passing_on(child)
    if stop.signal is not None:  # it came while the command was being started
        stop.instead(stop.signal)
    ended = asyncio.create_task(child.wait())
    lost = asyncio.create_task(held.lost.wait())
    try:
        await asyncio.wait((ended, lost), return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            await _end(child, grace_s)
            raise Failed(f"{LOST}; the command was terminated")
        code = await ended
    finally:
        stop.instead = None
        for task in (ended, lost):
            task.cancel()
    return 128 - code if code < 0 else code


def _passing_on(child: Process) -> Callable[[signal.Signals], None]:
    by_terminal = _in_foreground()

    def pass_on(number: signal.Signals) -> None:
        nonlocal by_terminal
        if number == signal.SIGINT and by_terminal:
            by_terminal = False  # the terminal gave the first one to both of us already
            return
        with suppress(ProcessLookupError):
            child.send_signal(number)

    return pass_on


def _in_foreground() -> bool:
    """Whether Ctrl-C on our terminal comes to us, and so to a command of ours as well."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


async def _end(child: Process, grace_s: float) -> None:
    with suppress(ProcessLookupError):
        child.terminate()
    try:
        async with asyncio.timeout(grace_s):
            await child.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            child.kill()
        await child.wait()


# ------------------------------------------------------------------------------- without a command


def facts(held: Lease) -> dict[str, Any]:
    """The lease as `--json` prints it."""
    return {
        "rid": held.rid,
        "agent_rid": held.agent_rid,
        "agent_version": held.agent_version,
        "conversation": held.conversation,
        "is_new": held.is_new,
        "generation": held.generation,
        "replaces": held.replaces,
        "replace_reason": held.replace_reason,
        "fence": held.fence,
        "expires_at": held.expires_at.isoformat(timespec="seconds"),
    }


async def hold(held: Lease, stop: Stop) -> int:
    """Hold until end of input or a signal.

    Returns:
        0, or 128 + n after signal n.

    Raises:
        Failed: the lease was lost.
    """
    waits = (_end_of_input(), stop.wait(), held.lost.wait())
    tasks = [asyncio.ensure_future(it) for it in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
    if held.lost.is_set():
        raise Failed(LOST)
    return 0 if stop.signal is None else 128 + stop.signal


async def _end_of_input() -> None:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    if hasattr(signal, "SIGTTIN"):
        # In the background of a terminal a read fails then, instead of stopping the process.
        signal.signal(signal.SIGTTIN, signal.SIG_IGN)

    if sys.stdin is None:  # closed from the start, and its number may be anything's by now
        return

    def read() -> None:
        try:
            while os.read(INPUT, 65536):
                pass
        except OSError:
            return  # no input that could end: a signal will
        with suppress(RuntimeError):  # the loop is closed, nobody waits any more
            loop.call_soon_threadsafe(ended.set)

    # A thread, since a loop waits for pipes only, and not for files and /dev/null. It may stay
    # behind in its read; as a daemon it keeps nobody.
    threading.Thread(target=read, name="end of input", daemon=True).start()
    await ended.wait()


# ------------------------------------------------------------------------------------------- notes


async def _tell_of_trouble(events: Subscription) -> None:
    """Say the first reason why it takes so long, to somebody who sits there and waits."""
    if not sys.stderr.isatty():
        return
    async for event in events:
        if isinstance(event, CreationFailed) and event.retry_in_s is not None:
            _note(f"still trying: {event.error}")
            return


def _note(text: str) -> None:
    print(f"session-pool: {text}", file=sys.stderr)
