"""`init`: make the settings file and the signing key of a new server."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

import click

from config import PROFILES, SettingsError, make_settings
from config.document import document

SETTINGS_FILE = "homeserver.yaml"


@click.command("init")
@click.option("--server-name", required=True, metavar="NAME", help="The part after the colon in @alice:example.org.")
@click.option("--data-dir", required=True, metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option("--profile", type=click.Choice(list(PROFILES)), default="production", show_default=True)
@click.option("--database", metavar="URL", help="postgresql://… or sqlite:///PATH; SQLite in DIR when left out.")
@click.option("--registration-shared-secret", metavar="SECRET", help="Random when left out.")
def command(
    server_name: str,
    data_dir: Path,
    profile: str,
    database: str | None,
    registration_shared_secret: str | None,
) -> None:
    """Write DIR/homeserver.yaml and a signing key. Overwrites nothing."""
    values: dict[str, Any] = {
        "profile": profile,
        "server": {"name": server_name},
        "registration": {"shared_secret": registration_shared_secret or secrets.token_urlsafe(32)},
    }
    if database is not None:
        values["database"] = {"url": database}
    files = write_new_server(data_dir, values)
    click.echo(f"Wrote {' and '.join(map(str, files))}.")
    click.echo(f"Start the server with: python -m homeserver run -c {data_dir / SETTINGS_FILE}")


def write_new_server(data_dir: Path, values: dict[str, Any]) -> list[Path]:
    """Write the settings file and a signing key; gives the files. Ends the command where that cannot be."""
    try:
        settings = make_settings(values, "the command line")
    except SettingsError as error:
        raise click.ClickException(str(error)) from None
    files = {
        data_dir / SETTINGS_FILE: lambda: document(values),
        data_dir / settings.server.signing_key_path: _new_key,
    }
    for file in files:
        if file.exists():
            raise click.ClickException(f"{file} is there already; nothing was written")
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    for file, text in files.items():
        write_private(file, text())
    return list(files)


def _new_key() -> str:
    from federation.room.signing import write_signing_key
    from homeserver.keyfile import new_key

    return write_signing_key(new_key())


def write_private(file: Path, text: str) -> None:
    """Write a new file that only its owner can read. Raises FileExistsError rather than overwrite one."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
