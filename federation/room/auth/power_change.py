"""The rules about `m.room.power_levels`: nobody touches what is above their own level, or raises anything past it.

Spec: https://spec.matrix.org/v1.19/rooms/v12/#authorisation-rules, rule 10 (rule 9 in versions 6 to 11).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from federation.room.auth.case import Case
from federation.room.auth.power_levels import SETTINGS, PowerLevels, read_level, room_creators
from federation.room.auth.selection import POWER_LEVELS
from federation.room.auth.verdict import ALLOWED, Refused, Verdict
from federation.room.identifiers import InvalidIdentifier, parse_user_id
from federation.room.versions import RoomVersion

Change = tuple[str, int | None, int | None]
"""What was changed, its current level and its new one. None where it is absent."""


def check_power_levels(case: Case) -> Verdict:
    """Judge an `m.room.power_levels` event."""
    refused = _check_shape(case)
    if refused is not None:
        return refused
    if case.version.privileged_creators:
        creators = room_creators(case.version, case.create)
        if not creators.isdisjoint(case.event.content.get("users", {})):
            return case.refuse_malformed("power_levels.creators", "it gives a level to a creator of the room")
    if case.state(*POWER_LEVELS) is None:
        return ALLOWED
    return _check_changes(case, case.power, PowerLevels.parse(case.version, case.create, case.event))


def _check_shape(case: Case) -> Refused | None:
    """Refuse levels that are none.

    Versions 1 to 9 demand this of `users` only, and leave open what follows from other levels that make no sense; we
    refuse them by the same rule, as whoever let one in could not judge a later change of it. There, null is as good
    as absent: old clients sent it.
    """
    integers, content = case.version.integer_power_levels, case.event.content
    for name in SETTINGS:
        if name in content and not _is_level(case.version, content[name]):
            return case.refuse_malformed(
                "power_levels." + ("integers" if integers else "users"), f"{name} is no power level"
            )
    for name in ("events", "notifications") if case.version.notifications_auth else ("events",):
        if name in content and not _is_level_map(case.version, content[name]):
            return case.refuse_malformed(
                "power_levels." + ("maps" if integers else "users"), f"{name} has no power levels"
            )
    users = content.get("users", {})
    if not isinstance(users, dict) or any(read_level(case.version, level) is None for level in users.values()):
        return case.refuse_malformed("power_levels.users", "users is not an object of power levels")
    for user_id in users:
        try:
            parse_user_id(user_id)
        except InvalidIdentifier:
            return case.refuse_malformed("power_levels.users", "users has a key that is not a user id")
    return None


def _is_level(version: RoomVersion, value: object) -> bool:
    return read_level(version, value) is not None or (value is None and not version.integer_power_levels)


def _is_level_map(version: RoomVersion, value: object) -> bool:
    if not isinstance(value, dict):
        return value is None and not version.integer_power_levels
    return all(_is_level(version, level) for level in value.values())


def _check_changes(case: Case, current: PowerLevels, new: PowerLevels) -> Verdict:
    sender = case.event.sender
    level = current.user(sender)

    for name, before, after in _changes(current.settings, new.settings):
        if before is not None and before > level:
            return case.refuse("power_levels.settings.current", f"{name} is above the sender's level")
        if after is not None and after > level:
            return case.refuse("power_levels.settings.new", f"{name} would be above the sender's level")

    entries = list(_changes(current.events, new.events))
    if case.version.notifications_auth:
        entries.extend(_changes(current.notification_levels, new.notification_levels))
    for name, before, _ in entries:
        if before is not None and before > level:
            return case.refuse("power_levels.entries_current.level", f"{name} is above the sender's level")
    for name, _, after in entries:
        if after is not None and after > level:
            return case.refuse("power_levels.entries_new.level", f"{name} would be above the sender's level")

    users = list(_changes(current.users, new.users))
    for name, before, _ in users:
        if before is not None and before >= level and name != sender:
            return case.refuse("power_levels.users_current.level", f"{name} is not below the sender's level")
    for name, _, after in users:
        if after is not None and after > level:
            return case.refuse("power_levels.users_new.level", f"{name} would be above the sender's level")
    return ALLOWED


def _changes(current: Mapping[str, int], new: Mapping[str, int]) -> Iterator[Change]:
    """What was added, changed or removed. Levels are compared, not how they were written: "50" is 50."""
    for name, before in current.items():
        after = new.get(name)
        if after != before:
            yield name, before, after
    for name, after in new.items():
        if name not in current:
            yield name, None, after
