"""Redaction: which parts of an event stay when its content must go.

What stays is what the auth rules and the event's hash need, so it is also what every signature covers, and a
redacted copy keeps its event id. The lists differ by room version.

Spec: https://spec.matrix.org/v1.19/rooms/v11/#redactions (and the same section of every other version)
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from federation.room.canonical import canonical_event
from federation.room.event import Event, event_from_fields
from federation.room.versions import RoomVersion

_FIELDS = frozenset(
    {
        *("event_id", "type", "room_id", "sender", "state_key", "content", "hashes", "signatures"),
        *("depth", "prev_events", "auth_events", "origin_server_ts"),
    }
)
_OLD_FIELDS = frozenset({"membership", "origin", "prev_state"})
_POWER_LEVELS = frozenset(
    {"ban", "events", "events_default", "kick", "redact", "state_default", "users", "users_default"}
)


@cache
def kept_fields(version: RoomVersion) -> frozenset[str]:
    """The top-level fields of an event that survive its redaction."""
    return _FIELDS if version.redaction_tidied else _FIELDS | _OLD_FIELDS


@cache
def kept_content(version: RoomVersion) -> Mapping[str, frozenset[str]]:
    """By event type, the keys of the content that survive. Other types lose all of it.

    Two exceptions are not in this table: a create event keeps everything since version 11, and members keep part of
    `third_party_invite`; see `redact_content`.
    """
    kept = {
        "m.room.member": {"membership"},
        "m.room.create": {"creator"},
        "m.room.join_rules": {"join_rule"},
        "m.room.power_levels": set(_POWER_LEVELS),
        "m.room.history_visibility": {"history_visibility"},
    }
    if not version.redaction_drops_aliases:
        kept["m.room.aliases"] = {"aliases"}
    if version.redaction_keeps_allow:
        kept["m.room.join_rules"].add("allow")
    if version.redaction_keeps_join_authorised:
        kept["m.room.member"].add("join_authorised_via_users_server")
    if version.redaction_tidied:
        kept["m.room.power_levels"].add("invite")
        kept["m.room.redaction"] = {"redacts"}
    return {event_type: frozenset(keys) for event_type, keys in kept.items()}


def redact(version: RoomVersion, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The redacted form of an event in the federation format, as a new dict (its values are shared, not copied).

    `unsigned` is dropped like every field that is not on the list; signatures and hashes stay.
    """
    kept = kept_fields(version)
    redacted = {name: value for name, value in fields.items() if name in kept}
    if "content" in redacted:
        redacted["content"] = redact_content(version, redacted.get("type"), redacted["content"])
    return redacted


def redact_content(version: RoomVersion, event_type: object, content: object) -> dict[str, Any]:
    """What is left of the content of an event of this type. Content that is no object at all becomes `{}`."""
    if not isinstance(content, dict) or not isinstance(event_type, str):
        return {}
    if event_type == "m.room.create" and version.redaction_tidied:
        return content
    kept = kept_content(version).get(event_type)
    if kept is None:
        return {}
    redacted = {key: value for key, value in content.items() if key in kept}
    if event_type == "m.room.member" and version.redaction_tidied:
        # The object itself stays even when nothing in it does: all servers read the rule so, and hashes depend on it.
        third_party_invite = content.get("third_party_invite")
        if isinstance(third_party_invite, dict):
            redacted["third_party_invite"] = {
                key: value for key, value in third_party_invite.items() if key == "signed"
            }
    return redacted


def redact_event(version: RoomVersion, event: Event) -> Event:
    """The redacted copy of an event. It has the same event id and room id, and its signatures hold as before."""
    fields = redact(version, event.to_json())
    return event_from_fields(version, event.event_id, fields, canonical_event(version, fields))
