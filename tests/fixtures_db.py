"""Databases for tests: each test that asks for `database_url` or `database` runs on SQLite and on PostgreSQL.

PostgreSQL is one server per test process, made by `initdb` in a temporary directory and spoken to over a Unix socket.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure
from zope.interface import implementer

from storage.database import Database, open_database

T = TypeVar("T")

SERVER_NAME = "test.example"


@implementer(IReactorFromThreads)
class Pump:
    """Stands in for the reactor where only a database needs one: `wait` runs what threads hand over."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()

    def callFromThread(self, callable: Callable[..., Any], *args: object, **kwargs: object) -> None:
        self._calls.put(lambda: callable(*args, **kwargs))

    def callInThread(self, callable: Callable[..., Any], *args: object, **kwargs: object) -> None:
        raise NotImplementedError("the database has its own threads")

    def getThreadPool(self) -> Any:
        raise NotImplementedError("the database has its own threads")

    def suggestThreadPoolSize(self, size: int) -> None:
        raise NotImplementedError("the database has its own threads")

    def wait(self, awaitable: Awaitable[T], timeout_s: float = 30) -> T:
        """The awaitable's result, or its exception."""
        deferred = (
            cast("Deferred[T]", awaitable)
            if isinstance(awaitable, Deferred)
            else Deferred.fromCoroutine(cast(Any, awaitable))
        )
        outcome: list[Any] = []
        deferred.addBoth(outcome.append)
        until = time.monotonic() + timeout_s
        while not outcome:
            self._calls.get(timeout=max(0.0, until - time.monotonic()))()
        if isinstance(outcome[0], Failure):
            outcome[0].raiseException()
        return cast(T, outcome[0])


@pytest.fixture
def pump() -> Pump:
    return Pump()


@pytest.fixture(params=["sqlite"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    return f"sqlite:///{tmp_path / 'test.db'}"


@pytest.fixture
def database(database_url: str, pump: Pump) -> Iterator[Database]:
    """An open database on a `Pump`."""
    opened = open_database(database_url, pump, server_name=SERVER_NAME)
    yield opened
    pump.wait(opened.close())
