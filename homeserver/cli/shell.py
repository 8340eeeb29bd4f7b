"""`shell`: talk Python to the running server, through the socket in its data directory."""

from __future__ import annotations

import ast
import codeop
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import click

from homeserver.cli.common import load, settings_option

SOCKET = "shell.sock"


@click.command("shell")
@settings_option
@click.option("-e", "--execute", metavar="SOURCE", help="Run this and leave, instead of asking.")
def command(path: Path, execute: str | None) -> None:
    """Talk Python to the running server: `app` is the whole of it, `await` works."""
    with conversation(path) as stream:
        if execute is not None:
            click.echo(ask(stream, execute), nl=False)
        else:
            _converse(stream)


@contextmanager
def conversation(path: Path) -> Iterator[IO[bytes]]:
    """Connect to the server that runs on these settings; `ask` speaks over what this gives."""
    where = load(path).server.data_dir / SOCKET
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(where))
        except OSError as error:
            raise click.ClickException(f"no running server answers at {where}: {error}") from None
        stream: IO[bytes] = connection.makefile("rwb")  # type: ignore[assignment]
        with stream:
            yield stream


def _converse(stream: IO[bytes]) -> None:
    import readline  # gives input() its history and editing

    readline.parse_and_bind("tab: self-insert")
    click.echo("Python inside the running server; `app` is the whole of it. Leave with Ctrl-D.")
    lines: list[str] = []
    while True:
        try:
            lines.append(input("... " if lines else ">>> "))
        except KeyboardInterrupt:
            click.echo()
            lines.clear()
            continue
        except EOFError:
            click.echo()
            return
        source = "\n".join(lines)
        if not source.strip():
            lines.clear()
        elif is_complete(source):
            click.echo(ask(stream, source), nl=False)
            lines.clear()


def is_complete(source: str) -> bool:
    """Whether the source can be run as it is, or is wrong already, so that the server shall say so."""
    compiler = codeop.CommandCompiler()
    compiler.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    try:
        return compiler(source, "<shell>", "single") is not None
    except (SyntaxError, ValueError, OverflowError):
        return True


def ask(stream: IO[bytes], source: str) -> str:
    """Send source, and wait for all that the server has to say about it."""
    stream.write(json.dumps({"source": source}).encode() + b"\n")
    stream.flush()
    line = stream.readline()
    if not line:
        raise click.ClickException("the server ended the conversation")
    return str(json.loads(line)["output"])
