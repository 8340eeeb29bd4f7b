"""The authorisation rules: whether a room's state allows an event.

The order is the specification's, and the first rule that decides is the last one asked. Where versions differ, the
difference is a property of `RoomVersion`.

Spec: https://spec.matrix.org/v1.19/rooms/v12/#authorisation-rules and the same section of the other versions.
"""

from __future__ import annotations

from federation.room.auth.case import Case, SignedBy, StateLookup
from federation.room.auth.membership import check_membership
from federation.room.auth.numbering import rule_numbers
from federation.room.auth.power_change import check_power_levels
from federation.room.auth.power_levels import PowerLevels
from federation.room.auth.selection import create_id_of
from federation.room.auth.verdict import ALLOWED, Refused, Verdict
from federation.room.event import Event
from federation.room.identifiers import InvalidIdentifier, parse_user_id, server_of
from federation.room.versions import RoomVersion, get_room_version

_PECULIAR = frozenset(
    {
        "m.room.aliases",
        "m.room.create",
        "m.room.member",
        "m.room.power_levels",
        "m.room.redaction",
        "m.room.third_party_invite",
    }
)
"""Types of events of which the rules look at more: at the content, the state key, or the event's own id."""


def check_auth(
    version: RoomVersion,
    event: Event,
    state: StateLookup,
    power: PowerLevels | None = None,
    *,
    signed_by: SignedBy | None = None,
) -> Verdict:
    """Judge an event against a state of its room: every rule but that about its citations (`check_auth_events`).

    `state` is asked only for what `auth_types_for` names, and for the create event in every version (where room ids
    are hashes it is the event that the room id names, if that was accepted). `power` saves reading the power levels
    that `state` holds: pass it only if it was parsed from exactly those.

    What must hold already: the event's format is that of its version and its signatures are valid. They include that
    of the server which a restricted join names as its authority; pass `signed_by` to have that asked here instead.
    """
    if event.type == "m.room.create":
        return _check_create(version, event)
    create = state("m.room.create", "")
    if version.room_id_is_hash:
        if create is None or create.event_id != create_id_of(event.room_id):
            return Refused(rule_numbers(version)["room"], "its room id does not name an accepted create event")
    elif create is None:
        return Refused(rule_numbers(version)["citations.create"], "the room has no create event")
    case = Case(version, event, state, create, signed_by, power)
    sender = event.sender
    if create.content.get("m.federate") is False and _server(sender) != _server(create.sender):
        return case.refuse("federate", "the room is for users of its own server only")
    if event.type == "m.room.aliases" and version.aliases_auth:
        return _check_aliases(case)
    if event.type == "m.room.member":
        return check_membership(case)
    if case.membership(sender) != "join":
        return case.refuse("sender", "the sender is not in the room")
    if event.type == "m.room.third_party_invite":
        if case.level(sender) >= case.power.invite:
            return ALLOWED
        return case.refuse("third_party_invite.level", "the sender may not invite")
    if case.level(sender) < case.power.event(event.type, event.state_key is not None):
        return case.refuse("level", f"the sender's power level does not reach what {event.type} needs")
    if event.state_key is not None and event.state_key.startswith("@") and event.state_key != sender:
        return case.refuse("state_key", "its state key names another user")
    if event.type == "m.room.power_levels":
        return check_power_levels(case)
    if event.type == "m.room.redaction" and version.redaction_auth:
        return _check_redaction(case)
    return ALLOWED


def is_plain(event: Event) -> bool:
    """Whether the rules look at nothing of an event but its type, its sender, its room, its citations and whether it is
    state: the verdict on one of them is that on all that are alike.
    """
    return event.type not in _PECULIAR and not (event.state_key or "").startswith("@")


def _check_create(version: RoomVersion, event: Event) -> Verdict:
    number = rule_numbers(version)
    if event.prev_events:
        return Refused(number["create.prev_events"], "events come before it")
    if version.room_id_is_hash:
        # The parser gave the event the room id that it makes; what was signed must have had none.
        if "room_id" in event.to_json() or create_id_of(event.room_id) != event.event_id:
            return Refused(number["create.room_id"], "it has a room id")
    elif _server(event.room_id) is None or _server(event.room_id) != _server(event.sender):
        return Refused(number["create.room_id"], "the room id is of another server than the sender")
    content = event.content
    if "room_version" in content and get_room_version(content["room_version"]) is None:
        return Refused(number["create.version"], "its room version is unknown here")
    if not version.creator_is_sender and "creator" not in content:
        return Refused(number["create.creator"], "it names no creator")
    if version.privileged_creators and not _is_user_list(content.get("additional_creators", [])):
        return Refused(number["create.creators"], "additional_creators is not a list of user ids")
    return ALLOWED


def _check_aliases(case: Case) -> Verdict:
    if case.event.state_key is None:
        return case.refuse("aliases.state_key", "it has no state key")
    if case.event.state_key != _server(case.event.sender):
        return case.refuse("aliases.domain", "its state key is not the sender's server")
    return ALLOWED


def _check_redaction(case: Case) -> Verdict:
    if case.level(case.event.sender) >= case.power.redact:
        return ALLOWED
    target = _server(case.event.redacts or "")
    if target is not None and target == _server(case.event.event_id):
        return ALLOWED
    return case.refuse("redaction.otherwise", "the sender may not redact events of other servers")


def _is_user_list(value: object) -> bool:
    if not isinstance(value, list):
        return False
    try:
        for user_id in value:
            parse_user_id(user_id)
    except InvalidIdentifier:
        return False
    return True


def _server(identifier: str) -> str | None:
    try:
        return server_of(identifier)
    except InvalidIdentifier:
        return None
