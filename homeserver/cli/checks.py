"""What `check` looks at: each check tries one thing on the real world, and says in words what it found."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from config import Listener, Settings
from homeserver.cli.certificates import check_certificate, check_names
from homeserver.cli.findings import Finding, bad, good, warning
from homeserver.cli.local import LocalServer

_UNSYNCHRONISED = 5
"""What adjtimex(2) answers then."""


def check_profile(settings: Settings) -> Iterator[Finding]:
    """Openness that fits one's own machine but not the internet."""
    far = [listener for listener in settings.listeners if not _is_loopback(listener.host)]
    if settings.profile != "production" and far:
        yield warning("profile", f"{settings.profile} is not made for listeners that others can reach")
    else:
        yield good("profile", settings.profile)
    registration = settings.registration
    if registration.enabled and not registration.requires_token and settings.profile == "production":
        yield warning("registration", "is open to everybody, so spammers will come: consider requires_token")
    if registration.requires_token and not registration.enabled:
        yield warning("registration", "requires_token has no effect while registration is not enabled")


def check_event_loop(_settings: Settings) -> Iterator[Finding]:
    """uvloop saves a third of the CPU time."""
    try:
        import uvloop  # noqa: F401
    except ImportError:
        yield warning("event loop", "uvloop is not installed; each request costs half as much CPU again")
    else:
        yield good("event loop", "uvloop")


def check_data_dir(settings: Settings) -> Iterator[Finding]:
    path = settings.server.data_dir
    if not path.is_dir():
        yield bad("data directory", f"{path} does not exist")
    elif not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        yield bad("data directory", f"{path} cannot be written to")
    else:
        yield good("data directory", str(path))


def check_signing_key(settings: Settings) -> Iterator[Finding]:
    from federation.room.signing import BadSigningKey
    from homeserver.keyfile import read_key_file

    path = settings.server.signing_key_path
    try:
        keys = read_key_file(path)
    except OSError as error:
        yield bad("signing key", f"{path} cannot be read: {error.strerror or error}")
        return
    except BadSigningKey as error:
        yield bad("signing key", str(error))
        return
    yield good("signing key", ", ".join(key.key_id for key in keys))
    yield from _check_private("signing key", path)


def check_secrets(settings: Settings) -> Iterator[Finding]:
    path = settings.server.data_dir / "homeserver.yaml"
    if settings.registration.shared_secret is not None and path.exists():
        yield from _check_private("settings", path)


def _check_private(subject: str, path: Path) -> Iterator[Finding]:
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        yield warning(subject, f"{path} can be read by others on this machine: chmod 600 it")


def check_database(settings: Settings) -> Iterator[Finding]:
    from storage.errors import DatabaseUnusable
    from storage.maintenance import describe_database

    try:
        yield good("database", describe_database(settings.database.url, settings.server.name))
    except DatabaseUnusable as error:
        yield bad("database", str(error))


def check_listeners(settings: Settings) -> Iterator[Finding]:
    for listener in settings.listeners:
        subject = f"port {listener.port}"
        why = _try_to_listen(listener)
        if why is None:
            yield good(subject, f"{listener.host} is free to listen on")
        elif why.errno == errno.EADDRINUSE and LocalServer.of(settings).is_running():
            yield good(subject, "a homeserver answers there already")
        else:
            yield bad(subject, f"cannot listen on {listener.host}: {why.strerror or why}")
        if listener.tls is not None:
            yield from check_certificate(listener.tls)
            yield from check_names(settings, listener.tls)


def _try_to_listen(listener: Listener) -> OSError | None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            listener.host, listener.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return error
    return None


def check_clock(settings: Settings) -> Iterator[Finding]:
    """Whether the kernel knows of anything that keeps the clock right. In some containers it does not say."""
    if settings.profile != "production":
        return
    import ctypes

    state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))
    if state == _UNSYNCHRONISED:
        yield warning("clock", "nothing keeps it right, as far as this machine's kernel knows: does NTP run here?")
    elif state >= 0:
        yield good("clock", "is kept right")


def check_public_address(settings: Settings) -> Iterator[Finding]:
    baseurl = settings.server.public_baseurl
    if baseurl is None:
        if settings.profile == "production":
            yield warning("public address", "public_baseurl is not set, so clients cannot find it by the server's name")
    elif baseurl.startswith("http://") and settings.profile == "production":
        yield warning("public address", f"{baseurl} is not encrypted, and web clients will refuse it")
    else:
        yield good("public address", baseurl)


def _is_loopback(host: str) -> bool:
    return host == "localhost" or host == "::1" or host.startswith("127.")


Check = Callable[[Settings], Iterator[Finding]]

#: In the order in which they are told.
CHECKS: Sequence[Check] = (
    check_profile,
    check_event_loop,
    check_data_dir,
    check_signing_key,
    check_secrets,
    check_database,
    check_listeners,
    check_public_address,
    check_clock,
)
