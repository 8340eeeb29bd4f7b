"""Who may open a gateway connection from a browser, and how many at a time."""

from __future__ import annotations

from attrs import frozen

from config.field import at_least, setting


@frozen(kw_only=True)
class Gateway:
    """The gateway: a WebSocket in place of long polling, for bots, light clients and voice."""

    origins: tuple[str, ...] = setting(
        ("*",),
        doc="Web pages that may connect, by their origin (https://chat.example.org); * means any. A token never "
        "comes by itself, as a cookie would, so a page can do no more than somebody gave it a token for.",
    )
    max_connections: int = setting(20, doc="How many connections one account may have at a time.", check=at_least(1))
