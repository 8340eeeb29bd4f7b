"""Who sees whether somebody is online."""

from __future__ import annotations

from attrs import frozen

from config.field import setting


@frozen(kw_only=True)
class Presence:
    """Who sees whether somebody is online."""

    enabled: bool = setting(True, doc="Whether people who share a room see who is online, and since when.")
