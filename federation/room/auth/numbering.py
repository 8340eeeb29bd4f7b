"""The numbers that each room version's specification gives to its authorisation rules.

The code speaks of rules by name ("member.join.banned"), as rules come and go between versions and the rest move up.
Here stands the outline of the rules, with what each version has of it; the numbers follow by counting. They are
those of the rendered page, where a list has no gaps (the source of version 12 has one, and a doubled number too).

Spec: https://spec.matrix.org/v1.19/rooms/v12/#authorisation-rules and its likes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache

from federation.room.versions import RoomVersion

Outline = Mapping[str, "Outline"]
"""The name of each rule in order, and the outline of what is below it."""


@cache
def rule_numbers(version: RoomVersion) -> Mapping[str, str]:
    """The number of each rule that the version has, by the rule's name."""
    return dict(_count(_outline(version)))


def _count(outline: Outline, name: str = "", number: str = "") -> Iterator[tuple[str, str]]:
    for place, (word, below) in enumerate(outline.items(), start=1):
        yield name + word, f"{number}{place}"
        yield from _count(below, f"{name}{word}.", f"{number}{place}.")


def _outline(version: RoomVersion) -> Outline:
    return {
        "create": _rules(
            "prev_events",
            "room_id",
            "version",
            not version.creator_is_sender and "creator",
            version.privileged_creators and "creators",
        ),
        **_rules(version.room_id_is_hash and "room"),
        "citations": _rules(
            "duplicate", "selection", "rejected", not version.room_id_is_hash and "create", "other_room"
        ),
        "federate": {},
        **({"aliases": _rules("state_key", "domain")} if version.aliases_auth else {}),
        "member": _member_outline(version),
        "sender": {},
        "third_party_invite": _rules("level"),
        "level": {},
        "state_key": {},
        "power_levels": {
            **_rules(version.integer_power_levels and "integers", version.integer_power_levels and "maps", "users"),
            **_rules(version.privileged_creators and "creators", "first"),
            "settings": _rules("current", "new"),
            "entries_current": _rules("level"),
            "entries_new": _rules("level"),
            "users_current": _rules("level"),
            "users_new": _rules("level"),
        },
        **({"redaction": _rules("level", "domain", "otherwise")} if version.redaction_auth else {}),
    }


def _member_outline(version: RoomVersion) -> Outline:
    return {
        "shape": {},
        **({"authorised": _rules("signature")} if version.restricted else {}),
        "join": {
            **_rules("first", "sender", "banned", "invited"),
            **({"restricted": _rules("member", "authorised")} if version.restricted else {}),
            **_rules("public", "otherwise"),
        },
        "invite": {
            "third_party": _rules("banned", "signed", "fields", "mxid", "token", "sender", "signature", "otherwise"),
            **_rules("sender", "target", "level", "otherwise"),
        },
        "leave": _rules("own", "sender", "banned", "level", "otherwise"),
        "ban": _rules("sender", "level", "otherwise"),
        **({"knock": _rules("join_rule", "sender", "membership", "otherwise")} if version.knock else {}),
        "unknown": {},
    }


def _rules(*names: str | bool) -> Outline:
    """Rules with nothing below them. `flag and "name"` leaves out what a version does not have."""
    return {name: {} for name in names if isinstance(name, str)}
