"""A listener that speaks HTTPS itself."""

from __future__ import annotations

import http.client
import os
import shutil
import ssl
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from cryptography import x509
from twisted.internet.task import Clock as Timers

from config import Tls
from homeserver.http.sockets import BadCertificate
from homeserver.http.tls import LOOK_EVERY_S, ListenerTls, make_tls
from tests.fixtures_tls import Authority, https_server


class Client:
    """One HTTPS connection, kept open."""

    def __init__(self, port: int, ca_path: Path) -> None:
        trusting = ssl.create_default_context(cafile=ca_path)
        self._connection = http.client.HTTPSConnection("localhost", port, timeout=5, context=trusting)
        self._connection.connect()

    def ask(self) -> bytes:
        self._connection.request("GET", "/health")
        return self._connection.getresponse().read()

    @property
    def serial(self) -> int:
        """Of the certificate that this connection was made with."""
        assert isinstance(self._connection.sock, ssl.SSLSocket)
        certificate = self._connection.sock.getpeercert(binary_form=True)
        assert certificate is not None
        return x509.load_der_x509_certificate(certificate).serial_number

    def close(self) -> None:
        self._connection.close()


def _until(look: Callable[[], bool]) -> None:
    until = time.monotonic() + 60  # for a machine that has much else to do
    while not _is(look):
        assert time.monotonic() < until
        time.sleep(0.1)


def _is(look: Callable[[], bool]) -> bool:
    try:
        return look()
    except OSError:
        return False


def _serial(tls: Tls) -> int:
    return x509.load_pem_x509_certificate(tls.certificate_path.read_bytes()).serial_number


def test_a_certificate_is_renewed_while_the_server_runs(tmp_path: Path, authority: Authority) -> None:
    first, second = authority.issue("localhost"), authority.issue("localhost")
    in_use = Tls(certificate_path=tmp_path / "c.pem", key_path=tmp_path / "k.pem")

    def put(tls: Tls) -> None:
        """As certbot does: one file after the other, each put in place whole."""
        for new, place in ((tls.certificate_path, in_use.certificate_path), (tls.key_path, in_use.key_path)):
            shutil.copy(new, tmp_path / "new")
            (tmp_path / "new").replace(place)

    def offered() -> int:
        with closing(Client(server.port, authority.ca_path)) as client:
            assert client.ask() == b"OK"
            return client.serial

    put(first)
    with https_server(in_use, tmp_path) as server:
        _until(lambda: offered() == _serial(first))
        with closing(Client(server.port, authority.ca_path)) as early:
            assert early.ask() == b"OK"
            put(second)
            _until(lambda: offered() == _serial(second))
            assert (early.ask(), early.serial) == (b"OK", _serial(first)), "a connection under way is left alone"
        in_use.certificate_path.write_text("nonsense")
        _until(lambda: (offered(), "cannot be used" in server.log_path.read_text()) == (_serial(second), True))
        put(first)
        _until(lambda: offered() == _serial(first))


def test_files_are_looked_at_now_and_then_and_a_fault_is_told_once(
    tmp_path: Path, authority: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    issued = authority.issue("localhost")
    tls = Tls(certificate_path=tmp_path / "c.pem", key_path=tmp_path / "k.pem")
    shutil.copy(issued.certificate_path, tls.certificate_path)
    shutil.copy(issued.key_path, tls.key_path)
    timers = Timers()
    listener = ListenerTls(tls, timers.seconds)

    def context() -> ssl.SSLContext:
        return listener.serverConnectionForTLS(None).get_context()  # type: ignore[arg-type, return-value]

    before = context()
    os.utime(tls.key_path)
    timers.advance(LOOK_EVERY_S / 2)
    assert context() is before, "it was looked at just now"
    timers.advance(LOOK_EVERY_S)
    read_again = context()
    assert read_again is not before
    tls.key_path.unlink()
    for _ in range(3):
        timers.advance(LOOK_EVERY_S)
        assert context() is read_again
    assert capsys.readouterr().out.count("cannot be used") == 1
    shutil.copy(issued.key_path, tls.key_path)
    timers.advance(LOOK_EVERY_S)
    assert context() is not read_again


def test_files_that_cannot_be_used(tmp_path: Path, authority: Authority) -> None:
    one, other = authority.issue("localhost"), authority.issue("localhost")
    mixed = Tls(certificate_path=one.certificate_path, key_path=other.key_path)
    with pytest.raises(BadCertificate, match=f"{other.key_path.name} is not the key of .*{one.certificate_path.name}"):
        make_tls(mixed)
    with pytest.raises(BadCertificate, match=f"{other.key_path.name}: "):
        make_tls(Tls(certificate_path=other.key_path, key_path=other.key_path))
    with pytest.raises(BadCertificate, match=f"{one.certificate_path.name}: "):
        make_tls(Tls(certificate_path=one.certificate_path, key_path=one.certificate_path))
    with pytest.raises(FileNotFoundError):
        make_tls(Tls(certificate_path=tmp_path / "nowhere.pem", key_path=one.key_path))
