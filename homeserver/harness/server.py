"""A homeserver that runs as a process of its own, of whatever make: its folder, its log, its end."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, ClassVar, Protocol

from attrs import define, field

from homeserver.harness.client import Answer, Query, Refused, ask
from homeserver.harness.person import Person

START_TIMEOUT_S = 180
STOP_TIMEOUT_S = 60


class ServerFailed(AssertionError):
    """A server that did not start, did not end, or ended badly; with the end of its log."""


class Process(Protocol):
    """What is needed of a `subprocess.Popen`."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int) -> None: ...
    def kill(self) -> None: ...


class Launch(Protocol):
    """Makes a process of a command, as `subprocess.Popen` does."""

    def __call__(
        self,
        command: Sequence[str],
        /,
        *,
        cwd: Path,
        env: Mapping[str, str],
        stdin: int | IO[bytes],
        stdout: int | IO[bytes],
        stderr: int | IO[bytes],
    ) -> Process: ...


@define(eq=False)
class Server:
    """One homeserver with its data; `start`, `stop` and `kill` may be called again and again."""

    make: ClassVar[str]
    """Whose program it is."""
    launch: ClassVar[Launch] = subprocess.Popen
    """Who many servers start may know a quicker way."""
    directory: Path
    port: int
    """Where it answers clients over plain HTTP, at 127.0.0.1."""
    name: str
    """The server name, which stands after the colon in user ids."""
    environ: Mapping[str, str]
    shared_secret: str
    _process: Process | None = field(default=None, kw_only=True)

    @property
    def command(self) -> Sequence[str]:
        """What runs it, in the foreground."""
        raise NotImplementedError

    @property
    def working_directory(self) -> Path:
        return self.directory

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log_path(self) -> Path:
        return self.directory / "server.log"

    @property
    def is_running(self) -> bool:
        return self._process is not None

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server is not running"
        return self._process.pid

    # -- its life ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Run it, and wait until it answers."""
        self.begin()
        self.wait()

    def begin(self) -> None:
        """Run it; `wait` has to follow. Several servers that begin together are all there sooner."""
        assert self._process is None, "the server is running already"
        with self.log_path.open("ab") as log:
            self._process = self.launch(
                self.command,
                cwd=self.working_directory,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def wait(self) -> None:
        """Wait until it answers. Raises ServerFailed."""
        assert self._process is not None
        until = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                self.kill(signal.SIGKILL)
                raise ServerFailed(f"the server did not start:\n{self.log_tail()}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            return self.request("GET", "/_matrix/client/versions", timeout=5).status == 200
        except (OSError, http.client.HTTPException):
            return False

    def stop(self) -> None:
        """Ask it to end, as an operator would, and wait. It must end by itself, with status 0."""
        status = self.kill(signal.SIGTERM)
        if status not in (None, 0):
            raise ServerFailed(f"the server ended with status {status}:\n{self.log_tail()}")

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
            raise ServerFailed(
                f"the server did not end within {STOP_TIMEOUT_S} s of {number.name}:\n{self.log_tail()}"
            ) from None

    # -- talking to it -----------------------------------------------------------------------------------------

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
        return ask(self.base, method, path, body, query, token=token, headers=headers, timeout_s=timeout)

    def call(
        self, method: str, path: str, body: object = None, query: Query | None = None, *, token: str | None = None
    ) -> Any:
        """A request that must succeed; its JSON. Raises Refused."""
        answer = self.request(method, path, body, query, token=token)
        if answer.status != 200:
            raise Refused(f"{method} {path}", answer)
        return answer.json

    def register(self, name: str, password: str = "correct horse") -> Person:
        """A new account, by open registration."""
        body = {"username": name, "password": password, "auth": {"type": "m.login.dummy"}}
        made = self.call("POST", "/_matrix/client/v3/register", body)
        return Person(self, made["user_id"], made["device_id"], made["access_token"])

    def log_in(self, person: Person, password: str = "correct horse") -> Person:
        """The same person on a device more."""
        named = {"type": "m.id.user", "user": person.user_id}
        made = self.call(
            "POST", "/_matrix/client/v3/login", {"type": "m.login.password", "identifier": named, "password": password}
        )
        return Person(self, made["user_id"], made["device_id"], made["access_token"])

    # -- what it says of itself --------------------------------------------------------------------------------

    def log_tail(self, size: int = 5000) -> str:
        return self.log_path.read_text("utf-8", "replace")[-size:] if self.log_path.exists() else "(no log)"

    def errors(self) -> list[str]:
        """Lines of the log that tell of an error."""
        raise NotImplementedError

    def check_log(self) -> None:
        """Raise ServerFailed if the log tells of an error, showing the first few."""
        wrong = self.errors()
        if wrong:
            raise ServerFailed(f"the server logged {len(wrong)} errors:\n" + "\n".join(wrong[:3]))


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def plain_environ() -> dict[str, str]:
    """This process's environment, without what would set our servers up."""
    return {name: value for name, value in os.environ.items() if not name.startswith("GUILDHALL_")}
