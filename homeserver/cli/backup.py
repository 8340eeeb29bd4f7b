"""`backup`: save the whole server in a folder, while it runs."""

from __future__ import annotations

import os
from pathlib import Path

import click

from homeserver.cli.common import load, settings_option


@click.command("backup")
@settings_option
@click.option("--without-media", is_flag=True, help="Leave out people's files: for whoever saves them otherwise.")
@click.argument("target", metavar="DEST", type=click.Path(path_type=Path))
def command(path: Path, target: Path, without_media: bool) -> None:
    """Save settings, signing key, database and media in the new folder DEST. The server may run."""
    from federation.room.signing import BadSigningKey
    from homeserver.backup import make_backup
    from storage.errors import StorageError

    settings = load(path)
    try:
        manifest = make_backup(settings, path, target, with_media=not without_media)
    except (StorageError, BadSigningKey, OSError) as error:
        raise click.ClickException(f"no backup was made: {error}") from None
    size_mib = sum(file.size_bytes for file in manifest.files.values()) / 1024**2
    click.echo(f"Saved {settings.server.name} in {target}: {len(manifest.files)} files, {size_mib:.1f} MiB.")
    names = sorted(name for name in os.environ if name.startswith("GUILDHALL_"))
    if names:
        click.echo(f"Settings that come from the environment are not in it: {', '.join(names)}.", err=True)
