"""A backup of the whole server, made while it runs: a folder that says itself what must be in it.

    homeserver.yaml     the settings, as they are written
    signing.key         whoever has it can speak as this server
    policy.key          whoever has it can speak as a policy server of this name, if this is one
    database.sqlite     or database.pgdump, as `storage.backup` makes them
    media/              people's files, where there are any, from wherever they are kept; thumbnails can be made again
    manifest.json       whose backup it is, and length and SHA-256 of every other file

The database comes first and media after it: files that it names are then there, and what was added meanwhile does no
harm. A backup is made beside its place and put there when it is whole.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import msgspec

import homeserver
from config import Settings
from homeserver.keyfile import read_key_file
from homeserver.media.store.choice import make_store, media_folder
from homeserver.media.store.port import INCOMING, Store
from storage.backup import BackupFailed, Copied, check_target, copy_database, dialect_of, put_back
from storage.files import sync_file
from storage.ports import Dialect

FORMAT = 1
MANIFEST = "manifest.json"
SETTINGS = "homeserver.yaml"
SIGNING_KEY = "signing.key"
POLICY_KEY = "policy.key"
MEDIA = "media"
_DATABASE: Mapping[Dialect, str] = {"sqlite": "database.sqlite", "postgresql": "database.pgdump"}
_CHUNK_BYTES = 1024 * 1024


class SavedFile(msgspec.Struct, frozen=True):
    """What a file of the backup must be."""

    size_bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """What stands in `manifest.json`."""

    format: int
    made_by: str
    made_at: str
    """UTC, as ISO 8601 has it."""
    server_name: str
    dialect: Dialect
    schema: int
    files: Mapping[str, SavedFile]
    """By path below the backup's folder."""
    with_media: bool = True
    """Whether people's files are in it; without them, those that are where they belong stay there."""

    @property
    def copied(self) -> Copied:
        return Copied(self.dialect, self.schema)


def make_backup(settings: Settings, settings_path: Path, target: Path, *, with_media: bool = True) -> Manifest:
    """Make the folder `target`. The server may run. Raises BackupFailed, DatabaseUnusable, BadSigningKey, OSError."""
    if target.exists():
        raise BackupFailed(f"{target} is there already")
    unfinished = target.with_name(target.name + ".unfinished")
    unfinished.mkdir(mode=0o700, parents=True)
    try:
        manifest = _fill(unfinished, settings, settings_path, with_media)
        unfinished.rename(target)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    sync_file(target.parent)
    return manifest


def _fill(folder: Path, settings: Settings, settings_path: Path, with_media: bool) -> Manifest:
    made_at = datetime.now(UTC).isoformat(timespec="seconds")
    read_key_file(settings.server.signing_key_path)  # better known now than on the day it is needed
    database = folder / _DATABASE[dialect_of(settings.database.url)]
    copied = copy_database(settings.database.url, settings.server.name, database)
    database.chmod(0o600)
    files = {database.name: measure(database)}
    files[SETTINGS] = _copy(settings_path, folder / SETTINGS)
    files[SIGNING_KEY] = _copy(settings.server.signing_key_path, folder / SIGNING_KEY)
    policy_key = settings.federation.policy_key_path
    if policy_key is not None and policy_key.exists():
        files[POLICY_KEY] = _copy(policy_key, folder / POLICY_KEY)
    if with_media:
        files |= _copy_media(make_store(settings), folder)
    manifest = Manifest(
        format=FORMAT,
        made_by=f"Guildhall {homeserver.__version__}",
        made_at=made_at,
        server_name=settings.server.name,
        dialect=copied.dialect,
        schema=copied.schema,
        files=files,
        with_media=with_media,
    )
    text = msgspec.json.format(msgspec.json.encode(manifest, order="sorted"), indent=1)
    _write(folder / MANIFEST, [text + b"\n"])
    for directory in {folder, *((folder / name).parent for name in files)}:
        sync_file(directory)
    return manifest


def read_backup(source: Path) -> Manifest:
    """The manifest of a backup, all of whose files are as it says. Raises BackupFailed, OSError."""
    try:
        manifest = msgspec.json.decode((source / MANIFEST).read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise BackupFailed(f"{source} is no backup: there is no {MANIFEST} in it") from None
    except msgspec.DecodeError as error:
        raise BackupFailed(f"{source / MANIFEST} cannot be read: {error}") from None
    if manifest.format != FORMAT:
        raise BackupFailed(f"{source} is of format {manifest.format}, and this program knows {FORMAT} only")
    for name in (SETTINGS, SIGNING_KEY, _DATABASE[manifest.dialect]):
        if name not in manifest.files:
            raise BackupFailed(f"{source / MANIFEST} does not name {name}")
    for name, wanted in manifest.files.items():
        if not _stays_inside(name):
            raise BackupFailed(f"{source / MANIFEST} names {name!r}, which is no place inside the backup")
        try:
            found = measure(source / name)
        except FileNotFoundError:
            raise BackupFailed(f"{source / name} is missing") from None
        if found != wanted:
            raise BackupFailed(f"{source / name} is not what was saved: the backup is damaged")
    return manifest


def check_place(settings: Settings, manifest: Manifest) -> None:
    """Whether the backup can be put where the settings say: it is this server's, and nothing would be overwritten.

    Raises BackupFailed or DatabaseUnusable. A key file that is the same as the backup's may stay.
    """
    if manifest.server_name != settings.server.name:
        raise BackupFailed(f"the backup is of {manifest.server_name}, and the settings are of {settings.server.name}")
    key = settings.server.signing_key_path
    if key.exists() and measure(key) != manifest.files[SIGNING_KEY]:
        raise BackupFailed(f"{key} is there already, and is another key")
    policy_key = settings.federation.policy_key_path
    if policy_key is not None and policy_key.exists() and measure(policy_key) != manifest.files.get(POLICY_KEY):
        raise BackupFailed(f"{policy_key} is there already, and is another key")
    if manifest.with_media:
        there = next(make_store(settings).names(), None)
        if there is not None:
            raise BackupFailed(f"where media are kept, {there} is there already")
    check_target(settings.database.url, manifest.copied)


def restore(settings: Settings, source: Path, manifest: Manifest) -> None:
    """Put database, media and key where the settings say, which `check_place` has allowed.

    Raises BackupFailed, DatabaseUnusable, OSError.
    """
    put_back(settings.database.url, manifest.copied, source / _DATABASE[manifest.dialect])
    store = make_store(settings)
    incoming = media_folder(settings) / INCOMING
    for name in manifest.files:
        if name.startswith(f"{MEDIA}/"):
            copy = incoming / "restored"
            _copy(source / name, copy)
            store.put(name.removeprefix(f"{MEDIA}/"), copy)
    key = settings.server.signing_key_path
    if not key.exists():
        _copy(source / SIGNING_KEY, key)
    policy_key = settings.federation.policy_key_path
    if policy_key is not None and POLICY_KEY in manifest.files and not policy_key.exists():
        _copy(source / POLICY_KEY, policy_key)


def measure(file: Path) -> SavedFile:
    """Length and checksum of a file."""
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256")
        return SavedFile(stream.tell(), digest.hexdigest())


def _copy(source: Path, target: Path) -> SavedFile:
    """Copy into a new file; what was written to it."""
    with source.open("rb") as stream:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return _write(target, iter(lambda: stream.read(_CHUNK_BYTES), b""))


def _write(target: Path, chunks: Iterable[bytes]) -> SavedFile:
    digest = hashlib.sha256()
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        for chunk in chunks:
            digest.update(chunk)
            stream.write(chunk)
        stream.flush()
        os.fsync(stream.fileno())
        return SavedFile(stream.tell(), digest.hexdigest())


def _copy_media(store: Store, folder: Path) -> Mapping[str, SavedFile]:
    """Everything that is kept, but for thumbnails."""
    found: dict[str, SavedFile] = {}
    for name in store.names():
        if name.startswith("thumbnails/"):
            continue
        try:
            with store.as_file(name) as path:
                found[f"{MEDIA}/{name}"] = _copy(path, folder / MEDIA / name)
        except FileNotFoundError:
            continue  # deleted since it was listed
    return found


def _stays_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts
