"""Reads: a few threads with a connection each, started when they are first needed.

Twisted's own thread pool wakes the reactor once per call and keeps its workers behind a lock; this one puts finished
work in a deque, so that reads which end together come back with one wake-up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

from storage.connection import Connection, Engine
from storage.errors import ConnectionLost, DatabaseClosed
from storage.ports import Cursor
from storage.writer import FromThread

T = TypeVar("T")

Job = tuple["Deferred[Any]", Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class ReaderPool:
    """All methods are for the reactor's thread; those of the workers start with `_thread_`."""

    def __init__(self, engine: Engine, from_thread: FromThread, most_threads: int) -> None:
        self._engine = engine
        self._from_thread = from_thread
        self._most_threads = most_threads
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._finished: deque[tuple[Deferred[Any], Any, Exception | None]] = deque()
        self._waking = False
        self._under_way = 0
        self._threads: list[Thread] = []
        self._closing: Deferred[None] | None = None

    def run(self, function: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Deferred[T]:
        """Call `function(cursor, *args, **kwargs)` in a thread, inside one read-only transaction."""
        answer: Deferred[T] = Deferred()
        if self._closing is not None:
            answer.errback(DatabaseClosed("the database is closed"))
            return answer
        self._under_way += 1
        if self._under_way > len(self._threads) and len(self._threads) < self._most_threads:
            thread = Thread(target=self._thread_main, name=f"storage-reader-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._jobs.put((answer, function, args, kwargs))
        return answer

    def close(self) -> Deferred[None]:
        """Finish what was asked, then stop."""
        if self._closing is None:
            self._closing = Deferred()
            if not self._under_way:
                self._stop()
        return self._closing

    def _drain(self) -> None:
        self._waking = False
        while self._finished:
            answer, result, error = self._finished.popleft()
            self._under_way -= 1
            if error is None:
                answer.callback(result)
            else:
                answer.errback(error)
        if self._closing is not None and not self._under_way and not self._closing.called:
            self._stop()

    def _stop(self) -> None:
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        assert self._closing is not None
        self._closing.callback(None)

    # ------------------------------------------------------------------------------------- in a worker's thread

    def _thread_main(self) -> None:
        connection: Connection | None = None
        while (job := self._jobs.get()) is not None:
            answer, function, args, kwargs = job
            result: Any = None
            failed: Exception | None = None
            try:
                if connection is None or connection.broken:
                    connection = self._engine.open_reader()
                try:
                    result = self._thread_read(connection, function, args, kwargs)
                except ConnectionLost:
                    connection = self._engine.open_reader()
                    result = self._thread_read(connection, function, args, kwargs)
            except Exception as error:
                failed = error
            self._finished.append((answer, result, failed))
            del job, answer, function, args, kwargs, result, failed
            if not self._waking:
                self._waking = True
                self._from_thread(self._drain)
        if connection is not None:
            connection.close()

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
