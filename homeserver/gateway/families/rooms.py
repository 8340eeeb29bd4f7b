"""`room.created|updated|deleted`: rooms outside of guilds, as somebody comes, is there, and goes.

An invitation is a room too: `membership` says what it is to the person.
"""

from __future__ import annotations

from collections.abc import Sequence

from homeserver.gateway.families.happening import Happening, Told, tell


def of_rooms(one: Happening) -> Sequence[Told]:
    event = one.event
    if one.guild_id is not None or event.state_key is None or one.in_call is not None:
        return ()
    if not one.is_own:
        return (tell("room.updated"),)
    match one.membership:
        case "join" if one.was == "join":
            return (tell("room.updated"),)
        case "join" | "invite" | "knock" as membership:
            return (tell("room.created", membership=membership),)
        case "leave" | "ban" as membership:
            return (tell("room.deleted", membership=membership),)
    return ()
