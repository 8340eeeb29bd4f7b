"""Talk to this server over HTTP, as any client would: for verbs that need the running server.

Blocking; a command line has nothing else to do meanwhile.
"""

from __future__ import annotations

import hashlib
import hmac
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec

from config import Settings
from homeserver.guilds.client import NotReached, Refused, Session

_REGISTER = "/_synapse/admin/v1/register"


class LocalServer(msgspec.Struct, frozen=True):
    """The running server, at its first listener."""

    base: str
    certificate_path: Path | None = None
    """For HTTPS: what the server must show. Its name does not matter, as nobody else is met on this machine."""
    timeout_s: float = 60
    sleep: Callable[[float], None] = time.sleep

    @classmethod
    def of(cls, settings: Settings) -> LocalServer:
        """Where the settings say that it is; an address for all interfaces is reached by loopback."""
        listener = settings.listeners[0]
        host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(listener.host, listener.host)
        host = f"[{host}]" if ":" in host and not host.startswith("[") else host
        if listener.tls is None:
            return cls(f"http://{host}:{listener.port}")
        return cls(f"https://{host}:{listener.port}", listener.tls.certificate_path)

    def call(self, method: str, path: str, body: object = None, token: str | None = None) -> Any:
        """One request; the JSON of its answer. Waits and tries again when told to slow down.

        Raises NotReached or Refused.
        """
        return self.session(token).call(method, path, body)

    def session(self, token: str | None = None) -> Session:
        """Requests in somebody's name."""
        return Session(self.base, token, self._trust(), self.timeout_s, self.sleep)

    def _trust(self) -> ssl.SSLContext | None:
        if self.certificate_path is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # this certificate itself, whoever issued it
        context.load_verify_locations(self.certificate_path)
        return context

    def is_running(self) -> bool:
        """Whether something answers there like a Matrix homeserver."""
        try:
            return "versions" in msgspec.structs.replace(self, timeout_s=5).call("GET", "/_matrix/client/versions")
        except (NotReached, Refused):
            return False

    def register(self, secret: str, name: str, password: str, *, admin: bool, displayname: str | None = None) -> Any:
        """Make an account by the shared secret. Gives `user_id`, `access_token`, `device_id`."""
        nonce = self.call("GET", _REGISTER)["nonce"]
        words = (nonce, name, password, "admin" if admin else "notadmin")
        mac = hmac.new(secret.encode(), b"\0".join(word.encode() for word in words), hashlib.sha1).hexdigest()
        body = {"nonce": nonce, "username": name, "password": password, "admin": admin, "mac": mac}
        if displayname is not None:
            body["displayname"] = displayname
        return self.call("POST", _REGISTER, body)


def require_running(settings: Settings) -> LocalServer:
    """The running server. Ends the command with advice where there is none."""
    server = LocalServer.of(settings)
    if not server.is_running():
        raise click.ClickException(f"no homeserver answers at {server.base}; start it with `run` first")
    return server
