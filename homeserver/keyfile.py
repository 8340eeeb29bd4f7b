"""The file with the keys that sign as this server: the first in it signs, all of them are published."""

from __future__ import annotations

from pathlib import Path

from federation.room.signing import BadSigningKey, SigningKey, read_signing_keys


def read_key_file(path: Path) -> list[SigningKey]:
    """At least one key. Raises OSError, or BadSigningKey whose message names the file and what is wrong with it."""
    try:
        keys = read_signing_keys(path.read_text(encoding="utf-8"))
    except BadSigningKey as error:
        raise BadSigningKey(f"{path}: {error}") from None
    except UnicodeDecodeError:
        raise BadSigningKey(f"{path} is not a key file: it is not text") from None
    if not keys:
        raise BadSigningKey(f"{path} holds no key; put back a copy of it, or see `rotate-key --lost`")
    ids = [key.key_id for key in keys]
    if len(set(ids)) < len(ids):
        raise BadSigningKey(f"{path} holds two keys of the same version")
    return keys
