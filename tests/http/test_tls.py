"""A listener that speaks HTTPS itself."""

from __future__ import annotations

import datetime
import json
import ssl
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from config import Tls
from homeserver.http.tls import BadCertificate, make_tls
from tests.fixtures_server import ROOT, make_server


def _certificate(directory: Path) -> Tls:
    """A certificate for localhost that signs itself, and its key."""
    directory.mkdir(exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
    certificate = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    tls = Tls(certificate_path=directory / "c.pem", key_path=directory / "k.pem")
    tls.certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    tls.key_path.write_bytes(key.private_bytes(*form))
    return tls


def test_a_server_with_a_certificate(tmp_path: Path) -> None:
    tls = _certificate(tmp_path)
    listener = {"tls": {"certificate_path": str(tls.certificate_path), "key_path": str(tls.key_path)}}
    server = make_server(
        tmp_path, database=None, name="localhost", profile="test", settings={"listeners": json.dumps([listener])}
    )
    command = [sys.executable, "-m", "homeserver", "run", "-c", str(server.settings_path)]
    command += ["--listen", f"127.0.0.1:{server.port}"]
    trusting = ssl.create_default_context(cafile=tls.certificate_path)
    process = subprocess.Popen(command, cwd=ROOT, env=server.environ, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 30
        while True:
            try:
                url = f"https://localhost:{server.port}/health"
                with urllib.request.urlopen(url, timeout=5, context=trusting) as answer:
                    assert answer.read() == b"OK"
                break
            except OSError:
                assert process.poll() is None
                assert time.monotonic() < until
                time.sleep(0.1)
    finally:
        process.terminate()
        assert process.wait(30) == 0


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    one, other = _certificate(tmp_path / "one"), _certificate(tmp_path / "other")
    mixed = Tls(certificate_path=one.certificate_path, key_path=other.key_path)
    with pytest.raises(BadCertificate, match=r"other/k\.pem is not the key of .*one/c\.pem"):
        make_tls(mixed)
    with pytest.raises(BadCertificate, match=r"other/k\.pem: "):
        make_tls(Tls(certificate_path=other.key_path, key_path=other.key_path))
    with pytest.raises(BadCertificate, match=r"one/c\.pem: "):
        make_tls(Tls(certificate_path=one.certificate_path, key_path=one.certificate_path))
    with pytest.raises(FileNotFoundError):
        make_tls(Tls(certificate_path=tmp_path / "nowhere.pem", key_path=one.key_path))
