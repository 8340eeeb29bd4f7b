"""`restore`: make a server again from what `backup` saved."""

from __future__ import annotations

from pathlib import Path

import click

from homeserver.cli.common import load, settings_option


@click.command("restore")
@settings_option
@click.argument("source", metavar="SOURCE", type=click.Path(path_type=Path, exists=True, file_okay=False))
def command(path: Path, source: Path) -> None:
    """Put back the backup in the folder SOURCE. Overwrites nothing.

    Where FILE is not there, it is written as the backup has it; where it is, it says where everything goes.
    """
    from homeserver.backup import SETTINGS, check_place, read_backup
    from homeserver.backup import restore as put_back
    from homeserver.cli.init import write_private
    from storage.errors import StorageError

    ours: list[Path] = []
    try:
        manifest = read_backup(source)
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(path, (source / SETTINGS).read_text(encoding="utf-8"))
            ours.append(path)
        settings = load(path)
        check_place(settings, manifest)
    except (StorageError, OSError, click.ClickException) as error:
        for file in ours:
            file.unlink()
        raise click.ClickException(f"nothing was restored: {error}") from None
    try:
        put_back(settings, source, manifest)
    except (StorageError, OSError) as error:
        raise click.ClickException(f"not everything could be restored: {error}") from None
    click.echo(f"Restored {manifest.server_name} as it was at {manifest.made_at}.")
    click.echo(f"Start the server with: python -m homeserver run -c {path}")
