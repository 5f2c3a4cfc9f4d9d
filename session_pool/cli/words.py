"""What several commands share: their common options, and how a command says no.

Knows typer, and none of the commands.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from session_pool import ConfigError


class Wrong(Exception):
    """Wrong usage; a line for each mistake, of which there is one as a rule."""


class Failed(Exception):
    """A failure, in words of one line.

    Args:
        message: what failed, and what to do.
        code: the exit code.
    """

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
Seed = Annotated[
    int | None, typer.Option(min=0, metavar="N", help="Of all chances; a fresh one if not given.")
]
Config = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="A configuration; else the one SESSION_POOL_CONFIG names."),
]
Store = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Where the state is kept, e.g. sqlite:///pool.db."),
]
Url = Annotated[
    str | None, typer.Option(metavar="URL", help="The stack, https://host; else FOUNDRY_HOSTNAME.")
]


def refused(error: ConfigError) -> Wrong:
    """A refused configuration in one line: the first mistake, and where to read of the others."""
    first, *others = str(error).splitlines() or [""]
    more = f" (and {len(others)} more: see session-pool check)" if others else ""
    return Wrong(first + more)
