"""Addresses on which the server answers HTTP."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

from config.field import between, ip_networks, not_empty, setting


@frozen(kw_only=True)
class Tls:
    """Certificate and key of a listener that speaks HTTPS itself, without a reverse proxy."""

    certificate_path: Path = setting(doc="The certificate with its chain, PEM.")
    key_path: Path = setting(doc="Its private key, PEM.")


@frozen(kw_only=True)
class Listener:
    """One address on which the server answers."""

    host: str = setting("127.0.0.1", doc="The address to listen on; '::' for all.", check=not_empty)
    port: int = setting(8008, doc="The TCP port; 0 lets the system choose.", check=between(0, 65535))
    tls: Tls | None = setting(None, doc="Certificate and key; without them the listener speaks plain HTTP.")
    forwarded: bool = setting(
        False,
        doc="Whether a reverse proxy stands before this listener, so that X-Forwarded-For tells whom rate limits mean.",
    )
    trusted_proxies: tuple[str, ...] = setting(
        ("127.0.0.0/8", "::1"),
        doc="Addresses or ranges of the proxies whose X-Forwarded-For is believed where `forwarded` is on. Whoever "
        "connects from elsewhere is a client, whatever it claims.",
        check=ip_networks,
    )
