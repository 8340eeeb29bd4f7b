"""`reset`: begin anew with the same settings and the same key."""

from __future__ import annotations

from pathlib import Path

import click

from homeserver.cli.common import load, settings_option
from homeserver.cli.local import LocalServer


@click.command("reset")
@settings_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def command(path: Path, yes: bool) -> None:
    """Remove all accounts, rooms and messages. Settings and signing key stay."""
    from config.database import hide_password
    from storage.errors import DatabaseUnusable
    from storage.maintenance import erase_database

    settings = load(path)
    if LocalServer.of(settings).is_running():
        raise click.ClickException("nothing was removed: the server is running; stop it first")
    where = hide_password(settings.database.url)
    if not yes:
        click.echo(f"This removes all accounts, rooms and messages of {settings.server.name} from {where}.")
        if click.prompt("Type the server's name to go on", default="", show_default=False) != settings.server.name:
            raise click.ClickException("nothing was removed")
    try:
        erase_database(settings.database.url, settings.server.name)
    except DatabaseUnusable as error:
        raise click.ClickException(f"nothing was removed: {error}") from None
    click.echo("Removed. The next start begins anew.")
