"""A federation of this machine alone: an authority, lines, and servers that find and trust each other.

    with Town.built(directory) as town:
        a, b = town.ours(), town.ours(rooms__default_version="11")
        c = town.synapse(python)
        town.start()
        alice = a.register("alice")

A server's name is an IP address of this machine with a port, or `localhost` with one, so no resolver has to know it and
no right is needed. Behind the name stands the line (`line.py`), which has the certificate. Where names are to be had, a
server may be given another `Place`.
"""

from __future__ import annotations

import contextlib
import itertools
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from attrs import define, field

from homeserver.harness.authority import Authority
from homeserver.harness.faults import NewLine
from homeserver.harness.lines import Lines
from homeserver.harness.ours import ServerProcess, make_server
from homeserver.harness.server import Server, free_port
from homeserver.harness.synapse import Synapse, make_synapse

OUR_SETTINGS = {"presence__federated": "true"}
"""What servers of a town have besides the profile `test`."""


class Door(msgspec.Struct, frozen=True):
    """One address at which a server is found."""

    host: str
    """An IP address of this machine."""
    port: int
    certified: str
    """The host name or IP address that its certificate is for."""
    well_known: str | None = None
    """What it answers to `/.well-known/matrix/server`, in the server's place."""


class Place(msgspec.Struct, frozen=True):
    """A server's name, and everything that the name may lead to."""

    name: str
    doors: tuple[Door, ...]


@define(eq=False)
class Town:
    """See the module's docstring."""

    directory: Path
    authority: Authority
    lines: Lines
    servers: list[Server] = field(factory=list)
    _numbers: Iterator[int] = field(factory=lambda: itertools.count(1))

    @classmethod
    @contextlib.contextmanager
    def built(cls, directory: Path) -> Iterator[Town]:
        """A town without servers. At its end all are stopped, which they must take well; nobody judges their logs."""
        directory.mkdir(parents=True, exist_ok=True)
        lines = Lines(directory / "lines.log")
        lines.start()
        town = cls(directory, Authority(directory, name="harness"), lines)
        try:
            yield town
            for server in town.servers:
                server.stop()
        finally:
            for server in town.servers:
                server.kill(signal.SIGKILL)
            lines.stop()

    def ours(self, database: str | None = None, place: Place | None = None, **settings: str) -> ServerProcess:
        """One more of ours, not started yet. Settings are named as in the environment: `rooms__default_version`."""
        directory, place = self._next(place)
        everything = OUR_SETTINGS | {"federation__ca_path": str(self.authority.ca_path)} | settings
        server = make_server(directory, database=database, name=place.name, settings=everything)
        self._connect(server, place)
        return server

    def synapse(self, python: Path, settings: Mapping[str, Any] | None = None, place: Place | None = None) -> Synapse:
        """A Synapse, not started yet. Settings are those of its file."""
        directory, place = self._next(place)
        ca_path = self.authority.ca_path
        server = make_synapse(directory, python=python, name=place.name, ca_path=ca_path, settings=settings)
        self._connect(server, place)
        return server

    def start(self) -> None:
        """Start all that do not run, together, and wait until they answer."""
        fresh = [server for server in self.servers if not server.is_running]
        for server in fresh:
            server.begin()
        for server in fresh:
            server.wait()

    def _next(self, place: Place | None) -> tuple[Path, Place]:
        number = next(self._numbers)
        return self.directory / f"server-{number}", place or _own_place(number)

    def _connect(self, server: Server, place: Place) -> None:
        for door in place.doors:
            tls = self.authority.issue(door.certified)
            files = str(tls.certificate_path), str(tls.key_path)
            self.lines.open(NewLine(server.name, door.host, door.port, *files, server.port, door.well_known))
        self.servers.append(server)


def _own_place(number: int) -> Place:
    """One that any machine has: a host name for every other server, so that both kinds meet."""
    ip = "127.0.0.1" if number % 2 else f"127.0.0.{number}"
    host, port = "localhost" if number % 2 else ip, free_port(ip)
    return Place(f"{host}:{port}", (Door(ip, port, host),))
