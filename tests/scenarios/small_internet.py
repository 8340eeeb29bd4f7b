"""An internet for one command and what it starts: names, a name server and all ports, with no right needed for it.

Linux gives whoever asks a network of their own, whose loopback is all there is, and files of their own in the place of
/etc/hosts and /etc/resolv.conf. What listens in there on port 443 is in nobody's way.

    run_inside([sys.executable, "-m", "..."], 300)        # outside
    furnish(directory, hosts, services)                   # first thing in there
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from homeserver.harness.ours import ROOT

NAME_SERVER = "127.0.0.53"
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1

Services = Mapping[str, tuple[int, str]]
"""SRV records: `_service._tcp.HOST` → port and target."""


def run_inside(command: Sequence[str], timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Run a command in a small internet of its own. Everything that it started ends with it."""
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "--net", "--pid", "--fork", "--kill-child"]
    return subprocess.run([*unshare, *command], cwd=ROOT, capture_output=True, text=True, timeout=timeout_s)


@contextlib.contextmanager
def furnish(directory: Path, hosts: Mapping[str, str], services: Services) -> Iterator[None]:
    """In there: make host names known by their IP addresses, and services by a name server, until the end of `with`."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        asked = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, struct.pack("16sH14x", b"lo", 0))
        (flags,) = struct.unpack_from("H", asked, 16)
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | _IFF_UP))
    texts = {
        "/etc/hosts": "127.0.0.1 localhost\n" + "".join(f"{ip} {name}\n" for name, ip in hosts.items()),
        "/etc/resolv.conf": f"nameserver {NAME_SERVER}\noptions timeout:2 attempts:1\n",
    }
    for target, text in texts.items():
        file = directory / target.replace("/", "_")
        file.write_text(text)
        subprocess.run(["mount", "--bind", str(file), target], check=True)
    command = [sys.executable, "-m", "tests.scenarios.small_internet", json.dumps(services)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as name_server:
        assert name_server.stdout is not None
        assert name_server.stdout.readline() == b"ready\n"
        try:
            yield
        finally:
            name_server.kill()


def serve_names(services: Services) -> None:
    """Be the name server: it knows these services, and that there is nothing else."""
    from twisted.internet import defer
    from twisted.internet import reactor as anything
    from twisted.names import dns, error, server

    class Known:
        def query(self, query: dns.Query, timeout: object = None) -> defer.Deferred[Any]:
            found = services.get(str(query.name))
            if query.type != dns.SRV or found is None:
                return defer.fail(error.DomainError())
            payload = dns.Record_SRV(0, 0, found[0], found[1], 60)
            return defer.succeed(([dns.RRHeader(str(query.name), dns.SRV, dns.IN, 60, payload)], [], []))

    reactor: Any = anything
    factory = server.DNSServerFactory(clients=[Known()])
    reactor.listenUDP(53, dns.DNSDatagramProtocol(factory), interface=NAME_SERVER)
    reactor.callWhenRunning(lambda: print("ready", flush=True))
    reactor.run()


if __name__ == "__main__":
    serve_names({name: (port, target) for name, (port, target) in json.loads(sys.argv[1]).items()})
