"""What new rooms are like, and who may list them."""

from __future__ import annotations

from typing import Literal

from attrs import frozen

from config.field import setting

RoomVersionName = Literal["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12"]


@frozen(kw_only=True)
class Rooms:
    """What new rooms are like, and who may list them."""

    default_version: RoomVersionName = setting("12", doc="The version of rooms for which the client names none.")
    anybody_may_publish: bool = setting(
        False,
        doc="Whether everybody may list their rooms in the public directory; otherwise administrators may.",
    )
    encryption_by_default: Literal["none", "private", "all"] = setting(
        "none",
        doc="Which new rooms are encrypted although the client did not ask for it: none, the private ones, or all.",
    )
