"""The standard streams, whatever a shell has made of them: closed, on a full disk, read by nobody.

Knows the process and none of the commands.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import Any, TextIO


class Unwritable(Exception):
    """Why the output cannot be written, in one line; never that its reader has gone."""


class Output(io.TextIOWrapper):
    """Standard output that tells its own troubles from those of other files and connections."""

    def write(self, text: str, /) -> int:
        """Write a text; raises Unwritable."""
        try:
            return super().write(text)
        except OSError as error:
            raise _meant(error) from error

    def flush(self) -> None:
        """Write what is left; raises Unwritable."""
        try:
            super().flush()
        except OSError as error:
            raise _meant(error) from error


def _meant(error: OSError) -> Exception:
    if isinstance(error, BrokenPipeError):
        return error
    return Unwritable(f"the output cannot be written: {error.strerror}")


def prepare() -> None:
    """Make the streams fit for commands: none is missing, and output tells its troubles.

    In the place of one that is closed comes what swallows everything; else a socket would get its
    number, and what is meant for errors would be printed as output.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            number = os.open(os.devnull, os.O_RDWR)  # the smallest that is free, so its own
            if name != "stdin":
                setattr(sys, name, os.fdopen(number, "w", encoding="utf-8", closefd=False))
    out = sys.stdout
    if type(out) is io.TextIOWrapper:
        kept: dict[str, Any] = {
            name: getattr(out, name)
            for name in ("encoding", "errors", "line_buffering", "write_through")
        }
        sys.stdout = Output(out.detach(), **kept)


def finish(code: int) -> int:
    """Write what is left of the output.

    Args:
        code: that the command would exit with.

    Returns:
        It, or 1 where the output is not complete.

    Raises:
        Unwritable: nothing had failed before this.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        give_up(sys.stdout)
        return code or 1
    except Unwritable:
        give_up(sys.stdout)
        if not code:
            raise
    return code


def give_up(stream: TextIO) -> None:
    """Let what is left go nowhere, so that Python does not complain of it at its end."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def tell(line: str) -> None:
    """Print a line for people; where nobody can be told, nobody is."""
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:
        give_up(sys.stderr)
