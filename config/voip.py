"""Calls: the relays that this server hands out credentials for, and what carries conferences."""

from __future__ import annotations

import re

from attrs import frozen

from config.field import at_least, http_url, setting

_URI = re.compile(r"turns?:[^\s?]+(\?transport=(udp|tcp))?")


def _turn_uris(value: object) -> str | None:
    assert isinstance(value, tuple)
    for uri in value:
        if not _URI.fullmatch(uri):
            return f"{uri!r} is not an address like turn:turn.example.org:3478?transport=udp"
    return None


def _http_urls(value: object) -> str | None:
    assert isinstance(value, tuple)
    return next((why for why in map(http_url, value) if why is not None), None)


@frozen(kw_only=True)
class Voip:
    """Calls: the relays that this server hands out credentials for, and what carries conferences."""

    turn_uris: tuple[str, ...] = setting(
        (),
        doc="Relays for people whose networks let nothing in, such as turn:turn.example.org:3478?transport=udp and "
        "turns:turn.example.org:5349?transport=tcp. Without any, calls work only where both ends can reach each other.",
        check=_turn_uris,
    )
    turn_secret: str | None = setting(
        None,
        doc="What this server and the relays share: coturn's static-auth-secret, with use-auth-secret. "
        "Credentials for clients are made from it.",
        secret=True,
    )
    turn_credentials_ms: int = setting(
        24 * 3600 * 1000, doc="For how long such credentials are good.", check=at_least(60_000)
    )
    turn_for_guests: bool = setting(True, doc="Whether guests get them too.")
    livekit_urls: tuple[str, ...] = setting(
        (),
        doc="Services that let people into conferences carried by LiveKit (MSC4195), the best first, such as "
        "https://rtc.example.org/livekit/jwt. Clients are told of them by /rtc/transports and .well-known.",
        check=_http_urls,
    )
