"""`reindex`: make the search index anew."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from homeserver.cli.common import load, settings_option
from homeserver.cli.local import LocalServer

if TYPE_CHECKING:
    from homeserver.app import House


@click.command("reindex")
@settings_option
def command(path: Path) -> None:
    """Make the search index anew, of all messages, and what is known of their relations. Stop the server first.

    A server keeps its index by itself, and after an upgrade from a version without one it makes it while it runs:
    this is for an index that was damaged.
    """
    from homeserver.cli.offline import with_house

    settings = load(path)
    if LocalServer.of(settings).is_running():
        raise click.ClickException("nothing was changed: the server is running; stop it first")
    click.echo(f"{with_house(settings, _reindex)} texts can be searched now.")


async def _reindex(house: House) -> int:
    from storage import search

    await house.database.write(search.clear)
    await house.indexer.start()
    return await house.database.run(search.size)
