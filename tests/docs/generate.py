"""Writes what is generated in README.md and docs/: `make docs`; a test sees that it is current."""

from __future__ import annotations

import re
from pathlib import Path

from session_pool.emulator import settings_table
from session_pool.policy import AgentPolicy, Options, RequestLimits
from session_pool.rules import CHANGES

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
        default = "–" if field.default is None else f"{field.default}"  # noqa: RUF001  # a dash in prose
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


def state_diagram() -> str:
    """Every change of state that the rules allow, as a diagram."""
    lines = ["```mermaid", "stateDiagram-v2"]
    for (was, to), why in CHANGES.items():
        label = why.replace(";", ",")  # a semicolon ends a line there
        lines.append(f"    {was or '[*]'} --> {to or '[*]'}: {label}")
    return "\n".join([*lines, "```"])


GENERATED = {
    "README.md": {"policy": policy_table, "emulator": guesses_table},
    "docs/design.md": {"states": state_diagram},
}
"""File to marker to what stands between `<!-- marker: … -->` and `<!-- /marker -->`."""


def rendered(path: str) -> str:
    """The file as it should be."""
    text = (ROOT / path).read_text(encoding="utf-8")
    for marker, make in GENERATED[path].items():
        pattern = re.compile(rf"(<!-- {marker}: [^>]*-->\n).*?(<!-- /{marker} -->)", re.DOTALL)
        places = pattern.findall(text)
        if len(places) != 1:
            raise ValueError(f"{path}: expected one place for {marker!r}, found {len(places)}")
        begin, end = places[0]
        whole = f"{begin}\n{make().strip()}\n\n{end}"
        text = pattern.sub(whole.replace("\\", "\\\\"), text)
    return text


def main() -> None:
    """Write all of them."""
    for path in GENERATED:
        (ROOT / path).write_text(rendered(path), encoding="utf-8")


if __name__ == "__main__":
    main()
