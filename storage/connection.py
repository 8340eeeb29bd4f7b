"""What the pools need of a database: connections whose cursors look alike. `sqlite` and `postgresql` provide it."""

from __future__ import annotations

from typing import Protocol

from storage.ports import Cursor, Dialect


class Connection(Protocol):
    """One connection, used by one thread at a time, with at most one transaction under way."""

    def begin(self) -> Cursor:
        """Start a transaction. Its reads all see the same moment."""

    def commit(self) -> None:
        """End it durably. Raises CommitUnknown where the outcome cannot be known."""

    def rollback(self) -> None:
        """End it without a trace. Never raises: a connection that cannot do it is `broken` afterwards."""

    def close(self) -> None: ...

    @property
    def broken(self) -> bool:
        """Nothing more can be done with it: open another."""


class Engine(Protocol):
    """One kind of database at one address."""

    @property
    def dialect(self) -> Dialect: ...

    def open_writer(self) -> Connection:
        """The one connection that writes. Raises DatabaseBusy while another process holds it."""

    def open_reader(self) -> Connection: ...

    def explain(self, error: Exception) -> Exception:
        """The error of this package that a driver's error stands for, or the error itself."""

    def keep_copy(self, version: int) -> None:
        """Before an upgrade from schema `version`: keep a copy, where the database is a file of ours."""

    def close(self) -> None:
        """Let go of what `open_writer` holds beyond its connection."""
