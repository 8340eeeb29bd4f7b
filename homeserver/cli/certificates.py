"""What `check` says of certificates: whether they fit, for how long, and for whom."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from cryptography import x509
from service_identity import CertificateError, VerificationError
from service_identity.cryptography import extract_patterns
from service_identity.hazmat import DNS_ID, IPAddress_ID, verify_service_identity

from config import Settings, Tls
from federation.discovery.address import is_ip_literal, split_server_name
from homeserver.cli.findings import Finding, bad, good, warning

WARNING_S = 14 * 24 * 3600


def check_certificate(tls: Tls, now: Callable[[], float] = time.time) -> Iterator[Finding]:
    """Whether certificate and key belong together, and how long they will do."""
    certificate = _load(tls)
    if isinstance(certificate, Finding):
        yield certificate
    else:
        yield check_expiry(certificate, str(tls.certificate_path), now())


def check_expiry(certificate: x509.Certificate, whose: str, now_s: float) -> Finding:
    left_s = certificate.not_valid_after_utc.timestamp() - now_s
    days = int(left_s // 86400)
    if certificate.not_valid_before_utc.timestamp() > now_s:
        return bad("certificate", f"{whose} is not valid yet: is this machine's clock right?")
    if left_s <= 0:
        return bad("certificate", f"{whose} has expired")
    if left_s < WARNING_S:
        return warning("certificate", f"{whose} expires in {days} days")
    return good("certificate", f"{whose}, good for {days} days")


def check_names(settings: Settings, tls: Tls) -> Iterator[Finding]:
    """Whether the certificate of a listener is valid for the names under which this server is looked for."""
    certificate = _load(tls)
    if isinstance(certificate, Finding):
        return
    names = {split_server_name(settings.server.name).host}
    if settings.server.public_baseurl is not None:
        names.add(urlsplit(settings.server.public_baseurl).hostname or "")
    wrong = sorted(name for name in names if not is_valid_for(certificate, name))
    if wrong == sorted(names):
        yield warning("certificate", f"{tls.certificate_path} is not valid for {' or '.join(wrong)}")


def is_valid_for(certificate: x509.Certificate, name: str) -> bool:
    try:
        wanted = IPAddress_ID(name) if is_ip_literal(name) else DNS_ID(name)
        verify_service_identity(extract_patterns(certificate), [wanted], [])
    except (VerificationError, CertificateError, ValueError):
        return False
    return True


def _load(tls: Tls) -> x509.Certificate | Finding:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.certificate_path, tls.key_path)
        return x509.load_pem_x509_certificate(tls.certificate_path.read_bytes())
    except (OSError, ValueError) as error:
        return bad("certificate", f"{tls.certificate_path} with {tls.key_path}: {error}")
