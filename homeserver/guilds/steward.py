"""The steward: the system account that makes a server's guilds and their channels, and alone may change what they are.

Being the only creator of a room of version 12 it stands above all levels, and nobody can take that away.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from homeserver.rooms.compose import Template
from homeserver.rooms.live import LiveRoom
from storage.accounts import Account, add_account
from storage.ports import Cursor

LOCALPART: Final = "guildhall"
ON_BEHALF_OF: Final = "chat.guildhall.on_behalf_of"
"""In the content of a steward's event: for whom it acted. It means something on events of the room's creator only."""

GUILD_ROOM_TYPE: Final = "m.space"
VOICE_ROOM_TYPE: Final = "org.matrix.msc3417.call"
PARENT_TYPE: Final = "m.space.parent"
VIEW_RULE: Final = "chat.guildhall.view_channel"
"""What the join rule of a channel that is not for everybody names: only servers of this kind honour it."""


def steward_of(server_name: str) -> str:
    return f"@{LOCALPART}:{server_name}"


def is_steward(user_id: str) -> bool:
    """Whether this is the steward of some server."""
    return user_id.startswith(f"@{LOCALPART}:")


def is_guild_room(room: LiveRoom) -> bool:
    """Whether a room was made as a guild, by whatever server's steward."""
    create = room.create
    return is_steward(create.sender) and create.content.get("type") == GUILD_ROOM_TYPE and room.version.room_id_is_hash


def guild_id_of(room: LiveRoom) -> str | None:
    """The guild that a room belongs to: itself, or what it names as its parent as a channel; None for other rooms.

    Costs next to nothing for rooms that no steward made.
    """
    if not is_steward(room.create.sender):
        return None
    if is_guild_room(room):
        return room.room_id
    return next((key[1] for key in room.frame if key[0] == PARENT_TYPE), None)


def profile_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content of somebody's join of a channel, after that of the guild: with the same name and picture."""
    kept = {name: content[name] for name in ("displayname", "avatar_url") if name in content}
    return {"membership": "join", **kept}


def add_steward(cursor: Cursor, user_id: str, now_ms: int) -> bool:
    """Make the account, to which no password lets anybody in. False where it is there."""
    return add_account(cursor, Account(user_id, None, now_ms))


def state(
    steward: str, event_type: str, content: dict[str, Any], state_key: str = "", actor: str | None = None
) -> Template:
    """A piece of state that the steward sets, on somebody's behalf if an actor is given."""
    if actor is not None and actor != steward:
        content = {**content, ON_BEHALF_OF: actor}
    return Template(event_type, steward, content, state_key)
