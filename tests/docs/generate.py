"""Writes what is generated in README.md and docs/: `make docs`; a test checks that it is current."""

from __future__ import annotations

import re
from pathlib import Path

from session_pool.emulator import settings_table
from session_pool.policy import AgentPolicy, Options, RequestLimits

ROOT = Path(__file__).resolve().parents[2]


def policy_table() -> str:
    """Every option of an agent and of the request limits: default, unit, and why that."""
    lines = ["| option | default | unit | because |", "| --- | --- | --- | --- |"]
    for options in (AgentPolicy, RequestLimits):
        lines.extend(_rows(options))
    return "\n".join(lines)


def _rows(options: type[Options]) -> list[str]:
    rows = []
    for name, field in options.model_fields.items():
        extra = field.json_schema_extra
        unit = extra["unit"] if isinstance(extra, dict) else ""
        default = "–" if field.default is None else f"{field.default}"
        shown = f"`limits.{name}`" if options is RequestLimits else f"`{name}`"
        rows.append(f"| {shown} | {default} | {unit} | {field.description} |")
    return rows


def guesses_table() -> str:
    """What the API's documentation leaves open, and the emulator's setting for it."""
    lines = [
        "| what nobody documents | setting | our guess | how we know | verified on a real stack |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in settings_table():
        if row.status in ("inferred", "unknown"):
            verified = "yes" if row.verified else "no"
            lines.append(
                f"| {row.meaning} | `{row.name}` | `{row.default}` | {row.status} | {verified} |"
            )
    return "\n".join(lines)


GENERATED = {
    "README.md": {"policy": policy_table, "emulator": guesses_table},
}
"""File to marker to what stands between `<!-- marker: … -->` and `<!-- /marker -->`."""


def rendered(path: str) -> str:
    """The file as it should be."""
    text = (ROOT / path).read_text(encoding="utf-8")
    for marker, make in GENERATED[path].items():
        pattern = re.compile(rf"(<!-- {marker}: [^>]*-->\n).*?(<!-- /{marker} -->)", re.DOTALL)
        text, found = pattern.subn(
            lambda match, body=make(): f"{match[1]}\n{body.strip()}\n\n{match[2]}", text
        )
        if found != 1:
            raise ValueError(f"{path}: expected one place for {marker!r}, found {found}")
    return text


def main() -> None:
    """Write all of them."""
    for path in GENERATED:
        (ROOT / path).write_text(rendered(path), encoding="utf-8")


if __name__ == "__main__":
    main()
