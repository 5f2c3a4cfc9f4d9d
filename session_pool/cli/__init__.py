"""The command line `session-pool`: the pool in a shell, an emulated stack, and a demonstration.

It stands above everything and nothing imports it. What it needs beyond the package itself (typer,
rich) is an extra, so this file imports none of it; `main` says how to get it where it is missing.
"""

from __future__ import annotations

import sys

__all__ = ["main"]

_EXTRA = ("typer", "rich")


def main() -> None:
    """Run the command line and end the process.

    Exits with 0, with 1 for a failure and 2 for wrong usage, each told in one line on stderr, or
    with 128 + n where signal n ended the command. `lease` exits as what it ran did.
    """
    try:
        from session_pool.cli import streams

        streams.prepare()
        from session_pool.cli.app import run

        code = run()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        sys.exit("session-pool: the command line is an extra: pip install 'session-pool[cli]'")
    except KeyboardInterrupt:  # before a command listens for signals, or the second one
        code = 130
    sys.exit(code)
