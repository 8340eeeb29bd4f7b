"""`media`: quarantine, release, delete and count people's files, in the running server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from homeserver.cli.common import settings_option
from homeserver.cli.shell import ask, conversation

BY = "the command line"
"""Who is noted as having done it."""


@click.group("media")
def command() -> None:
    """Look after people's files, in the running server."""


@command.command("quarantine")
@settings_option
@click.argument("uris", nargs=-1, metavar="[MXC…]")
@click.option("--user", metavar="USER", help="All that this user uploaded.")
@click.option("--room", metavar="ROOM", help="All that this room's unencrypted events name.")
def quarantine(path: Path, uris: Sequence[str], user: str | None, room: str | None) -> None:
    """Let nobody have these files, nor others with the same bytes."""
    _one_of(uris, user, room)
    if user is not None:
        call = f"quarantine_user({user!r}, {BY!r})"
    elif room is not None:
        call = f"quarantine_room({room!r}, {BY!r})"
    else:
        call = f"quarantine({_keys(uris)!r}, {BY!r})"
    click.echo(f"{_call(path, call)} files are in quarantine.")


@command.command("release")
@settings_option
@click.argument("uris", nargs=-1, required=True, metavar="MXC…")
def release(path: Path, uris: Sequence[str]) -> None:
    """Let everybody have these files again."""
    click.echo(f"{_call(path, f'release({_keys(uris)!r})')} files are released.")


@command.command("delete")
@settings_option
@click.argument("uris", nargs=-1, metavar="[MXC…]")
@click.option("--user", metavar="USER", help="All that this user uploaded.")
def delete(path: Path, uris: Sequence[str], user: str | None) -> None:
    """Be rid of these files for good. Copies of other servers' files can be fetched again."""
    _one_of(uris, user)
    call = f"delete_user({user!r})" if user is not None else f"delete({_keys(uris)!r})"
    click.echo(f"{_call(path, call)} files are deleted.")


@command.command("usage")
@settings_option
@click.argument("user", metavar="USER")
def usage(path: Path, user: str) -> None:
    """Tell how much a user has here."""
    size_bytes, files = _call(path, f"usage({user!r})").strip("()").split(", ")
    click.echo(f"{user} has {files} files with {int(size_bytes) / 1024**2:.1f} MiB.")


@command.command("sweep")
@settings_option
def sweep(path: Path) -> None:
    """Delete what the database knows nothing of, as after a restore."""
    click.echo(f"{_call(path, 'sweep()')} files belonged to nothing, and are deleted.")


def _one_of(*given: object) -> None:
    if sum(1 for one in given if one) != 1:
        raise click.UsageError("Name either files, or one whose files are meant.")


def _keys(uris: Sequence[str]) -> list[tuple[str, str]]:
    from homeserver.media.uris import parse_uri

    found = []
    for uri in uris:
        key = parse_uri(uri)
        if key is None:
            raise click.UsageError(f"{uri} is not an address like mxc://example.org/abc.")
        found.append(key)
    return found


def _call(path: Path, call: str) -> str:
    """What a function of the running server's care for files gives."""
    with conversation(path) as stream:
        answer = ask(stream, f"await app.media.care.{call}").strip()
    if "\n" in answer or not answer:
        raise click.ClickException(answer.rpartition("\n")[2] or "the server said nothing")
    return answer
