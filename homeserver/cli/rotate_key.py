"""`rotate-key`: sign by a new key from now on."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from homeserver.cli.common import load, settings_option
from homeserver.cli.local import LocalServer

if TYPE_CHECKING:
    from federation.room.signing import SigningKey

_RUNNING = "the key was not changed: the server is running; stop it first"


@click.command("rotate-key")
@settings_option
@click.option("--lost", is_flag=True, help="The key file is gone or cannot be read: make a new one all the same.")
def command(path: Path, lost: bool) -> None:
    """Make a new signing key, and remember the old one as expired. Stop the server first.

    What the old key signed stays valid, because its public half is remembered in the database; nothing new can be
    signed by it. A broken key file is kept beside the new one.
    """
    from federation.keys.ports import OwnKey
    from homeserver.keyfile import new_key, replace_key_file
    from storage.errors import DatabaseBusy, StorageError
    from storage.maintenance import note_own_keys

    settings = load(path)
    file, url, name = settings.server.signing_key_path, settings.database.url, settings.server.name
    old = [OwnKey(key.key_id, key.verify_key, None) for key in _read(file, lost)]
    if LocalServer.of(settings).is_running():
        raise click.ClickException(_RUNNING)
    key = new_key()
    try:
        # First, because a server that has never told anybody its keys does not know of them in its database yet, and
        # because one that is running has to be found out before anything is changed.
        note_own_keys(url, name, old, _now_ms())
        if lost and file.exists():
            file.rename(file.with_name(f"{file.name}.broken-{_now_ms()}"))
        replace_key_file(file, key)
        expired = note_own_keys(url, name, [OwnKey(key.key_id, key.verify_key, None)], _now_ms())
    except DatabaseBusy:
        raise click.ClickException(_RUNNING) from None
    except (StorageError, OSError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{file} holds the new key {key.key_id}. Keep a copy of it.")
    if expired:
        click.echo(f"No longer in use, and remembered: {', '.join(each.key_id for each in expired)}.")
    elif lost:
        click.echo("The database remembers no earlier key: what this server said before cannot be verified any more.")


def _read(file: Path, lost: bool) -> list[SigningKey]:
    from federation.room.signing import BadSigningKey
    from homeserver.keyfile import read_key_file

    try:
        keys = read_key_file(file)
    except (OSError, BadSigningKey) as error:
        if lost:
            return []
        raise click.ClickException(f"{error}; where no copy of the key is left, --lost makes a new one") from None
    if lost:
        raise click.ClickException(f"{file} can be read: leave out --lost")
    return keys


def _now_ms() -> int:
    return int(time.time() * 1000)
