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
import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urlencode, urlsplit

import pytest
from attrs import Factory, define, frozen

ROOT = Path(__file__).parents[1]
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 30

#: What stands behind the question mark.
Query = Mapping[str, str | int]


@frozen
class Answer:
    """An HTTP answer. `json` is its body, None where that is no JSON."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        try:
            return json.loads(self.body)
        except ValueError:
            return None


class Refused(AssertionError):
    """The server answered with an error where the test wanted success."""

    def __init__(self, what: str, answer: Answer) -> None:
        super().__init__(f"{what}: {answer.status} {answer.body[:500]!r}")
        self.answer = answer


@define
class Person:
    """An account with its access token, and a client of the simplest kind."""

    server: ServerProcess
    user_id: str
    device_id: str
    token: str

    def call(self, method: str, path: str, body: object = None, query: Query | None = None) -> Any:
        """A request that must succeed; its JSON."""
        return self.server.call(method, path, body, query, token=self.token)

    def request(self, method: str, path: str, body: object = None, query: Query | None = None) -> Answer:
        """A request whose answer the test judges."""
        return self.server.request(method, path, body, query, token=self.token)

    def create_room(self, **body: object) -> str:
        return str(self.call("POST", "/_matrix/client/v3/createRoom", body)["room_id"])

    def join(self, room_id: str) -> None:
        self.call("POST", f"/_matrix/client/v3/join/{quote(room_id, safe='')}", {})

    def say(self, room_id: str, text: str, txn_id: str | None = None) -> str:
        """Send a text message; its event id."""
        path = (
            f"/_matrix/client/v3/rooms/{quote(room_id, safe='')}/send/m.room.message/{txn_id or secrets.token_hex(8)}"
        )
        return str(self.call("PUT", path, {"msgtype": "m.text", "body": text})["event_id"])

    def sync(self, **query: str | int) -> Any:
        return self.call("GET", "/_matrix/client/v3/sync", query=query)


@define
class ServerProcess:
    """One homeserver with its data; `start`, `stop` and `kill` may be called again and again."""

    directory: Path
    port: int
    name: str
    environ: Mapping[str, str]
    shared_secret: str
    expected_errors: set[str] = Factory(set)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def settings_path(self) -> Path:
        return self.directory / "homeserver.yaml"

    @property
    def log_path(self) -> Path:
        return self.directory / "server.log"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def start(self) -> None:
        """Run it, and wait until it answers."""
        assert self._process is None, "the server is running already"
        command = [sys.executable, "-m", "homeserver", "run", "-c", str(self.settings_path)]
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--listen", f"127.0.0.1:{self.port}"],
                cwd=ROOT,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                self.kill(signal.SIGKILL)
                pytest.fail(f"the server did not start:\n{self.log_tail()}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            return self.request("GET", "/_matrix/client/versions", timeout=5).status == 200
        except (OSError, http.client.HTTPException):
            return False

    def stop(self) -> None:
        """Ask it to end, as an operator would, and wait. It must end by itself, with status 0."""
        status = self.kill(signal.SIGTERM)
        assert status in (None, 0), f"the server ended with status {status}:\n{self.log_tail()}"

    def kill(self, number: signal.Signals) -> int | None:
        """Send a signal and wait for the end; its exit status, None where it was not running."""
        process, self._process = self._process, None
        if process is None:
            return None
        process.send_signal(number)
        try:
            return process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            pytest.fail(f"the server did not end within {STOP_TIMEOUT_S} s of {number.name}:\n{self.log_tail()}")

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        query: Query | None = None,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 60,
    ) -> Answer:
        """One request on a connection of its own. `body` goes as JSON, or as it is where it is bytes."""
        all_headers = dict(headers or {})
        if token is not None:
            all_headers["Authorization"] = f"Bearer {token}"
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        url = urlsplit(self.base)
        connection = http.client.HTTPConnection(str(url.hostname), url.port, timeout=timeout)
        with contextlib.closing(connection):
            connection.request(method, f"{path}?{urlencode(query)}" if query else path, data, all_headers)
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read())

    def call(
        self, method: str, path: str, body: object = None, query: Query | None = None, *, token: str | None = None
    ) -> Any:
        """A request that must succeed; its JSON."""
        answer = self.request(method, path, body, query, token=token)
        if answer.status != 200:
            raise Refused(f"{method} {path}", answer)
        return answer.json

    def register(self, name: str, password: str = "correct horse") -> Person:
        """A new account, by open registration."""
        body = {"username": name, "password": password, "auth": {"type": "m.login.dummy"}}
        made = self.call("POST", "/_matrix/client/v3/register", body)
        return Person(self, made["user_id"], made["device_id"], made["access_token"])

    def log_tail(self, size: int = 5000) -> str:
        return self.log_path.read_text("utf-8", "replace")[-size:] if self.log_path.exists() else "(no log)"

    def errors(self) -> list[str]:
        """Lines of the log that tell of an error: records of that level, and whatever is no record at all."""
        wrong = []
        for line in self.log_path.read_text("utf-8", "replace").splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                wrong.append(line)
                continue
            if record.get("level") in ("error", "critical") and record.get("event") not in self.expected_errors:
                wrong.append(line)
        return wrong

    def check_log(self) -> None:
        """Fail if the log tells of an error, showing the first few."""
        wrong = self.errors()
        if wrong:
            pytest.fail(f"the server logged {len(wrong)} errors:\n" + "\n".join(wrong[:3]))


class StartServer(Protocol):
    def __call__(
        self, *, database: str | None = None, name: str = "localhost", profile: str = "test", **settings: str
    ) -> ServerProcess:
        """Make a server in a fresh directory, and start it.

        `settings` are named as in the environment, without the prefix: `rooms__default_version="11"`.
        """


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def make_server(
    directory: Path, *, database: str | None, name: str, profile: str, settings: Mapping[str, str]
) -> ServerProcess:
    """Write a server's settings and key; it is not started yet."""
    secret = secrets.token_hex(8)
    command = [sys.executable, "-m", "homeserver", "init", "--server-name", name, "--data-dir", str(directory)]
    command += ["--profile", profile, "--registration-shared-secret", secret]
    command += ["--database", database] if database is not None else []
    subprocess.run(command, cwd=ROOT, env=_environ({}), check=True, stdout=subprocess.DEVNULL)
    return ServerProcess(directory, free_port(), name, _environ(settings), secret)


def _environ(settings: Mapping[str, str]) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GUILDHALL_")}
    ours = {"logging__format": "json", **settings}
    return inherited | {f"GUILDHALL_{name.upper()}": value for name, value in ours.items()}


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
