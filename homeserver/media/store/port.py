"""The seam between people's files and where their bytes lie.

A file is written once, whole, under a name that nothing else ever had, and never changed. All functions block: they are
called in threads (`homeserver.media.store.reading` for what is sent to clients).

    StoreFailed         the store could not do it; the message says why
    └── NotStored       there is no such file
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

INCOMING = "incoming"
"""The folder for what is on its way, beside the folders of `LocalStore`; no name of a file begins with it."""


class StoreFailed(OSError):
    """The store could not do what was asked."""


class NotStored(StoreFailed, FileNotFoundError):
    """There is no such file."""


class Reading(Protocol):
    """A piece of a file that is being read, from its beginning to its end."""

    def read(self, size: int) -> bytes:
        """The next bytes, up to `size`; empty at the end. Raises OSError."""

    def read_ready(self, size: int) -> bytes | None:
        """As `read`, if that takes no waiting; None otherwise. The one function that may be called anywhere."""

    def close(self) -> None: ...


class Store(Protocol):
    """Keeps files by name. Names are made by `new_name`."""

    def put(self, name: str, file: Path) -> None:
        """Take a file in: it is durable afterwards, and gone from its place. Raises StoreFailed."""

    def open(self, name: str, start: int, length: int) -> Reading:
        """Read a piece of a file. Raises NotStored or StoreFailed."""

    def as_file(self, name: str) -> AbstractContextManager[Path]:
        """The file as one that programs can open, for as long as the context lasts. Raises NotStored, StoreFailed."""

    def delete(self, names: Sequence[str]) -> None:
        """Be rid of files; those that are not there are gone already. Raises StoreFailed."""

    def names(self) -> Iterator[str]:
        """Everything that is kept. Raises StoreFailed."""

    def address(self, name: str, headers: Mapping[str, str]) -> str | None:
        """Where anybody can fetch a file for some minutes, with these headers (`Content-Type`, `Content-Disposition`)
        in the answer; None where there is no such place. The one other function that does not block."""


def new_name(folder: str) -> str:
    """A name that nothing has yet, such as `local/3f/90…`: no folder gets too full."""
    token = secrets.token_hex(20)
    return f"{folder}/{token[:2]}/{token[2:]}"
