"""Certificates: an authority made for the run, and what it issues."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path

from attrs import define, field
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from config import Tls
from federation.discovery.address import is_ip_literal

DAY = datetime.timedelta(days=1)


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _write(file: Path, certificate: x509.Certificate) -> None:
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


@define
class Authority:
    """A certificate authority with its files in a directory of its own."""

    directory: Path
    name: str = "tests"
    ca_path: Path = field(init=False)
    _key: ec.EllipticCurvePrivateKey = field(init=False)
    _issued: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.ca_path = self.directory / "ca.pem"
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder(
            _subject(self.name), _subject(self.name), self._key.public_key(), x509.random_serial_number()
        )
        builder = builder.not_valid_before(now - DAY).not_valid_after(now + 30 * DAY)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        builder = builder.add_extension(
            x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False
        )
        _write(self.ca_path, builder.sign(self._key, hashes.SHA256()))

    def issue(self, *names: str, since: datetime.timedelta = DAY, until: datetime.timedelta = DAY) -> Tls:
        """A certificate for host names and IP addresses, valid from `since` ago for `until` from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder(
            _subject(self.name), _subject("server"), key.public_key(), x509.random_serial_number()
        )
        builder = builder.not_valid_before(now - since).not_valid_after(now + until)
        builder = builder.add_extension(x509.SubjectAlternativeName(_alternatives(names)), critical=False)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
        )
        self._issued += 1
        tls = Tls(
            certificate_path=self.directory / f"certificate-{self._issued}.pem",
            key_path=self.directory / f"key-{self._issued}.pem",
        )
        _write(tls.certificate_path, builder.sign(self._key, hashes.SHA256()))
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        tls.key_path.write_bytes(key.private_bytes(*form))
        return tls


def _alternatives(names: Sequence[str]) -> list[x509.GeneralName]:
    return [x509.IPAddress(ip_address(name)) if is_ip_literal(name) else x509.DNSName(name) for name in names]
