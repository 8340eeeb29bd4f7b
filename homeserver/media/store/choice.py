"""The store that the settings say."""

from __future__ import annotations

from pathlib import Path

from config import Settings
from homeserver.media.store.local import LocalStore
from homeserver.media.store.port import INCOMING, Store


def media_folder(settings: Settings) -> Path:
    """The folder for files, or for those on their way to a store elsewhere."""
    return settings.server.data_dir / settings.media.path


def make_store(settings: Settings) -> Store:
    """Where people's files are kept. Nothing is opened or asked yet."""
    ours = settings.media
    if ours.s3 is None or ours.store == "local":
        return LocalStore(media_folder(settings))
    from homeserver.media.store.s3 import S3Store

    return S3Store(ours.s3, media_folder(settings) / INCOMING)
