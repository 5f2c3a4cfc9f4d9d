"""`session-pool check`: what a configuration means, where each value comes from, what is wrong.

Reads and judges, and connects to nothing. Knows `config` and the constructors of pool and store,
which judge what only shows when things are put together.
"""

from __future__ import annotations

import json
import textwrap
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final, TextIO

from rich.console import Console
from rich.text import Text

from session_pool import ClientCredentials, ConfigError, SessionPool
from session_pool.config import Settings, load
from session_pool.foundry import SecretFile, preset_for
from session_pool.sections import without_secrets
from session_pool.stores.open import open_store

WIDTH: Final = 80
ORIGIN_AT: Final = 46
"""The column of the origins; a wider value has its origin on the line below."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A configuration that can be used.

    Attributes:
        file: the file that was read, or None.
        values: "section.field" to the effective value, secrets masked.
        origins: "section.field" to where it came from.
        url, store: what a pool would connect to; no password is in it.
        signs_in: with what, in words.
        agents: by name, the RIDs of the listed ones.
        warm: by name, how many sessions are kept ready.
        warnings: what may be meant, and may be wrong.
    """

    file: str | None
    values: Mapping[str, Any]
    origins: Mapping[str, str]
    url: str
    store: str
    signs_in: str
    agents: Mapping[str, str]
    warm: Mapping[str, int]
    warnings: tuple[str, ...]


def check(path: Path | None, **overrides: Any) -> Finding:
    """Read a configuration as a pool would.

    Args:
        path: the file; None is the one that SESSION_POOL_CONFIG names, or the environment alone.
        overrides: arguments that go over both; None is not given.

    Raises:
        ConfigError: the mistakes, one line each.
    """
    settings = load(path, **overrides)
    mistakes = [*_together(settings), *_store(settings)]
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    values, origins = _with_presets(settings)
    service = isinstance(settings.auth, ClientCredentials)
    return Finding(
        file=settings.file,
        values=values,
        origins=origins,
        url=settings.url,
        store=without_secrets(settings.store),
        signs_in="client credentials" if service else "a user's token",
        agents={name: it.rid for name, it in settings.agents.items()},
        warm={
            name: (it.policy or settings.policy).min_idle for name, it in settings.agents.items()
        },
        warnings=tuple(_warnings(settings)),
    )


def _together(settings: Settings) -> Iterator[str]:
    try:
        SessionPool(**settings.arguments)
    except ConfigError as error:
        yield from str(error).splitlines()


def _store(settings: Settings) -> Iterator[str]:
    try:
        open_store(settings.store, clock=time.monotonic)
    except ConfigError as error:
        where = f"pool.store ({settings.origins['pool.store']})"
        for line in str(error).splitlines():
            yield f"{where}: {line.removeprefix('store: ')}"


def _with_presets(settings: Settings) -> tuple[dict[str, Any], dict[str, str]]:
    """Values and origins, with the limits that these credentials have by themselves (B13)."""
    values, origins = dict(settings.values), dict(settings.origins)
    if settings.auth is not None:
        for name, limit in preset_for(settings.auth)._asdict().items():
            if values.get(path := f"limits.{name}", limit) is None:
                values[path] = limit
                origins[path] += ": that of the credentials"
    return values, origins


def _warnings(settings: Settings) -> Iterator[str]:
    for name, value in settings.values.items():
        if isinstance(value, dict) and "file" in value:
            try:
                SecretFile(value["file"]).read()
            except ConfigError as error:
                yield f"{name} ({settings.origins[name]}): {error}"


# --------------------------------------------------------------------------------------- as printed


def as_json(finding: Finding) -> str:
    """All of it, every field of every agent included."""
    told = {
        "ok": True,
        "file": finding.file,
        "values": {
            name: {"value": value, "origin": finding.origins[name]}
            for name, value in finding.values.items()
        },
        "connects_to": {
            "url": finding.url,
            "signs_in_with": finding.signs_in,
            "store": finding.store,
            "agents": dict(finding.agents),
            "keeps_warm": dict(finding.warm),
        },
        "warnings": list(finding.warnings),
    }
    return json.dumps(told, indent=2)


def mistakes_as_json(error: ConfigError) -> str:
    """The same shape for a configuration that cannot be used."""
    return json.dumps({"ok": False, "mistakes": str(error).splitlines()}, indent=2)


def show(finding: Finding, out: TextIO) -> None:
    """Print it for people: plain where `out` is no terminal, what is set stands out where it is."""
    console = Console(file=out, soft_wrap=True, highlight=False, emoji=False, markup=False)
    for line in _lines(finding):
        console.print(line)


def _lines(finding: Finding) -> Iterator[Text]:
    yield Text(f"file: {finding.file or 'none (SESSION_POOL_CONFIG names one, or an argument)'}")
    for place, names in groupby(_shown_fields(finding), lambda it: it.rpartition(".")[0]):
        yield Text("")
        yield Text(f"[{place}]", style="bold")
        if place.startswith("agents."):
            yield Text("  (what is not shown is as in [defaults])", style="dim")
        rows = list(names)
        indent = max(len(name) - len(place) for name in rows) + 3
        for name in rows:
            field = name.rpartition(".")[2]
            value, origin = _shown(finding.values[name]), finding.origins[name]
            if finding.file is not None:
                origin = origin.replace(f"file {finding.file}", "file", 1)
            left = f"  {field:<{indent - 2}}{value}"
            if len(left) + 2 + len(origin) > WIDTH:
                left = f"  {field}  {value}"
            yield from _row(left, origin, indent)
    yield Text("")
    for warning in finding.warnings:
        for line in textwrap.wrap(
            f"warning: {warning}", WIDTH, break_long_words=False, break_on_hyphens=False
        ):
            yield Text(line, style="yellow")
    yield Text("It is sound. Nothing was connected to; a pool would")
    yield Text(f"  ask   {finding.url}, with {finding.signs_in}")
    yield Text(f"  use   the store {finding.store}")
    warm = ", ".join(f"{count} of {name}" for name, count in finding.warm.items())
    yield Text(f"  warm  {warm or 'nothing yet: no agent is listed, so name agents by RID'}")


def _shown_fields(finding: Finding) -> Iterator[str]:
    """All fields, but of an agent only its own: the rest stands in [defaults] already."""
    for name in finding.values:
        place, _, field = name.rpartition(".")
        own = not place.startswith("agents.") or field == "rid"
        if own or finding.origins[name] != finding.origins[f"defaults.{field}"]:
            yield name


def _row(left: str, origin: str, indent: int) -> Iterator[Text]:
    style = "dim" if origin == "default" else ""
    if len(left) < ORIGIN_AT and ORIGIN_AT + len(origin) <= WIDTH:
        yield Text(f"{left:<{ORIGIN_AT}}{origin}", style=style)
    elif len(left) + 2 + len(origin) <= WIDTH:
        yield Text(f"{left}  {origin}", style=style)
    else:
        yield Text(left, style=style)
        yield Text(" " * min(indent, max(4, WIDTH - len(origin))) + origin, style=style)


def _shown(value: Any) -> str:
    """A value as the file would say it."""
    match value:
        case None:
            return "none"
        case {"file": path}:
            return f"{{ file = {json.dumps(path)} }}"
        case float():
            return f"{value:g}" if value < 1e6 else f"{value:.0f}"
        case _:
            return json.dumps(value, ensure_ascii=False)
