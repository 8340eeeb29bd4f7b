"""HTTPS without a reverse proxy: a listener's certificate and key as what Twisted wants for its handshakes.

The files are looked at again when somebody connects, at most once a second: a certificate that was renewed is used
from the next handshake on, without a restart. Connections under way keep the one they began with. New files that
cannot be used (half written, a key that does not fit) are told of in the log, and the old ones stay in use.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, cast

import structlog
from attrs import define, field
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.ssl import CertificateOptions, TLSVersion
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from config import Tls
from homeserver.http.sockets import BadCertificate

LOOK_EVERY_S = 1.0

_log = structlog.get_logger("homeserver.http")

_Version = tuple[tuple[int, int, int, int], ...]


def make_tls(tls: Tls) -> CertificateOptions:
    """Read the certificate with its chain, and the key. Raises OSError or BadCertificate, naming the file."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        chain = x509.load_pem_x509_certificates(tls.certificate_path.read_bytes())
    except ValueError as error:
        raise BadCertificate(f"{tls.certificate_path}: {error}") from None
    try:
        key = load_pem_private_key(tls.key_path.read_bytes(), None)
    except (ValueError, TypeError) as error:
        raise BadCertificate(f"{tls.key_path}: {error}") from None
    if chain[0].public_key() != key.public_key():
        raise BadCertificate(f"{tls.key_path} is not the key of {tls.certificate_path}")
    first, *others = chain
    # Twisted hands them on to OpenSSL's context, which prefers them to the deprecated classes that it names itself.
    return CertificateOptions(
        privateKey=cast(Any, key),
        certificate=cast(Any, first),
        extraCertChain=cast(Any, others),
        raiseMinimumTo=TLSVersion.TLSv1_2,
        acceptableProtocols=[b"http/1.1"],
    )


@implementer(IOpenSSLServerConnectionCreator)
@define(eq=False)
class ListenerTls:
    """The TLS side of a listener's connections. Making it raises OSError or BadCertificate."""

    _tls: Tls
    _seconds: Callable[[], float]
    """The time by any clock that only goes forwards."""
    _options: CertificateOptions = field(init=False)
    _version: _Version = field(init=False)
    _looked_at: float = field(init=False)
    _complaint: str = field(default="", init=False)

    def __attrs_post_init__(self) -> None:
        self._version = self._find_version()
        self._options = make_tls(self._tls)
        self._looked_at = self._seconds()

    def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Called by Twisted for each connection, when its handshake begins."""
        now = self._seconds()
        if now - self._looked_at >= LOOK_EVERY_S:
            self._looked_at = now
            self._look()
        return SSL.Connection(self._options.getContext(), None)

    def _look(self) -> None:
        where = str(self._tls.certificate_path)
        try:
            version = self._find_version()
            if version == self._version:
                return
            self._options = make_tls(self._tls)
        except (OSError, BadCertificate) as error:
            # Tried again at the next look; told once.
            if str(error) != self._complaint:
                self._complaint = str(error)
                _log.warning("the new certificate cannot be used, the old one stays", path=where, why=str(error))
            return
        # As it was before the files were read: what is written meanwhile changes it again.
        self._version, self._complaint = version, ""
        _log.info("certificate read again", path=where)

    def _find_version(self) -> _Version:
        found = (os.stat(path) for path in (self._tls.certificate_path, self._tls.key_path))
        return tuple((each.st_ino, each.st_size, each.st_mtime_ns, each.st_ctime_ns) for each in found)
