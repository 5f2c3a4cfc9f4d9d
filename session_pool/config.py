"""From a file and the environment to the arguments of a pool: arguments over environment over file.

`load` reads everything, tells all mistakes at once (one line each: section.field, where it came
from, the fix), and says of each field where its value comes from. The meaning of the fields stands
in `policy`, and for all of them in `config/session-pool.example.toml`. This room knows text,
options and credentials; it connects to nothing, opens no secret's file and logs nothing. What it
tells of values is masked (B29).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeVar

from session_pool import sections
from session_pool.agent import Agent
from session_pool.errors import ConfigError
from session_pool.foundry.api import Api
from session_pool.foundry.auth import Auth, ClientCredentials, StaticToken
from session_pool.policy import AgentPolicy, Options, RequestLimits

_O = TypeVar("_O", bound=Options)
_Path = tuple[str, ...]  # ("foundry", "url"), ("agents", "orders", "rid")


@dataclass(frozen=True, slots=True)
class Settings:
    """The arguments of a pool, and where each value came from.

    Attributes:
        origins: "section.field" to "argument", "environment NAME", "file PATH" or "default"; what
            an agent does not set itself has the origin of `defaults.<field>`.
        values: "section.field" to the effective value, with secrets masked: fit to be shown.
        file: the file that was read, or None.
    """

    url: str
    auth: Auth | None
    store: str = field(repr=False)  # a database's URL may carry its password (B29)
    policy: AgentPolicy
    agents: Mapping[str, Agent]
    limits: RequestLimits
    sole_owner: bool
    allow_http: bool
    api: Api | None
    origins: Mapping[str, str] = field(repr=False)
    values: Mapping[str, Any] = field(repr=False)
    file: str | None

    @property
    def arguments(self) -> dict[str, Any]:
        """All but what is told about them, ready for `SessionPool(**arguments)`."""
        return {it.name: getattr(self, it.name) for it in fields(self) if it.name not in _TOLD}


def load(
    path: str | Path | None = None, environ: Mapping[str, str] | None = None, **overrides: Any
) -> Settings:
    """Read file and environment into the arguments of a pool (`interfaces`, "Configuration").

    Args:
        path: a TOML file; None takes the one that `SESSION_POOL_CONFIG` names, else none.
        environ: the environment; None is the process's own. An empty variable is not set, and
            `SESSION_POOL__…` goes before `FOUNDRY_…`.
        overrides: arguments of `SessionPool`, each as a whole: `policy` replaces all of [defaults],
            `token` or `auth` all credentials, an agent the section of its name. None is not given.

    Raises:
        ConfigError: the file cannot be read or is no TOML; or there are mistakes, told all
            together. No secret is in the message (B29).
    """
    return _read(path, environ, overrides).settings(overrides.get("auth"), overrides.get("api"))


def load_store(
    path: str | Path | None = None,
    environ: Mapping[str, str] | None = None,
    store: str | None = None,
) -> str:
    """Read where the state is kept, and nothing else: no stack and no credentials are needed.

    Args:
        path, environ: as for `load`.
        store: the argument, which goes over both.

    Returns:
        The store's URL; it may carry a password.

    Raises:
        ConfigError: the file cannot be read, it or the environment has names that do not exist, or
            the store is none.
    """
    return _read(path, environ, {"store": store}).store()


def _read(
    path: str | Path | None, environ: Mapping[str, str] | None, overrides: Mapping[str, Any]
) -> _Reading:
    environ = os.environ if environ is None else environ
    path = path or environ.get("SESSION_POOL_CONFIG", "").strip() or None
    reading = _Reading(None if path is None else str(path))
    if path is not None:
        reading.layer(sections.document(Path(path)), f"file {path}")
    reading.environment(environ)
    reading.arguments({name: value for name, value in overrides.items() if value is not None})
    return reading


_PREFIX: Final = "SESSION_POOL__"
_SHARED: Final = {  # read by other tools for Foundry too
    "FOUNDRY_HOSTNAME": "url",
    "FOUNDRY_TOKEN": "token",
    "FOUNDRY_CLIENT_ID": "client_id",
    "FOUNDRY_CLIENT_SECRET": "client_secret",
}
_TOLD: Final = ("origins", "values", "file")
_ARGUMENTS: Final = ("token", *(it.name for it in fields(Settings) if it.name not in _TOLD))
_CREDENTIALS: Final = ("token", "client_id", "client_secret", "scopes")


class _Found(NamedTuple):
    value: Any
    origin: str


class _Reading:
    """What was read so far, later layers over earlier ones, and what is wrong with it."""

    def __init__(self, file: str | None) -> None:
        self.file = file
        self.found: dict[_Path, _Found] = {}
        self.mistakes: list[str] = []

    def mistake(self, path: _Path, text: str, origin: str | None = None) -> None:
        if origin is None and path in self.found:
            origin = self.found[path].origin
        self.mistakes.append(f"{_dotted(path)}{f' ({origin})' if origin else ''}: {text}")

    def unknown(self, kind: str, path: _Path, known: Iterable[str], origin: str) -> None:
        self.mistake(path, f"no such {kind}; {sections.nearest(path[-1], known)}", origin)

    def under(self, *place: str) -> dict[str, Any]:
        return {path[-1]: it.value for path, it in self.found.items() if path[:-1] == place}

    def agents(self) -> list[str]:
        return [path[1] for path in self.found if path[0] == "agents" and path[2] == "rid"]

    def forget(self, *paths: _Path) -> None:
        keep = self.found.items()
        self.found = {path: it for path, it in keep if not {path, path[:-1]} & set(paths)}

    # -------------------------------------------------------------------------------- the layers

    def layer(self, document: Mapping[str, Any], origin: str) -> None:
        """Lay the fields of a document, which have one origin, over what is there."""
        for section, content in document.items():
            if section not in sections.FIELDS:
                self.unknown("section", (section,), sections.FIELDS, origin)
            elif section == "agents" and isinstance(content, dict):
                for name, table in content.items():
                    self._table((section, name), table, origin)
            else:
                self._table((section,), content, origin)

    def _table(self, place: _Path, table: Any, origin: str) -> None:
        known = sections.FIELDS[place[0]]
        if not isinstance(table, dict | Options):
            self.mistake(place, f"has to be a section, [{_dotted(place)}]", origin)
            return
        if "rid" in known:  # an agent is listed by its section, be that empty
            self.found.setdefault((*place, "rid"), _Found(None, origin))
        for name, value in dict(table).items():
            if name in known:
                meant = sections.meant(value, place[0], name)
                self.found[*place, name] = _Found(meant, origin)
            else:
                self.unknown("field", (*place, name), known, origin)

    def environment(self, environ: Mapping[str, str]) -> None:
        for name, short in _SHARED.items():
            if text := environ.get(name, "").strip():
                bare = short == "url" and "://" not in text
                value = sections.Text(f"https://{text}" if bare else text)
                self.layer({"foundry": {short: value}}, f"environment {name}")
        # Names of variables have no dashes and dots, names of agents may.
        listed = self.agents()
        agents = {re.sub(r"\W", "_", name).lower(): name for name in listed}
        agents |= {name.lower(): name for name in listed}
        setters: dict[_Path, str] = {}
        for name in sorted(environ):
            text = environ[name].strip()
            if not text or not name.upper().startswith(_PREFIX):
                continue
            path = tuple(name[len(_PREFIX) :].lower().split("__"))
            if path[0] == "agents" and len(path) > 1:
                path = ("agents", agents.get(path[1], path[1]), *path[2:])
            origin = f"environment {name}"
            if setters.setdefault(path, name) != name:
                self.mistake(path, f"set by {setters[path]} too; take one away", origin)
            nested: Any = sections.Text(text)
            for key in reversed(path):
                nested = {key: nested}
            self.layer(nested, origin)

    def arguments(self, given: Mapping[str, Any]) -> None:
        for name in given.keys() - set(_ARGUMENTS):
            self.unknown("argument", (name,), _ARGUMENTS, "argument")
        if "token" in given and "auth" in given:
            self.mistake(("auth",), "given together with token; give one of them", "argument")
        if "token" in given or "auth" in given:
            self.forget(*(("foundry", name) for name in _CREDENTIALS))
        agents: dict[str, Any] = {}
        for name, agent in given.get("agents", {}).items():
            self.forget(("agents", name))
            if isinstance(agent, Agent):
                agents[name] = {"rid": agent.rid, **dict(agent.policy or {})}
            else:
                self.mistake(("agents", name), "has to be an Agent(rid)", "argument")
        nested = {
            "foundry": {it: given[it] for it in ("url", "token", "allow_http") if it in given},
            "pool": {it: given[it] for it in ("store", "sole_owner") if it in given},
            "defaults": given.get("policy", {}),
            "agents": agents,
            "limits": given.get("limits", {}),
        }
        self.layer(nested, "argument")

    # ----------------------------------------------------------------------------- the judgement

    def settings(self, auth: Auth | None, api: Api | None) -> Settings:
        """Make the arguments of it, or raise with all mistakes."""
        foundry = self._options(sections.FoundryOptions, ("foundry",), self.under("foundry"))
        if auth is None:
            auth = self._credentials(foundry, needed=api is None)
        pool = self._options(sections.PoolOptions, ("pool",), self.under("pool"))
        policy = self._options(AgentPolicy, ("defaults",), self.under("defaults"))
        agents = {name: self._agent(name, sound=policy is not None) for name in self.agents()}
        limits = self._options(RequestLimits, ("limits",), self.under("limits"))
        if self.mistakes or not (foundry and pool and policy and limits):
            raise ConfigError("\n".join(self.mistakes))
        listed = {name: it for name, it in agents.items() if it}
        effective: dict[_Path, Mapping[str, Any]] = {
            ("foundry",): dict(foundry),
            ("pool",): dict(pool),
            ("defaults",): dict(policy),
            **{
                ("agents", name): {"rid": it.rid, **dict(it.policy or policy)}
                for name, it in listed.items()
            },
            ("limits",): dict(limits),
        }
        return Settings(
            url=foundry.url,
            auth=auth,
            store=pool.store,
            policy=policy,
            agents=MappingProxyType(listed),
            limits=limits,
            sole_owner=pool.sole_owner,
            allow_http=foundry.allow_http,
            api=api,
            origins=MappingProxyType(self._origins(effective)),
            values=MappingProxyType(
                {
                    _dotted((*place, name)): sections.shown(place[0], name, value)
                    for place, section in effective.items()
                    for name, value in section.items()
                }
            ),
            file=self.file,
        )

    def store(self) -> str:
        """The store's URL alone, or raise with the mistakes in names and in [pool]."""
        pool = self._options(sections.PoolOptions, ("pool",), self.under("pool"))
        if self.mistakes or pool is None:
            raise ConfigError("\n".join(self.mistakes))
        return pool.store

    def _agent(self, name: str, *, sound: bool) -> Agent | None:
        place = ("agents", name)
        own = self.under(*place)
        rid = own.pop("rid")
        listed = self._options(sections.ListedAgent, place, {} if rid is None else {"rid": rid})
        policy = None
        if own:
            # Over defaults that are faulty themselves, only its own fields can be judged.
            only = () if sound else own.keys()
            policy = self._options(AgentPolicy, place, self.under("defaults") | own, only)
        return Agent(listed.rid, policy) if listed else None

    def _options(
        self, kind: type[_O], place: _Path, values: Mapping[str, Any], only: Iterable[str] = ()
    ) -> _O | None:
        """The options of a section; or None, and the mistakes, with `only` those of its fields."""
        try:
            return kind(**values)
        except ConfigError as error:
            for line in str(error).splitlines():
                where, _, text = line.removeprefix(kind.__name__).partition(": ")
                name = where.removeprefix(".").partition(".")[0]
                path = (*place, name) if name else place
                if text == "Field required":
                    shared: dict[_Path, str] = {
                        ("foundry", short): name for name, short in _SHARED.items()
                    }
                    variable = _PREFIX + re.sub(r"\W", "_", "__".join(path)).upper()
                    variable = shared.get(path, variable)
                    text = f"missing; set it in [{_dotted(place)}], or as {variable}"
                for start in ("Value error, ", f"{name} ", "agent "):
                    text = text.removeprefix(start)
                if not only or name in only:
                    self.mistake(path, text)
            return None

    def _credentials(self, foundry: sections.FoundryOptions | None, *, needed: bool) -> Auth | None:
        found = self.under("foundry")
        given = [name for name in _CREDENTIALS if found.get(name) is not None]
        others = " and ".join(
            f"{name} ({self.found['foundry', name].origin})" for name in given if name != "token"
        )
        if not given and needed:
            fix = "set token (FOUNDRY_TOKEN), or client_id and client_secret (FOUNDRY_CLIENT_ID, …)"
            self.mistake(("foundry", "token"), f"no credentials; {fix}")
        elif "token" in given and others:
            fix = "keep the token or the client credentials"
            self.mistake(("foundry", "token"), f"given together with {others}; {fix}")
        for name in ("client_id", "client_secret"):
            if others and not {name, "token"} & set(given):
                fix = f"set it, or FOUNDRY_{name.upper()}"
                self.mistake(("foundry", name), f"missing, while there is {others}; {fix}")
        if self.mistakes or foundry is None:
            return None
        if foundry.client_id is not None and foundry.client_secret is not None:
            return ClientCredentials(foundry.client_id, foundry.client_secret, foundry.scopes or ())
        return None if foundry.token is None else StaticToken(foundry.token)

    def _origins(self, effective: Mapping[_Path, Mapping[str, Any]]) -> dict[str, str]:
        origins = {}
        for place, section in effective.items():
            for name in section:
                inherited = self.found.get(("defaults", name), _Found(None, "default"))
                origins[_dotted((*place, name))] = self.found.get((*place, name), inherited).origin
        return origins


def _dotted(path: _Path) -> str:
    """A path as TOML writes it: names that are not bare are quoted, so a line stays a line."""
    return ".".join(it if re.fullmatch(r"[\w-]+", it) else repr(it) for it in path)
