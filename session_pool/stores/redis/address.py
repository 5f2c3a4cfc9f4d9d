"""A `redis://` or `rediss://` URL, taken apart and checked.

Knows what may stand in a URL and nothing of what is done with it. The password is in no text and no
repr that leaves this room (B29).
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from session_pool.errors import ConfigError
from session_pool.stores.base import within

PORT: Final = 6379
NAMESPACE: Final = re.compile(r"[A-Za-z0-9._-]{1,100}")

OPTIONS: Final = (
    "namespace", "cluster", "unix", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile",
)  # fmt: skip
_FLAGS: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@dataclass(frozen=True)
class Address:
    """Where a server is, and how to come in.

    Attributes:
        host, port: of the server, or of one node of a cluster.
        unix: path of a socket, in place of both.
        database: its number.
        cluster: True says that it is a cluster, False that it is none, None asks the server.
        tls: what `rediss://` connects with; None for a plain connection.
        namespace: of this pool among several in one database.
        begin: a store is begun there where there is none.
    """

    host: str
    port: int
    database: int
    namespace: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    unix: str | None = None
    cluster: bool | None = None
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    begin: bool = True

    @property
    def shown(self) -> str:
        """The server, as errors name it: without user and password."""
        if self.unix is not None:
            return f"redis socket {self.unix}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'redis' if self.tls is None else 'rediss'}://{host}:{self.port}"


def address_of(url: str, realm: str = "") -> Address:
    """What a URL says.

    Args:
        url: `redis[s]://[[user]:password@]host[:port][/database][?option=value&…]`.

    Raises:
        ConfigError: it cannot be meant; the message names the part and the fix.
    """
    parts = urlsplit(url)
    if parts.fragment:
        raise ConfigError(
            "store: the redis URL has a '#'; percent-encode it as %23 where it is meant"
        )
    try:
        port = parts.port or PORT
        host = parts.hostname or "localhost"
    except ValueError:
        raise ConfigError(
            "store: the host or port of the redis URL cannot be read; write redis://host:6379, and "
            "percent-encode what is special in a password"
        ) from None
    options = _options(parts)
    cluster = options.get("cluster")
    if cluster is not None and cluster.lower() not in _FLAGS:
        raise ConfigError("store: cluster= of the redis URL must be true or false")
    address = Address(
        host=host,
        port=port,
        database=_database(parts),
        namespace=options.get("namespace", "default"),
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        unix=options.get("unix"),
        cluster=_FLAGS[cluster.lower()] if cluster is not None else None,
        tls=_tls(parts.scheme, options),
    )
    if not NAMESPACE.fullmatch(address.namespace):
        raise ConfigError(
            "store: namespace= of the redis URL must be 1 to 100 letters, digits, '-', '_' or '.'"
        )
    if address.cluster and address.database:
        raise ConfigError("store: a cluster has no database but 0; remove the number from the URL")
    return replace(address, namespace=within(address.namespace, realm))


def _options(parts: SplitResult) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in OPTIONS and "@" in parts.query:  # not named: it is of the password
            raise ConfigError(
                "store: the redis URL has a '?' before its '@'; percent-encode it in a password, "
                "as %3F"
            )
        if name not in OPTIONS:
            raise ConfigError(
                f"store: the redis URL has an unknown option {name!r}; there are "
                f"{', '.join(OPTIONS)}"
            )
        if name in found or not value:
            raise ConfigError(f"store: {name}= of the redis URL must be given once, with a value")
        found[name] = value
    if "unix" in found and (parts.hostname or parts.scheme == "rediss"):
        raise ConfigError(
            "store: unix= of the redis URL is a socket's path; write redis://?unix=/path, without "
            "host and TLS"
        )
    return found


def _database(parts: SplitResult) -> int:
    text = parts.path.strip("/")
    if text and not (text.isascii() and text.isdigit()):
        raise ConfigError(
            "store: after the host the redis URL takes the number of a database, as in "
            "redis://host:6379/0"
        )
    return int(text or 0)


def _tls(scheme: str, options: dict[str, str]) -> ssl.SSLContext | None:
    named = [name for name in OPTIONS if name.startswith("ssl_") and name in options]
    if scheme != "rediss":
        if named:
            raise ConfigError(f"store: {named[0]}= means something with rediss:// only")
        return None
    try:
        context = ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
        if "ssl_certfile" in options:
            context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"))
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"store: a certificate that the redis URL names ({', '.join(named)}) cannot be "
            f"read: {error.strerror or type(error).__name__}"
        ) from error
    return context
