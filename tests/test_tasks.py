"""Background work: it is kept, its failures are told, and it ends with the server."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import structlog
from structlog.testing import capture_logs
from twisted.internet.defer import CancelledError, Deferred

from homeserver.tasks import Tasks


async def wait(key: Deferred[str], heard: list[str]) -> None:
    try:
        heard.append(await key)
    except CancelledError:
        heard.append("cancelled")
        raise


def finish(work: Coroutine[Deferred[Any], Any, None]) -> list[Any]:
    outcome: list[Any] = []
    Deferred.fromCoroutine(work).addBoth(outcome.append)
    return outcome


def test_work_is_kept_until_it_is_done() -> None:
    tasks, key, heard = Tasks(), Deferred[str](), list[str]()
    tasks.spawn("waiting", wait(key, heard))
    assert tasks.names == ["waiting"]
    key.callback("done")
    assert (heard, tasks.names) == (["done"], [])


def test_work_that_is_done_at_once() -> None:
    tasks, key, heard = Tasks(), Deferred[str](), list[str]()
    key.callback("done")
    tasks.spawn("quick", wait(key, heard))
    assert (heard, tasks.names) == (["done"], [])


def test_failures_are_told() -> None:
    async def fail() -> None:
        raise ValueError("no luck")

    structlog.reset_defaults()
    tasks = Tasks()
    with capture_logs() as logs:
        tasks.spawn("failing", fail())
    assert [(log["event"], log["task"], log["log_level"]) for log in logs] == [("task failed", "failing", "error")]
    assert not tasks.names


def test_closing_ends_everything() -> None:
    tasks, key, heard = Tasks(), Deferred[str](), list[str]()
    tasks.spawn("waiting", wait(key, heard))
    with capture_logs() as logs:
        assert finish(tasks.close()) == [None]
    assert (heard, tasks.names, logs) == (["cancelled"], [], [])
    tasks.spawn("too late", wait(Deferred(), heard))
    assert (heard, tasks.names) == (["cancelled"], [])
    assert finish(tasks.close()) == [None]


def test_closing_waits_for_those_who_tidy_up() -> None:
    tasks, tidied = Tasks(), Deferred[None]()

    async def tidy() -> None:
        try:
            await Deferred[None]()
        finally:
            await tidied

    tasks.spawn("tidying", tidy())
    outcome = finish(tasks.close())
    assert not outcome
    tidied.callback(None)
    assert outcome == [None]
