"""Our own servers as processes: `python -m homeserver run`."""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from attrs import define, field

from homeserver.cli.init import write_new_server
from homeserver.harness.server import Server, free_port, plain_environ

ROOT = Path(__file__).parents[2]


@define(eq=False)
class ServerProcess(Server):
    """One of ours."""

    make: ClassVar[str] = "ours"
    expected_errors: set[str] = field(factory=set, kw_only=True)
    """Events of the log that are no fault here, though they are logged as errors."""

    @property
    def settings_path(self) -> Path:
        return self.directory / "homeserver.yaml"

    @property
    def working_directory(self) -> Path:
        return ROOT

    @property
    def command(self) -> Sequence[str]:
        run = [sys.executable, "-m", "homeserver", "run", "-c", str(self.settings_path)]
        return [*run, "--listen", f"127.0.0.1:{self.port}"]

    def errors(self) -> list[str]:
        """Records of that level, and whatever is no record at all."""
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


def make_server(
    directory: Path,
    *,
    database: str | None = None,
    name: str = "localhost",
    profile: str = "test",
    settings: Mapping[str, str] | None = None,
) -> ServerProcess:
    """Write a server's settings and key; it is not started yet.

    `settings` are named as in the environment, without the prefix: `rooms__default_version`.
    """
    secret = secrets.token_hex(8)
    values: dict[str, Any] = {
        "profile": profile,
        "server": {"name": name},
        "registration": {"shared_secret": secret},
        **({"database": {"url": database}} if database is not None else {}),
    }
    write_new_server(directory, values)
    return ServerProcess(directory, free_port(), name, environ(settings or {}), secret)


def environ(settings: Mapping[str, str]) -> dict[str, str]:
    """The environment of a server with these settings."""
    ours = {"logging__format": "json", **settings}
    return plain_environ() | {f"GUILDHALL_{name.upper()}": value for name, value in ours.items()}
