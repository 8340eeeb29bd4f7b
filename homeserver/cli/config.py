"""`config`: show the settings in force."""

from __future__ import annotations

from pathlib import Path

import click
import yaml

from config.mask import masked
from homeserver.cli.common import load, settings_option


@click.command("config")
@settings_option
def command(path: Path) -> None:
    """Show the settings in force, as YAML, with secrets masked."""
    settings = masked(load(path))
    click.echo(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True), nl=False)
