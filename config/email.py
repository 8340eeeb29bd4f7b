"""Mail that this server sends."""

from __future__ import annotations

import re
from email.utils import parseaddr
from pathlib import Path
from typing import Literal

from attrs import frozen

from config.field import at_least, between, setting

MINUTE_MS = 60_000

_ADDRESS = re.compile(r"[^\s@<>(),:;\"\\\[\]]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})+")


def is_address(text: str) -> bool:
    """Whether mail can be sent there: what is between angle brackets elsewhere, in ASCII."""
    return len(text) <= 254 and text.isascii() and _ADDRESS.fullmatch(text) is not None


def _sender(value: object) -> str | None:
    if value is None or (is_address(parseaddr(str(value))[1]) and str(value).isprintable()):
        return None
    return f"must be an address, or a name and an address as in Guildhall <noreply@example.org>, not {value!r}"


@frozen(kw_only=True)
class Email:
    """Mail to people who were away: what they missed. It needs smtp_host, sender and server.public_baseurl, under which
    the links in it lead here; without all of them no mail is sent."""

    smtp_host: str | None = setting(None, doc="The server that takes mail from this one.")
    smtp_port: int = setting(587, doc="Its port: 587 with starttls, 465 with tls.", check=between(1, 65535))
    security: Literal["starttls", "tls", "none"] = setting(
        "starttls",
        doc="How the connection is protected: starttls, tls from the first byte, or none, which is for a mail server "
        "on the same machine.",
    )
    username: str | None = setting(None, doc="The account there, if it wants one.")
    password: str | None = setting(None, doc="Its password.", secret=True)
    sender: str | None = setting(
        None, doc="Who mail is from: noreply@example.org, or Guildhall <noreply@example.org>.", check=_sender
    )
    ca_path: Path | None = setting(
        None, doc="Certificate authorities (PEM) to trust for the mail server, instead of the system's."
    )
    first_delay_ms: int = setting(
        10 * MINUTE_MS,
        doc="How long something has to be unread before somebody is sent mail about it, with all that came after.",
        check=at_least(0),
    )
    away_ms: int = setting(
        15 * MINUTE_MS,
        doc="How long somebody has to be away, with all their devices, before they are sent any.",
        check=at_least(0),
    )
    room_pause_ms: int = setting(
        60 * MINUTE_MS,
        doc="After mail about a room, how long there is none about it. As long as it is not read the pause doubles "
        "with each mail, up to a day.",
        check=at_least(0),
    )
