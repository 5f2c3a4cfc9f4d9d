"""What a `postgresql://` URL says: where the server is, and which pool's part of it is meant.

Pure; a password is carried along and shown nowhere.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from session_pool.errors import ConfigError
from session_pool.stores.base import within

DRIVER_OPTIONS: Final = frozenset(
    ("host", "port", "user", "passfile", "sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl")
)
"""Options that the driver understands as `libpq` does; any other would become a server setting."""

_NAMESPACE: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True, repr=False)
class Address:
    """Where a store is.

    Attributes:
        dsn: for the driver; holds the password.
        where: host and database as they may be told to anybody.
        namespace: which pool's part of the database.
        begin: a store is made there where there is none.
    """

    dsn: str
    where: str
    namespace: str
    begin: bool = True

    def __repr__(self) -> str:
        return f"Address({self.where}, namespace={self.namespace})"


def address_of(url: str, realm: str = "") -> Address:
    """Read a URL.

    Raises:
        ConfigError: it cannot be meant; the text names the part and not its value.
    """
    if "#" in url:
        raise ConfigError(
            "store: the URL has a part after '#', which means nothing; remove it, or write a "
            "password's '#' as %23"
        )
    try:
        parts = urlsplit(url)
        _ = parts.port if "," not in parts.netloc else None  # raises for one that is no number
        options = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise ConfigError(
            "store: the postgresql:// URL cannot be read (is the port a number?); write "
            "postgresql://user:password@host:5432/database?namespace=name"
        ) from None
    names = [name for name, _ in options]
    unknown = sorted(set(names) - DRIVER_OPTIONS - {"namespace"})
    if unknown and "@" in parts.query:  # not named: they are of the password
        raise ConfigError(
            "store: the URL has a '?' before its '@'; percent-encode it in a password, as %3F"
        )
    if unknown:
        known = ", ".join(("namespace", *sorted(DRIVER_OPTIONS)))
        raise ConfigError(f"store: no option {', '.join(unknown)} in the URL; there are {known}")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"store: the option {', '.join(twice)} is in the URL twice; keep one")
    given = dict(options)
    namespace = given.pop("namespace", "default")
    if not _NAMESPACE.fullmatch(namespace):
        raise ConfigError(
            "store: the option namespace must be 1 to 64 letters, digits, '-', '_' or '.'"
        )
    database = parts.path.strip("/")
    if not database or "/" in database:
        raise ConfigError("store: the URL must name one database, as in postgresql://host/database")
    host = parts.netloc.rpartition("@")[2] or given.get("host", "localhost")
    dsn = urlunsplit(("postgresql", parts.netloc, parts.path, urlencode(given), ""))
    return Address(dsn, f"{host}/{database}", within(namespace, realm))
