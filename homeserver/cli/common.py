"""What several verbs share: the `-c` option, and how a mistake in the settings is told."""

from __future__ import annotations

import os
from pathlib import Path

import click

from config import Settings, SettingsError, load_settings

settings_option = click.option(
    "-c",
    "--config",
    "path",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The settings file, as `init` writes it.",
)


def load(path: Path) -> Settings:
    """The settings in force: the file with the environment over it. Ends the command where they cannot be used."""
    try:
        return load_settings(path, os.environ)
    except SettingsError as error:
        raise click.ClickException(str(error)) from None
