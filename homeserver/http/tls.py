"""HTTPS without a reverse proxy: a listener's certificate and key as what Twisted wants for its handshakes."""

from __future__ import annotations

from OpenSSL import crypto
from twisted.internet.ssl import CertificateOptions, TLSVersion

from config import Tls


class BadCertificate(ValueError):
    """A certificate or key that cannot be used. The message names the file."""


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
    first, *others = (crypto.X509.from_cryptography(certificate) for certificate in chain)
    return CertificateOptions(
        privateKey=crypto.PKey.from_cryptography_key(key),  # type: ignore[arg-type]
        certificate=first,
        extraCertChain=others,
        raiseMinimumTo=TLSVersion.TLSv1_2,
        acceptableProtocols=[b"http/1.1"],
    )
