"""How this server talks to others."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

from config.field import at_least, ip_networks, setting
from config.server import check_server_name


def _server_names(value: object) -> str | None:
    assert isinstance(value, tuple)
    return next((why for name in value if (why := check_server_name(name)) is not None), None)


@frozen(kw_only=True)
class Federation:
    """How this server talks to others."""

    enabled: bool = setting(True, doc="Whether other servers can take part in rooms here, and people here in theirs.")
    allow_loopback: bool = setting(
        False,
        doc="Whether a peer may live on this machine's own addresses. For tests: it opens local services to guesses.",
    )
    allowed_private_ranges: tuple[str, ...] = setting(
        (),
        doc="Private address ranges in which peers may live (10.0.0.0/8); all others are refused, after DNS too.",
        check=ip_networks,
    )
    ca_path: Path | None = setting(
        None, doc="Certificate authorities (PEM) to trust for peers, instead of the system's: for a closed federation."
    )
    notaries: tuple[str, ...] = setting(
        ("matrix.org",),
        doc="Servers that are asked for the signing keys of others that do not answer, so that what those once said "
        "can still be verified. Their word is believed. They learn which servers this one has to do with.",
        check=_server_names,
    )
    share_device_names: bool = setting(
        False,
        doc="Whether other servers are told what people here call their devices. People there see those names when "
        "they look at somebody's devices.",
    )
    connect_timeout_ms: int = setting(
        10_000,
        doc="How long one address of a peer has to accept a connection and prove whose it is.",
        check=at_least(1),
    )
    timeout_ms: int = setting(
        60_000,
        doc="How long a peer has for most answers, to the last byte; what takes long, such as joining, has more.",
        check=at_least(1),
    )
    policy_key_path: Path | None = setting(
        None,
        doc="Be a policy server for rooms that choose this one by an m.room.policy event, and sign with the key in "
        "this file what the room's rules allow; the file is made if it is not there. Such a room stands still while "
        "this server does, and needs this key: keep a copy. Without a value this server is no policy server.",
    )
