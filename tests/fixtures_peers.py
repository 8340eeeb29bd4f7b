"""Real servers that are each other's peers: processes that speak HTTPS with certificates of an authority of the run."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import define

from homeserver.harness.server import Process
from tests.fixtures_server import ServerProcess, free_port, make_server
from tests.fixtures_tls import Authority, run_by_its_settings


@define
class Pair:
    """A server with a listener for peers, and one for the test to speak to it."""

    process: ServerProcess
    running: Process | None = None

    @property
    def name(self) -> str:
        return self.process.name

    def start(self) -> None:
        self.begin()
        self.wait()

    def begin(self) -> None:
        self.running = run_by_its_settings(self.process)

    def wait(self) -> None:
        assert self.running is not None
        until = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError):
                self.process.call("GET", "/_matrix/key/v2/server")
                return
            assert self.running.poll() is None, self.process.log_tail()
            assert time.monotonic() < until, self.process.log_tail()
            time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        running, self.running = self.running, None
        if running is not None:
            running.send_signal(how)
            assert running.wait(30) == (0 if how is signal.SIGTERM else -how), self.process.log_tail()

    def keys(self) -> Any:
        return self.process.call("GET", "/_matrix/key/v2/server")

    def ask_for(self, name: str) -> list[Any]:
        """What it says of another server, as a notary."""
        found: list[Any] = self.process.call("GET", f"/_matrix/key/v2/query/{name}")["server_keys"]
        return found


def make_pair(directory: Path, authority: Authority, certificate: Authority) -> Pair:
    """A server that trusts one authority, and has its certificate from the other."""
    port, inner = free_port(), free_port()
    tls = certificate.issue("localhost")
    listeners = [
        {"port": inner},
        {"port": port, "tls": {"certificate_path": str(tls.certificate_path), "key_path": str(tls.key_path)}},
    ]
    settings = {"listeners": json.dumps(listeners), "federation__ca_path": str(authority.ca_path)}
    process = make_server(directory, database=None, name=f"localhost:{port}", profile="test", settings=settings)
    process.port = inner
    return Pair(process)


@pytest.fixture
def pairs(tmp_path: Path, authority: Authority, strange_authority: Authority) -> Iterator[list[Pair]]:
    """Two servers that trust each other's certificates, and one whose certificate nobody trusts."""
    made = [
        make_pair(tmp_path / "a", authority, authority),
        make_pair(tmp_path / "b", authority, authority),
        make_pair(tmp_path / "c", authority, strange_authority),
    ]
    try:
        for pair in made:
            pair.begin()
        for pair in made:
            pair.wait()
        yield made
    finally:
        for pair in made:
            pair.stop()
