"""The samples for nginx and Caddy, in front of a real server: what comes through them is what a client sent.

Of a sample only what belongs to the machine is changed: names of certificate files, and the ports.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from attrs import define

from homeserver.harness.authority import Authority
from tests.fixtures_server import ROOT, Person, ServerProcess, free_port, running_servers

NAME = "example.org"
SITE = f"matrix.{NAME}"
CLIENT = "127.0.0.77"
"""The address from which clients come to the proxy, which is trusted at 127.0.0.1 only."""
START_TIMEOUT_S = 60


@define
class Proxy:
    """One that runs."""

    port: int
    ca_path: Path

    def ask(
        self, method: str, path: str, body: Any = None, *, site: str = SITE, **headers: str
    ) -> tuple[HTTPResponse, Any]:
        """What it answers over TLS, its certificate verified; the answer's JSON beside it."""
        context = ssl.create_default_context(cafile=str(self.ca_path))
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=60, source_address=(CLIENT, 0))
        connection = HTTPConnection(site, self.port)
        connection.sock = context.wrap_socket(plain, server_hostname=site)
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        try:
            connection.request(method, path, raw, headers)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        return response, json.loads(content) if response.headers.get_content_type() == "application/json" else content


def _program(name: str) -> str:
    found = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin")
    if found is None:
        pytest.fail(f"there is no {name}: run tests/tools/need_package.sh, as `make test` does")
    return found


def _nginx(directory: Path, upstream: str, authority: Authority) -> tuple[Proxy, list[str], dict[str, str]]:
    tls = authority.issue(NAME, SITE)
    port = free_port()
    sample = (ROOT / "deploy/nginx.conf").read_text()
    sample = re.sub(r"\n *listen \[::\]:443.*", "", sample).replace("listen 443 ", f"listen 127.0.0.1:{port} ")
    sample = re.sub(r"ssl_certificate \S+;", f"ssl_certificate {tls.certificate_path};", sample)
    sample = re.sub(r"ssl_certificate_key \S+;", f"ssl_certificate_key {tls.key_path};", sample)
    sample = sample.replace("server 127.0.0.1:8008;", f"server {upstream};")
    folders = "".join(
        f"{kind}_temp_path {directory}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    settings = directory / "nginx.conf"
    settings.write_text(
        f"{'user root; ' if os.getuid() == 0 else ''}daemon off; pid {directory}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off;\n{folders}{sample}}}\n"
    )
    command = [_program("nginx"), "-e", "stderr", "-p", str(directory), "-c", str(settings)]
    return Proxy(port, authority.ca_path), command, {}


def _caddy(directory: Path, upstream: str, authority: Authority) -> tuple[Proxy, list[str], dict[str, str]]:
    del authority  # it has one of its own
    port = free_port()
    sample = (ROOT / "deploy/Caddyfile").read_text()
    settings = directory / "Caddyfile"
    settings.write_text(
        "{\n\tadmin off\n\tlocal_certs\n\tskip_install_trust\n\tauto_https disable_redirects\n"
        f"\tstorage file_system {directory}/storage\n}}\n{sample}"
    )
    environ = {"SERVER_NAME": f"{NAME}:{port}", "GUILDHALL_UPSTREAM": upstream, "HOME": str(directory)}
    command = [_program("caddy"), "run", "--adapter", "caddyfile", "--config", str(settings)]
    return Proxy(port, directory / "storage/pki/authorities/local/root.crt"), command, environ


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The server that stands behind the proxies."""
    with running_servers(lambda: tmp_path_factory.mktemp("server")) as start:
        yield start(
            name=NAME,
            server__public_baseurl=f"https://{SITE}",
            listeners="[{forwarded: true, trusted_proxies: [127.0.0.1]}]",
        )


@pytest.fixture(scope="module")
def alice(behind: ServerProcess) -> Person:
    return behind.register("alice")


@pytest.fixture(scope="module", params=[_nginx, _caddy], ids=["nginx", "caddy"])
def proxy(
    behind: ServerProcess,
    authority: Authority,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Iterator[Proxy]:
    directory = tmp_path_factory.mktemp("proxy")
    proxy, command, environ = request.param(directory, f"127.0.0.1:{behind.port}", authority)
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=directory, env={**os.environ, **environ}, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        until = time.monotonic() + START_TIMEOUT_S
        while not _serves(proxy):
            if time.monotonic() > until or process.poll() is not None:
                pytest.fail(f"{command[0]} does not serve:\n{log.read_text('utf-8', 'replace')[-3000:]}")
            time.sleep(0.05)
        yield proxy
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(START_TIMEOUT_S)


def _serves(proxy: Proxy) -> bool:
    try:
        proxy.ask("GET", "/_matrix/client/versions")
        proxy.ask("GET", "/.well-known/matrix/server", site=NAME)
    except OSError:
        return False  # not there yet, or without certificates for both names
    return True


def test_both_names_lead_to_the_server(proxy: Proxy) -> None:
    response, answer = proxy.ask("GET", "/_matrix/client/versions")
    assert response.status == 200
    assert answer["versions"]
    response, answer = proxy.ask("GET", "/.well-known/matrix/server", site=NAME)
    assert (response.status, answer) == (200, {"m.server": f"{SITE}:443"})
    response, answer = proxy.ask("GET", "/.well-known/matrix/client", site=NAME)
    assert answer["m.homeserver"] == {"base_url": f"https://{SITE}"}
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert proxy.ask("GET", "/_matrix/client/versions", site=NAME)[0].status in (403, 404), "a site of its own"


def test_paths_come_as_they_were_sent(proxy: Proxy, alice: Person) -> None:
    bearer = {"Authorization": f"Bearer {alice.token}"}
    room_id = alice.call("POST", "/_matrix/client/v3/createRoom", {})["room_id"]
    alias = f"#a/b+%2F?{proxy.port}:{NAME}"
    path = f"/_matrix/client/v3/directory/room/{quote(alias, safe='')}"
    assert proxy.ask("PUT", path, {"room_id": room_id}, **bearer)[1] == {}
    assert proxy.ask("GET", path)[1]["room_id"] == room_id
    listed = proxy.ask("GET", f"/_matrix/client/v3/rooms/{quote(room_id, safe='')}/aliases", **bearer)[1]
    assert alias in listed["aliases"]


def test_the_server_knows_who_asks(proxy: Proxy, behind: ServerProcess) -> None:
    person = behind.register(f"bob{proxy.port}")
    bearer = {"Authorization": f"Bearer {person.token}"}
    for claimed in ("203.0.113.9", "127.0.0.1"):
        proxy.ask("GET", "/_matrix/client/v3/sync", **bearer, **{"X-Forwarded-For": claimed})
    (device,) = proxy.ask("GET", "/_matrix/client/v3/devices", **bearer)[1]["devices"]
    assert device["last_seen_ip"] == CLIENT


def test_files_go_through(proxy: Proxy, alice: Person) -> None:
    bearer = {"Authorization": f"Bearer {alice.token}"}
    image = os.urandom(3 << 20)
    response, answer = proxy.ask("POST", "/_matrix/media/v3/upload", image, **bearer)
    assert response.status == 200, answer
    file = answer["content_uri"].removeprefix("mxc://")
    response, content = proxy.ask("GET", f"/_matrix/client/v1/media/download/{file}", **bearer)
    assert response.headers["Content-Type"] == "application/octet-stream"
    assert content == image
