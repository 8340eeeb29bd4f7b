"""What a new guild begins with: roles, categories and channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from homeserver.guilds.model import ANNOUNCEMENT, TEXT, VOICE
from homeserver.guilds.permissions import (
    ADD_REACTIONS,
    ATTACH_FILES,
    BAN_MEMBERS,
    CONNECT,
    CREATE_INVITE,
    KICK_MEMBERS,
    MANAGE_MESSAGES,
    MANAGE_NICKNAMES,
    MENTION_EVERYONE,
    MOVE_MEMBERS,
    MUTE_MEMBERS,
    SEND_MESSAGES,
    SPEAK,
    STREAM,
    VIEW_ANALYTICS,
    VIEW_CHANNEL,
    Permissions,
)

EVERYDAY: Final[Permissions] = (
    VIEW_CHANNEL | SEND_MESSAGES | ADD_REACTIONS | ATTACH_FILES | CREATE_INVITE | CONNECT | SPEAK | STREAM
)
"""What `everyone` may do in a new guild."""

MODERATION: Final[Permissions] = (
    MANAGE_MESSAGES | KICK_MEMBERS | BAN_MEMBERS | MANAGE_NICKNAMES | MENTION_EVERYONE | MUTE_MEMBERS | MOVE_MEMBERS
)


class FirstRole(msgspec.Struct, frozen=True):
    name: str
    permissions: Permissions
    color: str


class FirstChannel(msgspec.Struct, frozen=True):
    name: str
    kind: str = TEXT
    topic: str | None = None


class Template(msgspec.Struct, frozen=True):
    """The first state of a guild."""

    categories: Mapping[str, Sequence[FirstChannel]]
    """Name → its channels; both in order."""
    roles: Sequence[FirstRole] = msgspec.field(default=())
    """Beside the built-in ones, highest first."""


PLAIN: Final = Template({"Channels": (FirstChannel("general"), FirstChannel("Voice", VOICE))})
"""Where no template is asked for."""

TEMPLATES: Final[Mapping[str, Template]] = {
    "community": Template(
        {
            "Welcome": (
                FirstChannel("announcements", ANNOUNCEMENT, "News from those who run this place"),
                FirstChannel("introductions", topic="Say hello"),
            ),
            "Talk": (FirstChannel("general"), FirstChannel("off-topic"), FirstChannel("pictures")),
            "Voice": (FirstChannel("Lounge", VOICE), FirstChannel("Stage", VOICE)),
        },
        (FirstRole("Moderator", EVERYDAY | MODERATION, "#2e86de"),),
    ),
    "team": Template(
        {
            "Team": (
                FirstChannel("announcements", ANNOUNCEMENT),
                FirstChannel("general"),
                FirstChannel("random"),
            ),
            "Projects": (FirstChannel("planning"), FirstChannel("help")),
            "Meetings": (FirstChannel("Stand-up", VOICE), FirstChannel("Meeting room", VOICE)),
        },
        (FirstRole("Lead", EVERYDAY | MODERATION | VIEW_ANALYTICS, "#8e44ad"),),
    ),
    "gaming": Template(
        {
            "Lobby": (FirstChannel("announcements", ANNOUNCEMENT), FirstChannel("general"), FirstChannel("clips")),
            "Play": (FirstChannel("looking-for-group"), FirstChannel("strategy")),
            "Voice": (FirstChannel("Squad 1", VOICE), FirstChannel("Squad 2", VOICE), FirstChannel("AFK", VOICE)),
        },
        (
            FirstRole("Moderator", EVERYDAY | MODERATION, "#e67e22"),
            FirstRole("Regular", EVERYDAY, "#27ae60"),
        ),
    ),
}
