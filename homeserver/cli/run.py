"""`run`: start the server, and stay until SIGTERM or SIGINT. Imports little: start-up time is measured."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path

import attrs
import click

from config import Settings
from homeserver.cli.common import load, settings_option
from homeserver.lean import absent, forget_made_up_sources


@click.command("run")
@settings_option
@click.option("--listen", metavar="HOST:PORT", help="Answer there, instead of at the listeners in the settings.")
def command(path: Path, listen: str | None) -> None:
    """Run the server."""
    forget_made_up_sources()
    from homeserver.observe.log import capture_twisted, configure_logging, structlog

    settings = load(path)
    if listen is not None:
        settings = listen_at(settings, listen)
    configure_logging(settings.logging, final=True)
    capture_twisted()

    # Twisted takes OpenSSL along for listeners and mail. Connections to others bring it with the first of them.
    with nullcontext() if _needs_tls(settings) else absent("OpenSSL"):
        from homeserver.reactor import install_reactor

        if not install_reactor():
            structlog.get_logger().warning("uvloop is not installed; each request will cost half as much CPU again")

        from twisted.internet.error import CannotListenError

        from federation.outbound.trust import BadAuthorities
        from federation.room.signing import BadSigningKey
        from homeserver.app import run
        from homeserver.http.sockets import BadCertificate
        from storage.errors import DatabaseUnusable

    try:
        run(settings)
    except (DatabaseUnusable, CannotListenError, BadSigningKey, BadCertificate, BadAuthorities, OSError) as error:
        # What whoever runs the server can mend: a traceback would hide it.
        structlog.get_logger().error("cannot start", why=str(error))
        sys.exit(1)


def _needs_tls(settings: Settings) -> bool:
    """Whether Twisted's own TLS is in use from the start."""
    return settings.email.smtp_host is not None or any(listener.tls is not None for listener in settings.listeners)


def listen_at(settings: Settings, address: str) -> Settings:
    """The same settings with one listener, at `HOST:PORT` or `[IPV6]:PORT`; for the rest it is like the first one."""
    host, colon, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (colon and host and port.isascii() and port.isdigit() and int(port) <= 65535):
        raise click.BadParameter(f"{address!r} is not HOST:PORT", param_hint="--listen")
    return attrs.evolve(settings, listeners=(attrs.evolve(settings.listeners[0], host=host, port=int(port)),))
