"""Real servers for tests: processes of `python -m homeserver run`, spoken to over HTTP as anybody else would.

    def test_something(database_url: str, start_server: StartServer) -> None:
        server = start_server(database=database_url)         # its own, in a fresh directory
        alice = server.register("alice")
        alice.call("POST", "/_matrix/client/v3/createRoom", {})
        server.kill(signal.SIGKILL); server.start()          # again, on the same data

`database_url` comes first: what is asked for last is put away first, and a server must end before its database does.
At the end of a test each server is stopped by SIGTERM and must end cleanly; what it logged as an error fails the test
(`server.expected_errors` names events that a test provokes).
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from homeserver.harness.client import Answer, Query, Refused
from homeserver.harness.ours import ROOT, ServerProcess, make_server
from homeserver.harness.person import Person
from homeserver.harness.server import free_port
from tests.nursery import Nursery

__all__ = ["ROOT", "Answer", "Person", "Query", "Refused", "ServerProcess", "StartServer", "free_port", "make_server"]


class StartServer(Protocol):
    def __call__(
        self, *, database: str | None = None, name: str = "localhost", profile: str = "test", **settings: str
    ) -> ServerProcess:
        """Make a server in a fresh directory, and start it.

        `settings` are named as in the environment, without the prefix: `rooms__default_version="11"`.
        """


@contextlib.contextmanager
def running_servers(new_directory: Callable[[], Path]) -> Iterator[StartServer]:
    """Starts servers, and at the end stops them all and judges their logs."""
    servers: list[ServerProcess] = []

    def start(
        *, database: str | None = None, name: str = "localhost", profile: str = "test", **settings: str
    ) -> ServerProcess:
        server = make_server(new_directory(), database=database, name=name, profile=profile, settings=settings)
        server.start()
        servers.append(server)
        return server

    try:
        yield start
    except BaseException:
        for server in servers:
            server.kill(signal.SIGKILL)
        raise
    for server in servers:
        server.stop()
    for server in servers:
        server.check_log()


@pytest.fixture(scope="session", autouse=True)
def nursery() -> Iterator[None]:
    """Our servers are forks of one process that has imported them, which is there from the first of them on."""
    usual = ServerProcess.launch
    with Nursery.opened() as ServerProcess.launch:
        yield
    ServerProcess.launch = usual


@pytest.fixture
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """Servers of the test's own: call it with what they shall be like."""
    with running_servers(lambda: tmp_path_factory.mktemp("server")) as start:
        yield start


@pytest.fixture
def server(database_url: str, start_server: StartServer) -> ServerProcess:
    """A fresh server of the test's own, once on each database."""
    return start_server(database=database_url)


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One server on SQLite for all tests of this process: for tests that make their own accounts and rooms, and
    judge nothing else."""
    with running_servers(lambda: tmp_path_factory.mktemp("server")) as start:
        yield start()
