"""What may stand in a configuration: its sections, their fields, and what a text means there.

The meaning of most fields is `policy`'s; the rest is declared here. This room knows types and
texts; where a value comes from, which of several wins and what becomes of it, `config` knows.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, PlainValidator, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

from session_pool.errors import ConfigError
from session_pool.foundry.address import check_url
from session_pool.foundry.auth import StaticToken
from session_pool.foundry.rid import check_agent_rid
from session_pool.foundry.secret import MASK, SecretFile
from session_pool.policy import AgentPolicy, Options, RequestLimits


def _secret(value: object) -> str | SecretFile | None:
    match value:
        case None | SecretFile():
            return value
        case str() if value.strip():
            return value
        case {"file": str() as path, **rest} if path.strip() and not rest:
            return SecretFile(path)
    raise ValueError('give the text itself, or { file = "/run/secrets/name" }')


_Secret = Annotated[str | SecretFile | None, PlainValidator(_secret)]


class FoundryOptions(Options):
    """The section [foundry]: where the stack is, and whose token to use."""

    allow_http: bool = False  # stands before the url, which is judged by it
    url: str
    token: _Secret = Field(default=None, repr=False)
    client_id: str | None = Field(default=None, min_length=1)
    client_secret: _Secret = Field(default=None, repr=False)
    scopes: list[str] | None = None

    @field_validator("url")
    @classmethod
    def _an_address(cls, url: str, so_far: ValidationInfo) -> str:
        return check_url(url, allow_http=so_far.data.get("allow_http", True))

    @field_validator("token")
    @classmethod
    def _for_a_header(cls, token: str | SecretFile | None) -> str | SecretFile | None:
        if token is not None:
            StaticToken(token)  # refuses what no header can carry
        return token


class PoolOptions(Options):
    """The section [pool]: where the state is kept, and whose the sessions are."""

    store: str = Field(default="memory://", min_length=1, repr=False)
    sole_owner: bool = False

    @field_validator("store")
    @classmethod
    def _a_url(cls, store: str) -> str:
        try:
            _ = urlsplit(store).port  # that is when it is read
        except ValueError:
            # Not quoted: a password may stand in it, and be what cannot be read.
            raise ValueError(
                "cannot be read as a URL; write odd characters of user and password in percent, "
                "as %5B for ["
            ) from None
        return store


class ListedAgent(Options):
    """What a section [agents.NAME] has beside an `AgentPolicy`."""

    rid: Annotated[str, AfterValidator(check_agent_rid)]


FIELDS: Final[Mapping[str, Mapping[str, FieldInfo]]] = {
    "foundry": FoundryOptions.model_fields,
    "pool": PoolOptions.model_fields,
    "defaults": AgentPolicy.model_fields,
    "agents": ListedAgent.model_fields | AgentPolicy.model_fields,
    "limits": RequestLimits.model_fields,
}
"""The fields that there are; those of `agents` stand under each agent's name."""


def document(path: Path) -> dict[str, Any]:
    """Return what a file says, unjudged.

    Raises:
        ConfigError: it cannot be read, is not UTF-8, or is no TOML (with the line).
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        fix = "check the path, and that this user may read it"
        raise ConfigError(f"file {path} cannot be read ({error.strerror}); {fix}") from error
    except UnicodeDecodeError:
        # Neither this nor the next is chained: they may carry the text, and with it a secret.
        raise ConfigError(f"file {path} is not UTF-8 text; save it as UTF-8") from None
    try:
        return tomllib.loads(text)
    except ValueError as error:
        end = f"at line {len(text.splitlines())}, the end"
        reason = str(error).replace("at end of document", end)
        raise ConfigError(f"file {path} is not TOML: {reason}") from None


class Text(str):
    """The text of a variable, which may stand for a TOML value."""

    __slots__ = ()


def meant(value: Any, section: str, field: str) -> Any:
    """Return what was meant, where TOML or a variable cannot say it plainly.

    A `Text` is read as a TOML value if it is one, unless the field takes a text and the value
    would be a number, a date or a truth: a token of digits and the version 1.10 are texts. TOML has
    no null, so the word "none" stands for it in the fields where None may stand.

    Args:
        value: as read.
        section, field: where it stands; both known.
    """
    kind = FIELDS[section][field].annotation
    if isinstance(value, Text):
        value = str(value)
        with suppress(ValueError, RecursionError):
            parsed = tomllib.loads(f"it = {value}")
            plain = _takes(kind, str) and not isinstance(parsed["it"], str | list | dict)
            if len(parsed) == 1 and not plain:
                value = parsed["it"]
    return None if value == "none" and _takes(kind, type(None)) else value


def _takes(kind: Any, wanted: type) -> bool:
    if get_origin(kind) is Literal:
        return False
    return kind is wanted or any(_takes(part, wanted) for part in get_args(kind))


def shown(section: str, field: str, value: Any) -> Any:
    """Return what may be shown of a value: secrets are masked, their files named (B29).

    Args:
        section, field: where it stands; both known.
        value: as it is meant.
    """
    if isinstance(value, SecretFile):
        return {"file": str(value.path)}
    if section == "pool" and field == "store":
        return without_secrets(value)
    secret = value is not None and not FIELDS[section][field].repr
    return MASK if secret else value


_PRIVATE: Final = re.compile(r"pass|pwd|secret|token|key|auth", re.IGNORECASE)


def without_secrets(url: str) -> str:
    """Return a store's URL with its password masked, wherever that stands (B29).

    Rather too much is masked than too little: a password may contain "/", "?" and "@", unescaped.
    """
    scheme, slashes, rest = url.partition("://")
    if not slashes:
        return MASK
    if not rest.startswith("/"):  # else a path on this machine: nobody signs in there
        login, at, host = rest.rpartition("@")
        user, colon, _ = login.partition(":")
        rest = (f"{user}:{MASK}" if colon else MASK if at else "") + at + host
    place, mark, query = rest.partition("?")
    options = []
    for option in query.split("&"):
        name, equals, _ = option.partition("=")
        options.append(f"{name}={MASK}" if equals and _PRIVATE.search(name) else option)
    return f"{scheme}://{place}{mark}{'&'.join(options)}"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the advice for a name that is not among the known ones."""
    if close := get_close_matches(name.lower(), known, 1):
        return f"did you mean {close[0]}?"
    homes = [section for section, fields in FIELDS.items() if name in fields]
    return f"it belongs to [{homes[0]}]" if homes else f"there are {', '.join(known)}"
