"""Calls: a real relay takes the credentials that clients are given, and clients find what carries conferences."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import define
from twisted.internet import task

from config import Voip
from homeserver.clock import Clock
from homeserver.voip import Relays
from tests.fixtures_server import StartServer, free_port

SECRET = "the secret that both share"
START_TIMEOUT_S = 30
TURN = "/_matrix/client/v3/voip/turnServer"
LIVEKIT = "https://rtc.example.org/livekit/jwt"


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.fail(f"there is no {name}: run tests/tools/need_package.sh, as `make test` does")
    return found


@define
class Coturn:
    """A relay on this machine, which relays from it to it."""

    port: int

    def accepts(self, username: str, password: str) -> bool:
        """Whether somebody with these credentials gets something through."""
        command = [program("turnutils_uclient"), "-n", "1", "-m", "1", "-l", "100", "-c", "-y"]
        command += ["-p", str(self.port), "-u", username, "-w", password, "127.0.0.1"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=START_TIMEOUT_S)
        return "Total lost packets 0 " in done.stdout + done.stderr


@pytest.fixture(scope="module")
def coturn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Coturn]:
    directory = tmp_path_factory.mktemp("coturn")
    port = free_port()
    log = directory / "log"
    command = [
        program("turnserver"), "-n", "--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1", f"--listening-port={port}",
        "--no-tls", "--no-dtls", "--no-cli", "--allow-loopback-peers", "--use-auth-secret",
        f"--static-auth-secret={SECRET}", "--realm=localhost", "--verbose", "--log-file=stdout",
        f"--pidfile={directory / 'pid'}", f"--db={directory / 'db'}",
    ]  # fmt: skip
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=directory, stdout=output, stderr=subprocess.STDOUT)
    try:
        _wait_for(process, log, f"UDP listener opened on: 127.0.0.1:{port}")
        yield Coturn(port)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _wait_for(process: subprocess.Popen[bytes], log: Path, words: str) -> None:
    until = time.monotonic() + START_TIMEOUT_S
    while words not in log.read_text("utf-8", "replace"):
        if time.monotonic() > until or process.poll() is not None:
            pytest.fail(f"coturn does not start:\n{log.read_text('utf-8', 'replace')[-2000:]}")
        time.sleep(0.05)


def test_a_real_relay_takes_them(coturn: Coturn, start_server: StartServer) -> None:
    uris = [f"turn:127.0.0.1:{coturn.port}?transport=udp"]
    server = start_server(
        voip__turn_uris=json.dumps(uris), voip__turn_secret=SECRET, voip__turn_credentials_ms="3600000"
    )
    alice = server.register("alice")
    given = alice.call("GET", TURN)
    assert (given["uris"], given["ttl"]) == (uris, 3600)
    expires, _, name = given["username"].partition(":")
    assert name == alice.user_id
    assert coturn.accepts(given["username"], given["password"])
    # The relay believes nobody who changes the name, and nothing that is over.
    assert not coturn.accepts(f"{int(expires) + 1}:{name}", given["password"])
    assert not coturn.accepts(given["username"], "wrong")


def test_old_ones_are_over(coturn: Coturn) -> None:
    over = relays(now_ms=10**12).credentials("@alice:localhost", is_guest=False)
    assert not coturn.accepts(over["username"], over["password"])


def relays(*, now_ms: int = 0, **more: Any) -> Relays:
    settings = Voip(**{"turn_uris": ("turn:a",), "turn_secret": SECRET, **more})
    return Relays(settings, Clock(task.Clock(), lambda: now_ms))


def test_who_gets_none() -> None:
    assert relays().credentials("@a:b", is_guest=True)["uris"] == ("turn:a",)
    assert relays(turn_for_guests=False).credentials("@a:b", is_guest=True) == {}
    given = relays(turn_for_guests=False, now_ms=5_000).credentials("@a:b", is_guest=False)
    assert (given["username"], given["ttl"]) == ("86405:@a:b", 86_400)
    assert relays(turn_uris=()).credentials("@a:b", is_guest=False) == {}
    assert relays(turn_secret="").credentials("@a:b", is_guest=False) == {}
    assert relays(turn_secret=None).credentials("@a:b", is_guest=False) == {}


def test_what_carries_conferences(start_server: StartServer) -> None:
    server = start_server(voip__livekit_urls=json.dumps([LIVEKIT]), server__public_baseurl="https://matrix.example.org")
    alice = server.register("alice")
    transports = [{"type": "livekit", "livekit_service_url": LIVEKIT}]
    for path in ("v1/rtc/transports", "unstable/org.matrix.msc4143/rtc/transports"):
        assert alice.call("GET", f"/_matrix/client/{path}") == {"rtc_transports": transports}
    assert server.call("GET", "/.well-known/matrix/client")["org.matrix.msc4143.rtc_foci"] == transports
    assert alice.call("GET", TURN) == {}


@pytest.mark.parametrize("uri", ["turn.example.org", "http://a", "turn:", "turn:a?transport=sctp", "turn:a b"])
def test_addresses_that_are_none(uri: str) -> None:
    with pytest.raises(ValueError, match="is not an address like"):
        Voip(turn_uris=(uri,))
    with pytest.raises(ValueError, match="must be an address"):
        Voip(livekit_urls=(uri if uri != "http://a" else "",))
