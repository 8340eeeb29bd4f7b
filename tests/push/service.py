"""A push service, as browsers have them, in a process of its own, and a browser that has subscribed to it.

`python -m tests.push.service PORT_FILE`: listens on a free port of 127.0.0.1, which it writes into the file. What is
posted to `/push/…` is kept; `GET /` gives all of it. `POST /behave` takes what to answer to what comes next.
"""

from __future__ import annotations

import base64
import json
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from attrs import define, field, frozen
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.push.children import running, serve

_POINT = Encoding.X962, PublicFormat.UncompressedPoint


@frozen
class Posted:
    """One message, as the service got it."""

    path: str
    headers: dict[str, str]
    """By name in lower case."""
    body: bytes


@define
class PushService:
    """The test's side of it."""

    base: str

    def behave(self, status: int = 201, retry_after: str | None = None) -> None:
        """What it answers from now on."""
        body = json.dumps({"status": status, "retry_after": retry_after}).encode()
        urllib.request.urlopen(urllib.request.Request(f"{self.base}/behave", body, method="POST")).read()

    def posted(self, least: int = 0) -> list[Posted]:
        """What came so far, of which there must be `least` in the end."""
        deadline = time.monotonic() + 60
        while True:
            found = json.load(urllib.request.urlopen(self.base))
            if len(found) >= least:
                return [Posted(path, headers, base64.b64decode(body)) for path, headers, body in found]
            assert time.monotonic() < deadline, found
            time.sleep(0.05)


@define
class Browser:
    """Has keys of its own, which the push service does not know."""

    name: str
    key: ec.EllipticCurvePrivateKey = field(factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    secret: bytes = b"sixteen bytes ok"

    @property
    def path(self) -> str:
        return f"/push/{self.name}"

    @property
    def pushkey(self) -> str:
        return encode(self.key.public_key().public_bytes(*_POINT))

    @property
    def auth(self) -> str:
        return encode(self.secret)

    def open(self, body: bytes) -> bytes:
        """A message, step by step as the receiver does it.

        Sources: https://www.rfc-editor.org/rfc/rfc8188#section-2, https://www.rfc-editor.org/rfc/rfc8291#section-3.4
        """
        salt, size, length = body[:16], int.from_bytes(body[16:20], "big"), body[20]
        sender, sealed = body[21 : 21 + length], body[21 + length :]
        assert len(sealed) <= size and len(body) <= 4096
        shared = self.key.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), sender))
        ours = self.key.public_key().public_bytes(*_POINT)
        material = HKDF(SHA256(), 32, self.secret, b"WebPush: info\x00" + ours + sender).derive(shared)
        key = HKDF(SHA256(), 16, salt, b"Content-Encoding: aes128gcm\x00").derive(material)
        nonce = HKDF(SHA256(), 12, salt, b"Content-Encoding: nonce\x00").derive(material)
        plain, _, padding = AESGCM(key).decrypt(nonce, sealed, None).rpartition(b"\x02")
        assert not padding.strip(b"\x00")
        return plain

    def read(self, posted: Posted) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.open(posted.body))
        return told


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def claims_of(authorization: str, public_key: str) -> dict[str, Any]:
    """What a request claims by RFC 8292, if it is signed with that key."""
    scheme, _, rest = authorization.partition(" ")
    parts = dict(one.strip().split("=", 1) for one in rest.split(","))
    assert (scheme.lower(), parts["k"]) == ("vapid", public_key)
    signed, _, signature = parts["t"].rpartition(".")
    numbers = decode(signature)
    r, s = int.from_bytes(numbers[:32], "big"), int.from_bytes(numbers[32:], "big")
    signer = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), decode(public_key))
    signer.verify(encode_dss_signature(r, s), signed.encode(), ec.ECDSA(SHA256()))
    head, _, claims = signed.partition(".")
    assert json.loads(decode(head))["alg"] == "ES256"
    found: dict[str, Any] = json.loads(decode(claims))
    return found


@contextmanager
def running_service(directory: Path) -> Iterator[PushService]:
    with running("tests.push.service", directory) as base:
        yield PushService(base)


def main(port_file: str) -> None:
    posted: list[Any] = []
    behaviour: dict[str, Any] = {"status": 201, "retry_after": None}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/behave":
                behaviour.update(json.loads(body))
                self.answer(200, b"")
                return
            headers = {name.lower(): value for name, value in self.headers.items()}
            posted.append([self.path, headers, base64.b64encode(body).decode()])
            self.answer(behaviour["status"], b"", behaviour["retry_after"])

        def do_GET(self) -> None:
            self.answer(200, json.dumps(posted).encode())

        def answer(self, status: int, body: bytes, retry_after: str | None = None) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if retry_after is not None:
                self.send_header("Retry-After", retry_after)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None: ...

    serve(Handler, port_file)


if __name__ == "__main__":
    main(sys.argv[1])
