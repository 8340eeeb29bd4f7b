"""`check`: try the settings on the real world."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from homeserver.cli.common import load, settings_option

if TYPE_CHECKING:
    from config import Settings
    from homeserver.cli.findings import Finding

_MARKS = {"good": "[green]✓[/]", "warning": "[yellow]![/]", "bad": "[red]✗[/]"}


@click.command("check")
@settings_option
@click.option("--offline", is_flag=True, help="Leave out what needs the network: how others find this server.")
def command(path: Path, offline: bool) -> None:
    """Try the settings on the real world, and say what is wrong. Ends with 1 if the server could not work."""
    from rich.console import Console
    from rich.markup import escape

    from homeserver.cli.checks import CHECKS

    settings = load(path)
    findings = [finding for check in CHECKS for finding in check(settings)]
    # A server for oneself is not to be found by anybody.
    if not offline and settings.profile != "dev":
        findings += _look_around(settings)
    console = Console(soft_wrap=True, highlight=False)
    width = max(len(finding.subject) for finding in findings)
    for finding in findings:
        console.print(f"{_MARKS[finding.level.value]} {finding.subject:{width}}  {escape(finding.text)}")
    sys.exit(any(finding.level.is_bad for finding in findings))


def _look_around(settings: Settings) -> list[Finding]:
    from federation.room.signing import BadSigningKey
    from homeserver.cli.local import LocalServer
    from homeserver.cli.reach.look import look_around
    from homeserver.cli.reach.post import check_post
    from homeserver.keyfile import read_key_file

    try:
        key_ids = [key.key_id for key in read_key_file(settings.server.signing_key_path)]
    except (OSError, BadSigningKey):
        key_ids = []  # told already
    return [*check_post(settings), *look_around(settings, key_ids, LocalServer.of(settings).is_running())]
