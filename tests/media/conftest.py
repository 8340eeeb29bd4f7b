"""A server on each database for all tests of files in this process, and a web site that it may fetch from."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fixtures_db import PostgresServer
from tests.fixtures_server import Person, ServerProcess, running_servers
from tests.media.site import Site, running_site


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def repository(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server whose log may hold no error in the end. It keeps to itself."""
    database = None
    if request.param == "postgresql":
        postgres: PostgresServer = request.getfixturevalue("postgres")
        database = postgres.new_database()
    settings = {
        "registration__allow_guests": "true",
        "federation__enabled": "false",
        "web__allow_loopback": "true",
        "media__max_upload_bytes": "60M",
        "media__max_pending": "3",
        "media__max_pixels": "2000000",
        "media__worker_timeout_ms": "4s",
        "media__type_limits": "[{type: video/*, max_bytes: 1000}, {type: application/x-msdownload, max_bytes: 0}]",
        "previews__blocked": "[evil.example]",
    }
    with running_servers(lambda: tmp_path_factory.mktemp("repository")) as start:
        yield start(database=database, **settings)


@pytest.fixture(scope="session")
def alice(repository: ServerProcess) -> Person:
    return repository.register("alice")


@pytest.fixture(scope="session")
def bob(repository: ServerProcess) -> Person:
    return repository.register("bob")


@pytest.fixture
def site() -> Iterator[Site]:
    with running_site() as found:
        yield found
