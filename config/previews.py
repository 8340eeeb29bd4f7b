"""Previews of the web pages that people speak of."""

from __future__ import annotations

from attrs import frozen

from config.field import at_least, setting

MIB = 1024 * 1024
DAY_MS = 24 * 60 * 60 * 1000


@frozen(kw_only=True)
class Previews:
    """Previews of the web pages that people speak of."""

    enabled: bool = setting(
        True,
        doc="Whether this server fetches web pages for its people to show what they are about. It never goes to "
        "private addresses, but whoever runs a page learns that somebody here asked.",
    )
    for_guests: bool = setting(False, doc="Whether it does so for guests too.")
    blocked: tuple[str, ...] = setting(
        (), doc="Hosts that are never asked, each with all names below it: example.org means www.example.org too."
    )
    max_bytes: int = setting(
        4 * MIB, doc="How much is read of a page, and how large a picture may be.", check=at_least(1024)
    )
    keep_ms: int = setting(
        DAY_MS, doc="For how long a preview is kept; then the page is fetched again.", check=at_least(0)
    )
    accept_language: str = setting("en", doc="Which language is asked for where the client names none.")
