"""The SQL of this engine as texts by name; it stands in the .sql files beside this one.

Knows no Python value and runs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Final


def _text(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _by_name(text: str) -> dict[str, str]:
    parts = (part.partition("\n") for part in text.split("-- name: ")[1:])
    return {name.strip(): sql.strip() for name, _, sql in parts}


SCHEMA: Final = _text("schema.sql")
"""What makes an empty file a store."""

SQL: Final[Mapping[str, str]] = _by_name(_text("statements.sql"))
"""The statements that are run again and again; each is prepared once per connection."""
