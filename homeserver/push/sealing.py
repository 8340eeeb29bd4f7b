"""Messages to browsers, sealed so that the push service between does not read them (RFC 8291).

With the primitives of `cryptography`, which is here anyway. (http-ece, the package for it, comes without wheels.)

Source: https://www.rfc-editor.org/rfc/rfc8291#section-3.4
"""

from __future__ import annotations

import os

from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDH,
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

LARGEST_BODY = 4_096
"""What every push service takes (https://www.rfc-editor.org/rfc/rfc8030#section-7.2); one record, too."""
OVERHEAD = 16 + 4 + 1 + 65 + 1 + 16
"""Salt, size of records, length of the key, the key; delimiter, tag."""
LARGEST_PLAIN = LARGEST_BODY - OVERHEAD

_LAST = b"\x02"
"""Ends the last record."""


def seal(
    plain: bytes,
    reader: bytes,
    secret: bytes,
    *,
    key: EllipticCurvePrivateKey | None = None,
    salt: bytes | None = None,
) -> bytes:
    """The body of a message of at most `LARGEST_PLAIN` bytes; its content encoding is `aes128gcm`.

    `reader`: the browser's public key, a point of 65 bytes; `secret`: the 16 bytes it shares with us. `key`, `salt`:
    used once; chosen here unless a test does. Raises ValueError where `reader` is no point.
    """
    public = read_point(reader)
    key = key or generate_private_key(SECP256R1())
    salt = salt or os.urandom(16)
    ours = write_point(key.public_key())
    shared = _derive(key.exchange(ECDH(), public), secret, b"WebPush: info\0" + reader + ours, 32)
    content_key = _derive(shared, salt, b"Content-Encoding: aes128gcm\0", 16)
    nonce = _derive(shared, salt, b"Content-Encoding: nonce\0", 12)
    head = salt + LARGEST_BODY.to_bytes(4, "big") + bytes([len(ours)]) + ours
    return head + AESGCM(content_key).encrypt(nonce, plain + _LAST, None)


def read_point(point: bytes) -> EllipticCurvePublicKey:
    """Raises ValueError."""
    return EllipticCurvePublicKey.from_encoded_point(SECP256R1(), point)


def write_point(key: EllipticCurvePublicKey) -> bytes:
    """In its uncompressed form."""
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def _derive(secret: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    return HKDF(SHA256(), length, salt, info).derive(secret)
