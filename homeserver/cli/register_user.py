"""`register-user`: make an account, through the running server or, where none runs, in its database."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from homeserver.cli.common import load, settings_option
from homeserver.cli.local import LocalServer
from homeserver.guilds.client import NotReached, Refused

if TYPE_CHECKING:
    from config import Settings


@click.command("register-user")
@settings_option
@click.option("-u", "--user", "name", required=True, metavar="NAME", help="alice, for @alice:SERVER.")
@click.option("-p", "--password", metavar="PASSWORD", help="Asked for when left out, which keeps it out of histories.")
@click.option("--admin", is_flag=True, help="Make the account an administrator of this server.")
def command(path: Path, name: str, password: str | None, admin: bool) -> None:
    """Make an account, whether or not registration is open."""
    settings = load(path)
    name = name.removeprefix("@").removesuffix(f":{settings.server.name}")
    if password is None:
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    try:
        user_id = _register(settings, name, password, admin=admin)
    except Refused as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"Made the account {user_id}.")


def _register(settings: Settings, name: str, password: str, *, admin: bool) -> str:
    server = LocalServer.of(settings)
    if not server.is_running():
        from homeserver.cli.offline import register

        return register(settings, name, password, admin=admin)
    secret = settings.registration.shared_secret
    if secret is None:
        raise click.ClickException(
            "the server is running, and takes accounts from here only if registration.shared_secret is set; "
            "set it, or stop the server first"
        )
    try:
        return str(server.register(secret, name, password, admin=admin)["user_id"])
    except NotReached as error:
        raise click.ClickException(str(error)) from None
