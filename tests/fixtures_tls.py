"""Certificates for tests: an authority made for the run, and a server that shows what it issues."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from config import Tls
from homeserver.harness.authority import DAY, Authority
from homeserver.harness.server import Process
from tests.fixtures_server import ROOT, ServerProcess, free_port, make_server

__all__ = ["DAY", "Authority", "https_server"]


@contextmanager
def https_server(tls: Tls, directory: Path, name: str | None = None, **settings: str) -> Iterator[ServerProcess]:
    """A homeserver that speaks HTTPS itself, on a free port; `localhost` and that port are its name if it is given
    none. It may not answer yet, and `ServerProcess.request` is not for it."""
    listener = {"tls": {"certificate_path": str(tls.certificate_path), "key_path": str(tls.key_path)}}
    port = free_port()
    settings |= {"listeners": json.dumps([{"port": port, **listener}])}
    server = make_server(directory, database=None, name=name or f"localhost:{port}", profile="test", settings=settings)
    server.port = port
    process = run_by_its_settings(server)
    try:
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def run_by_its_settings(server: ServerProcess) -> Process:
    """Start a server at the listeners that its settings name. It may not answer yet."""
    command = [sys.executable, "-m", "homeserver", "run", "-c", str(server.settings_path)]
    with server.log_path.open("ab") as log:
        return server.launch(command, cwd=ROOT, env=server.environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority that the tests' servers and clients trust."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def strange_authority(tmp_path: Path) -> Authority:
    """One that nobody trusts."""
    directory = tmp_path / "strange"
    directory.mkdir()
    return Authority(directory, name="strangers")
