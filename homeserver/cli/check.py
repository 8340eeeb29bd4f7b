"""`check`: try the settings on the real world."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from homeserver.cli.common import load, settings_option

_MARKS = {"good": "[green]✓[/]", "warning": "[yellow]![/]", "bad": "[red]✗[/]"}


@click.command("check")
@settings_option
def command(path: Path) -> None:
    """Try the settings on the real world, and say what is wrong. Ends with 1 if the server could not work."""
    from rich.console import Console
    from rich.markup import escape

    from homeserver.cli.checks import CHECKS, Level

    settings = load(path)
    findings = [finding for check in CHECKS for finding in check(settings)]
    console = Console(soft_wrap=True, highlight=False)
    width = max(len(finding.subject) for finding in findings)
    for finding in findings:
        console.print(f"{_MARKS[finding.level.value]} {finding.subject:{width}}  {escape(finding.text)}")
    sys.exit(any(finding.level is Level.BAD for finding in findings))
