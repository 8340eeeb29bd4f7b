"""Which state an event rests on: the auth events selection, and the rules about what an event cites.

Spec: https://spec.matrix.org/v1.19/server-server-api/#auth-events-selection
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from federation.room.auth.numbering import rule_numbers
from federation.room.auth.verdict import ALLOWED, Refused, Verdict
from federation.room.event import Event, StateKey
from federation.room.versions import RoomVersion

CREATE: StateKey = ("m.room.create", "")
POWER_LEVELS: StateKey = ("m.room.power_levels", "")
JOIN_RULES: StateKey = ("m.room.join_rules", "")


def auth_types_for(
    version: RoomVersion, *, type: str, sender: str, state_key: str | None, content: Mapping[str, Any]
) -> list[StateKey]:
    """The state that an event must cite as its `auth_events`, as far as the room has it: no key twice, fixed order."""
    if type == "m.room.create":
        return []
    wanted = [POWER_LEVELS, ("m.room.member", sender)]
    if not version.room_id_is_hash:
        wanted.insert(0, CREATE)
    if type == "m.room.member" and state_key is not None:
        if state_key != sender:
            wanted.append(("m.room.member", state_key))
        membership = content.get("membership")
        if membership in ("join", "invite", "knock"):
            wanted.append(JOIN_RULES)
        if membership == "invite":
            token = third_party_token(content)
            if token is not None:
                wanted.append(("m.room.third_party_invite", token))
        if membership == "join" and version.restricted:
            authoriser = content.get("join_authorised_via_users_server")
            if isinstance(authoriser, str) and ("m.room.member", authoriser) not in wanted:
                wanted.append(("m.room.member", authoriser))
    return wanted


def auth_types_of(version: RoomVersion, event: Event) -> list[StateKey]:
    """`auth_types_for` of an event that exists. Only a membership has its content read."""
    content = event.content if event.type == "m.room.member" else {}
    return auth_types_for(version, type=event.type, sender=event.sender, state_key=event.state_key, content=content)


def third_party_token(content: Mapping[str, Any]) -> str | None:
    """The token of the third-party invite that an invite answers, if it names one."""
    invite = content.get("third_party_invite")
    signed = invite.get("signed") if isinstance(invite, dict) else None
    token = signed.get("token") if isinstance(signed, dict) else None
    return token if isinstance(token, str) else None


def check_auth_events(
    version: RoomVersion, event: Event, auth_events: Sequence[Event], is_rejected: Callable[[str], bool]
) -> Verdict:
    """Judge what an event cites: nothing twice, nothing it should not, nothing rejected, nothing of another room.

    `auth_events` are all the events that `event.auth_events` names. `is_rejected` tells of an event id whether that
    event failed the checks on receipt; where the room id is a hash it is asked about the create event too. Whether
    the cited events allow this one is for `check_auth` to say, with those events as the state.
    """
    if event.type == "m.room.create":
        return ALLOWED  # rule 1 judges it alone, and stops there
    number = rule_numbers(version)
    if version.room_id_is_hash and is_rejected(create_id_of(event.room_id)):
        return Refused(number["room"], "the event that began the room was rejected")
    keys = [(cited.type, cited.state_key) for cited in auth_events]
    if len(set(keys)) != len(keys):
        return Refused(number["citations.duplicate"], "it cites two events for the same piece of state")
    if not set(keys).issubset(auth_types_of(version, event)):
        return Refused(number["citations.selection"], "it cites an event that has no bearing on it")
    for cited in auth_events:
        if is_rejected(cited.event_id):
            return Refused(number["citations.rejected"], f"it cites {cited.event_id}, which was rejected")
    if not version.room_id_is_hash and CREATE not in keys:
        return Refused(number["citations.create"], "it does not cite the room's create event")
    for cited in auth_events:
        if cited.room_id != event.room_id:
            return Refused(number["citations.other_room"], f"it cites {cited.event_id}, which is of another room")
    return ALLOWED


def create_id_of(room_id: str) -> str:
    """The id of the create event of a room whose id is a hash."""
    return "$" + room_id[1:]
