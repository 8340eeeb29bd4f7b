"""Reads: a few at a time, each with a connection of its own, opened when it is first needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail

from federation.threads import Workers
from storage.connection import Connection, Engine
from storage.errors import ConnectionLost, DatabaseClosed
from storage.ports import Cursor

T = TypeVar("T")


class ReaderPool:
    """All methods are for the reactor's thread; those of the workers start with `_thread_`."""

    def __init__(self, engine: Engine, workers: Workers) -> None:
        self._engine = engine
        self._workers = workers
        self._idle: list[Connection] = []
        """As many as ever were in use at once. The one that was used last is taken first: it has most in its cache."""
        self._closing: Deferred[None] | None = None

    def run(self, function: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Deferred[T]:
        """Call `function(cursor, *args, **kwargs)` in a thread, inside one read-only transaction."""
        if self._closing is not None:
            return fail(DatabaseClosed("the database is closed"))
        return self._workers.run(self._thread_run, function, args, kwargs)

    def close(self) -> Deferred[None]:
        """Finish what was asked, then stop."""
        if self._closing is None:
            self._closing = self._workers.close()
            self._closing.addCallback(self._hang_up)
        return self._closing

    def _hang_up(self, result: None) -> None:
        for connection in self._idle:
            connection.close()

    # ------------------------------------------------------------------------------------- in a worker's thread

    def _thread_run(self, function: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._engine.open_reader()
        try:
            if connection.broken:
                connection = self._engine.open_reader()
            try:
                return self._thread_read(connection, function, args, kwargs)
            except ConnectionLost:
                connection = self._engine.open_reader()
                return self._thread_read(connection, function, args, kwargs)
        finally:
            self._idle.append(connection)

    def _thread_read(
        self, connection: Connection, function: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> T:
        cursor: Cursor = connection.begin()
        try:
            value = function(cursor, *args, **kwargs)
            connection.commit()
        except BaseException:
            connection.rollback()
            raise
        return value
