"""The file with the keys that sign as this server: the first in it signs, all of them are published."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from federation.room.signing import BadSigningKey, SigningKey, read_signing_keys, write_signing_key
from storage.files import sync_file


def read_key_file(path: Path) -> list[SigningKey]:
    """At least one key. Raises OSError, or BadSigningKey whose message names the file and what is wrong with it."""
    try:
        keys = read_signing_keys(path.read_text(encoding="utf-8"))
    except BadSigningKey as error:
        raise BadSigningKey(f"{path}: {error}") from None
    except UnicodeDecodeError:
        raise BadSigningKey(f"{path} is not a key file: it is not text") from None
    if not keys:
        raise BadSigningKey(f"{path} holds no key")
    ids = [key.key_id for key in keys]
    if len(set(ids)) < len(ids):
        raise BadSigningKey(f"{path} holds two keys of the same version")
    return keys


def new_key() -> SigningKey:
    """A random key with a short random name, so that keys of one server are told apart."""
    return SigningKey.generate(f"a_{secrets.token_hex(3)}")


def replace_key_file(path: Path, key: SigningKey) -> None:
    """Make this key the only one in the file: it is the old file or the new one at every moment. Raises OSError."""
    unfinished = path.with_name(path.name + ".new")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(write_signing_key(key))
        stream.flush()
        os.fsync(descriptor)
    owner = (path if path.exists() else path.parent).stat()
    if (owner.st_uid, owner.st_gid) != (os.geteuid(), os.getegid()):
        os.chown(unfinished, owner.st_uid, owner.st_gid)  # as root: the server must be able to read it too
    unfinished.replace(path)
    sync_file(path.parent)
