"""First process of the container that Complement starts: a certificate of its authority, settings, then the server.

Complement sets SERVER_NAME and puts its certificate authority, a new one for each run of a test package, into
/complement/ca. It stops and starts the same container, or a copy of it, many times: keys and data stay, the certificate
is made anew. Settings can be given as GUILDHALL_… variables, as everywhere; they win over those below.

Complement's side of this: its README.md, "Image requirements".
"""

from __future__ import annotations

import datetime
import json
import os
import subprocess
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HOME = Path("/var/lib/guildhall")
"""Not /data: that is a volume, and what is in a volume is lost when Complement goes on with a copy of the container."""
AUTHORITY = Path("/complement/ca")
SHARED_SECRET = "complement"
DAY = datetime.timedelta(days=1)
PRIVATE_NETWORKS = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"]
"""All that containers have."""


def main() -> None:
    name = os.environ["SERVER_NAME"]
    file = HOME / "homeserver.yaml"
    if not file.exists():
        wanted = ["--server-name", name, "--data-dir", str(HOME), "--profile", "test"]
        subprocess.run(["guildhall", "init", *wanted, "--registration-shared-secret", SHARED_SECRET], check=True)
    certificate, key = HOME / "tls.crt", HOME / "tls.key"
    issue_certificate(name, AUTHORITY, certificate, key)
    os.execvpe("guildhall", ["guildhall", "run", "-c", str(file)], {**settings(certificate, key), **os.environ})


def settings(certificate: Path, key: Path) -> dict[str, str]:
    """What the profile `test` leaves open, as environment variables."""
    tls = {"certificate_path": str(certificate), "key_path": str(key)}
    return {
        "GUILDHALL_LISTENERS": json.dumps(
            [{"host": "0.0.0.0", "port": 8008}, {"host": "0.0.0.0", "port": 8448, "tls": tls}]
        ),
        "GUILDHALL_FEDERATION__CA_PATH": str(AUTHORITY / "ca.crt"),
        "GUILDHALL_FEDERATION__ALLOWED_PRIVATE_RANGES": json.dumps(PRIVATE_NETWORKS),
        "GUILDHALL_WEB__ALLOWED_PRIVATE_RANGES": json.dumps(PRIVATE_NETWORKS),
        # Some tests send events of older forms into rooms of the default version.
        "GUILDHALL_ROOMS__DEFAULT_VERSION": "11",
        "GUILDHALL_PRESENCE__FEDERATED": "true",
    }


def issue_certificate(name: str, authority: Path, certificate_path: Path, key_path: Path) -> None:
    """Write a certificate for a host name, of the authority whose `ca.crt` and `ca.key` (PEM) are in a folder."""
    issuer = x509.load_pem_x509_certificate((authority / "ca.crt").read_bytes())
    issuer_key = serialization.load_pem_private_key((authority / "ca.key").read_bytes(), None)
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder(issuer.subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - DAY)
        .not_valid_after(now + 30 * DAY)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(issuer_key, hashes.SHA256())  # type: ignore[arg-type]
    )
    certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    key_path.write_bytes(key.private_bytes(*private))


if __name__ == "__main__":
    main()
