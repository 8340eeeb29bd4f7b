"""Power levels: who may do what in a room, as its `m.room.power_levels` and `m.room.create` say.

Spec: https://spec.matrix.org/v1.19/client-server-api/#mroompower_levels for the defaults; the room versions'
"deprecated event content schemas" for levels that are strings (versions 1 to 9) or floats (1 to 5).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from attrs import field, frozen

from federation.room.event import Event
from federation.room.versions import RoomVersion

CREATOR_LEVEL = math.inf
"""The level of a creator where creators are privileged: higher than any integer, and equal to itself."""

SETTINGS = ("users_default", "events_default", "state_default", "ban", "redact", "kick", "invite")
"""The properties of power levels that hold one level each."""

_NOTHING: Mapping[str, int] = MappingProxyType({})
_INTEGER_TEXT = re.compile(r"[+-]?[0-9]+")


@frozen(eq=False)
class PowerLevels:
    """The power levels of a room at one moment, read once and asked often.

    Levels are integers, but for `CREATOR_LEVEL`; hence `float`. Whatever in the event is no level counts as absent:
    such events do not pass the authorisation rules, and this must not fail on what it is given.
    """

    users: Mapping[str, int]
    """The levels given to single users. It has no creator where creators are privileged."""
    events: Mapping[str, int]
    settings: Mapping[str, int]
    """Those of `SETTINGS` that the event has."""
    notification_levels: Mapping[str, int]
    creators: frozenset[str]
    """Who stands above all levels: empty where creators are not privileged."""

    users_default: int = field(init=False)
    events_default: int = field(init=False)
    state_default: int = field(init=False)
    ban: int = field(init=False)
    kick: int = field(init=False)
    redact: int = field(init=False)
    invite: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        given = self.settings.get
        for name in SETTINGS:
            object.__setattr__(self, name, given(name, _DEFAULTS[name]))

    @classmethod
    def parse(cls, version: RoomVersion, create: Event | None, power_levels: Event | None) -> PowerLevels:
        """Read the levels that hold where the room's state has these two events.

        A room always has its create event; None is for judging events whose citations lack it.
        """
        creators = room_creators(version, create) if create is not None else frozenset()
        privileged = creators if version.privileged_creators else frozenset()
        if power_levels is None:
            first = dict.fromkeys(creators, 100) if not version.privileged_creators else _NOTHING
            return cls(first, _NOTHING, _NOTHING, _NOTHING, privileged)
        content = power_levels.content
        return cls(
            users=_read_levels(version, content.get("users")),
            events=_read_levels(version, content.get("events")),
            settings=_read_levels(version, {name: content[name] for name in SETTINGS if name in content}),
            notification_levels=_read_levels(version, content.get("notifications")),
            creators=privileged,
        )

    def user(self, user_id: str) -> float:
        """The level of a user."""
        if user_id in self.creators:
            return CREATOR_LEVEL
        return self.users.get(user_id, self.users_default)

    def event(self, event_type: str, is_state: bool) -> int:
        """The level needed to send an event of this type. Memberships have rules of their own."""
        level = self.events.get(event_type)
        if level is not None:
            return level
        return self.state_default if is_state else self.events_default

    def notifications(self, key: str) -> int:
        """The level needed to notify everybody by `key` ("room": "@room")."""
        return self.notification_levels.get(key, 50)


_DEFAULTS: Mapping[str, int] = {
    "users_default": 0,
    "events_default": 0,
    "state_default": 50,
    "ban": 50,
    "redact": 50,
    "kick": 50,
    "invite": 0,
}


def room_creators(version: RoomVersion, create: Event) -> frozenset[str]:
    """The users whom the specification calls the room's creators: one, or in rooms that may have more, all of them."""
    if not version.creator_is_sender:
        creator = create.content.get("creator")
        return frozenset([creator]) if isinstance(creator, str) else frozenset()
    if not version.privileged_creators:
        return frozenset([create.sender])
    additional = create.content.get("additional_creators")
    others = (user for user in additional if isinstance(user, str)) if isinstance(additional, list) else ()
    return frozenset([create.sender, *others])


def read_level(version: RoomVersion, value: object) -> int | None:
    """The level that a JSON value stands for in this room version, or None if it stands for none."""
    if type(value) is int:  # a bool is an int to Python, but not to JSON
        return value
    if version.integer_power_levels:
        return None
    if isinstance(value, str):
        text = value.strip()
        try:
            return int(text) if _INTEGER_TEXT.fullmatch(text) else None
        except ValueError:  # thousands of digits, which Python refuses to read
            return None
    if isinstance(value, float) and not version.strict_json and math.isfinite(value):
        return int(value)
    return None


def _read_levels(version: RoomVersion, values: Any) -> Mapping[str, int]:
    if not isinstance(values, dict):
        return _NOTHING
    levels = ((key, read_level(version, value)) for key, value in values.items())
    return {key: level for key, level in levels if level is not None}
