"""Kicks and bans that take along what was said by whoever is put out.

MSC4293: https://github.com/matrix-org/matrix-spec-proposals/pull/4293
"""

from __future__ import annotations

from federation.room.event import Event

FLAG = "org.matrix.msc4293.redact_events"
"""In the content of a member event."""


def asks_for_purge(event: Event) -> bool:
    """Whether an event puts somebody out and says that all they said goes too."""
    return (
        event.type == "m.room.member"
        and event.state_key != event.sender
        and event.content.get(FLAG) is True
        and event.content.get("membership") in ("leave", "ban")
    )
