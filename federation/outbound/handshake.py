"""What OpenSSL does of TLS to peers: version 1.2 at least, and a certificate that a trusted authority issued for the
very name.

One OpenSSL context serves all connections: reading the system's authorities anew for each would cost more than all
the rest of a request. To be imported with the first connection: OpenSSL takes 13 MiB of memory.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from attrs import define, field
from OpenSSL import SSL
from OpenSSL.crypto import X509
from service_identity import VerificationError
from service_identity.hazmat import DNS_ID, IPAddress_ID, verify_service_identity
from service_identity.pyopenssl import extract_patterns
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.protocol import Factory
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from zope.interface import implementer

from federation.discovery.address import is_ip_literal
from federation.outbound.trust import BadAuthorities, BadTlsName

_REASONS = {
    9: "it is not valid yet",
    10: "it has expired",
    18: "it is signed by itself",
    19: "its authority is not trusted here",
    20: "its authority is not trusted here",
    21: "its authority is not trusted here, or its chain is incomplete",
    26: "it is not made for servers",
}
"""OpenSSL's number of an error → what to tell. Spec: x509_vfy.h"""


def make_context(ca_path: Path | None) -> SSL.Context:
    """Trust the authorities in `ca_path` (PEM), or the system's. Raises `BadAuthorities`."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_alpn_protos([b"http/1.1"])
    if ca_path is None:
        context.set_default_verify_paths()
        return context
    try:
        context.load_verify_locations(str(ca_path).encode())
    except SSL.Error:
        raise BadAuthorities(f"{ca_path}: there are no certificates to be read there") from None
    return context


@cache
def system_context() -> SSL.Context:
    """The one that trusts whom the system trusts."""
    return make_context(None)


@implementer(IOpenSSLClientConnectionCreator)
@define(eq=False)
class TlsClient:
    """One connection's TLS. After a failure, `why` says what is wrong with the certificate."""

    _context: SSL.Context
    tls_name: str
    why: str | None = field(default=None, init=False)
    _is_literal: bool = field(init=False)
    _wanted: DNS_ID | IPAddress_ID = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._is_literal = is_ip_literal(self.tls_name)
        try:
            self._wanted = IPAddress_ID(self.tls_name) if self._is_literal else DNS_ID(self.tls_name)
        except ValueError as error:
            raise BadTlsName(f"{self.tls_name!r} is no name for a certificate: {error}") from None

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        connection = SSL.Connection(self._context, None)
        connection.set_app_data(tlsProtocol)
        if not self._is_literal:  # RFC 6066 knows no SNI of addresses
            connection.set_tlsext_host_name(self.tls_name.encode("ascii"))
        connection.set_verify(SSL.VERIFY_PEER, self._check)
        return connection

    def around(self, factory: Factory) -> TLSMemoryBIOFactory:
        """What makes the factory's protocols speak TLS."""
        return TLSMemoryBIOFactory(self, True, factory)

    def explain(self, error: Exception) -> str | None:
        """What is to be said of a failure, where it is one of TLS."""
        if self.why is not None:
            return self.why
        if isinstance(error, SSL.Error):
            reasons = ", ".join(entry[-1] for entry in error.args[0]) if error.args else "unknown"
            return f"TLS failed: {reasons}"
        return None

    def _check(self, connection: SSL.Connection, certificate: X509, error: int, depth: int, ok: int) -> bool:
        """Called by OpenSSL for each certificate of the chain, the peer's own last; whatever raises is lost there."""
        try:
            if not ok:
                self.why = self.why or f"its certificate: {_REASONS.get(error, f'OpenSSL error {error}')}"
                return False
            if depth == 0:
                verify_service_identity(extract_patterns(certificate), [self._wanted], [])
        except VerificationError:
            self.why = f"its certificate is not valid for {self.tls_name}"
            return False
        except Exception as unexpected:
            self.why = f"its certificate cannot be read: {unexpected}"
            return False
        return True
