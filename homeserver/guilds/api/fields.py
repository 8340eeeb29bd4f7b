"""What strangers may send, as types with limits: what is beyond them is refused at the door, by the field's name."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from homeserver.errors import InvalidParam, MatrixError
from homeserver.guilds.model import MEMBER_TYPE
from homeserver.guilds.permissions import NAMES, Permissions, UnknownPermission, parse_permissions

API: Final = "/_guildhall/client/v1"

MOST_ROLES: Final = 250
MOST_CATEGORIES: Final = 100
MOST_CHANNELS: Final = 500
MOST_OVERRIDES: Final = 100
"""Of one channel or category."""
MOST_ROLES_OF_MEMBER: Final = 50
MOST_EMOJI: Final = 200
MOST_PATTERNS: Final = 500
"""Of servers, in an access list."""
LONGEST_SLOWMODE_S: Final = 21_600
LONGEST_KEY_BYTES: Final = 255

Name = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"[^\s\x00]")]
"""Of a guild, role, category or channel; not only blanks."""
Nick = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"[^\s\x00]")]
Topic = Annotated[str, Meta(max_length=2_000)]
Reason = Annotated[str, Meta(max_length=500)]
Color = Annotated[str, Meta(pattern=r"^#[0-9a-fA-F]{6}$(?!\n)", max_length=7)]
Mxc = Annotated[str, Meta(pattern=r"^mxc://[A-Za-z0-9.:\[\]-]{1,255}/[A-Za-z0-9_-]{1,255}$(?!\n)")]
"""A `mxc://` URI."""
PermissionName = Annotated[str, Meta(extra_json_schema={"enum": list(NAMES)})]
PermissionNames = Annotated[list[PermissionName], Meta(max_length=len(NAMES))]
Id = Annotated[str, Meta(min_length=1, max_length=255)]
"""Of a role, category, room or user."""
Limit = Annotated[int, Meta(ge=1)]
"""How many entries of a list; larger ones are taken for the largest."""
Slowmode = Annotated[int, Meta(ge=0, le=LONGEST_SLOWMODE_S)]

Maybe = msgspec.UnsetType
"""A field of a PATCH that may be absent: then it stays as it is."""


def read_permission_names(names: list[str], field: str) -> Permissions:
    """The set that they make. Raises InvalidParam naming the field."""
    try:
        return parse_permissions(names)
    except UnknownPermission as error:
        raise InvalidParam(f"`{field}`: {error}") from None


def check_count(count: int, most: int, what: str) -> None:
    """Raises `M_TOO_LARGE` where there is no room for one more."""
    if count >= most:
        raise MatrixError(400, "M_TOO_LARGE", f"A guild has at most {most} {what}")


def member_key(user_id: str) -> str:
    """The state key of somebody's roles. Raises InvalidParam for a user id that is too long to have any."""
    key = f"_{user_id}"
    if len(key.encode()) > LONGEST_KEY_BYTES:
        raise InvalidParam(f"`user_id`: this user id is too long for a {MEMBER_TYPE}")
    return key
