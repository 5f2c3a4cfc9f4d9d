"""Secrets that live in files: read when needed, read again when the file changes.

This room knows paths and text, and nothing of what the text opens. The text never reaches a repr
or an error (B29).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from session_pool.errors import ConfigError

MASK: Final = "***"


class SecretFile:
    """One secret in one file, such as a mounted Kubernetes or Docker secret.

    Args:
        path: the file. It is looked at on each `read`, not here, so that a secret that is mounted
            late is no mistake.
    """

    __slots__ = ("_path", "_seen", "_text")

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._seen: tuple[int, int, int] | None = None
        self._text = ""

    @property
    def path(self) -> Path:
        """Where the secret lies."""
        return self._path

    def read(self) -> str:
        """Return the secret, stripped of white space around it.

        The file is read again when its modification time, size or inode is another: editors write
        in place, orchestrators swap a link, and both are seen. The look comes before the reading,
        so a change between the two is only read twice, never missed.

        Raises:
            ConfigError: the file cannot be read, is not UTF-8, or is empty.
        """
        try:
            found = self._path.stat()
            seen = (found.st_mtime_ns, found.st_size, found.st_ino)
            if seen != self._seen:
                text = self._path.read_text(encoding="utf-8").strip()
                if not text:
                    raise ConfigError(
                        f"the secret file {self._path} is empty; write the secret into it"
                    )
                self._seen, self._text = seen, text
        except OSError as error:
            raise ConfigError(
                f"the secret file {self._path} cannot be read ({error.strerror}); "
                "check the path, and that this user may read it"
            ) from error
        except UnicodeDecodeError:
            # Not chained: the exception carries the bytes it stumbled over.
            raise ConfigError(
                f"the secret file {self._path} is not UTF-8 text; write the bare secret into it"
            ) from None
        return self._text

    def __repr__(self) -> str:
        return f"SecretFile({str(self._path)!r})"


def reveal(secret: str | SecretFile) -> str:
    """Return the text of a secret that is given or lies in a file.

    Raises:
        ConfigError: it lies in a file that `SecretFile.read` refuses.
    """
    return secret.read() if isinstance(secret, SecretFile) else secret


def masked(secret: str | SecretFile) -> str:
    """Return what a repr may show of a secret: its file, or a mask."""
    return repr(secret) if isinstance(secret, SecretFile) else repr(MASK)
