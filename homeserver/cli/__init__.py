"""The command line: `python -m homeserver VERB`, or `guildhall VERB` where the package is installed.

Each verb is a file of this folder and is imported only when it is called: `run` starts a server, and what the
others need for talking to people (tables, progress bars) would only slow it down.
"""

from __future__ import annotations

from importlib import import_module

import click

import homeserver

#: Verb → module of this folder; the command in it is called `command`.
VERBS = {
    "init": "init",
    "run": "run",
    "check": "check",
    "config": "config",
    "register-user": "register_user",
    "backup": "backup",
    "restore": "restore",
    "rotate-key": "rotate_key",
    "reindex": "reindex",
    "reset": "reset",
    "demo": "demo",
    "harness": "harness",
    "media": "media",
    "shell": "shell",
}


class _Verbs(click.Group):
    """Knows its commands by name, and imports the one that is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command = import_module(f"homeserver.cli.{VERBS[cmd_name]}").command
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_Verbs)
@click.version_option(homeserver.__version__, prog_name="guildhall")
def main() -> None:
    """Guildhall, a Matrix homeserver for communities."""
