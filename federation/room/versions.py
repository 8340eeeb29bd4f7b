"""What sets the room versions apart: one value for each, made from the one before by naming what changed.

Nobody compares version numbers. Code asks for the property it needs (`version.strict_json`), so that a new version
is a new value here and not a search through the code.

Spec: https://spec.matrix.org/v1.19/rooms/
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType

import msgspec


class EventIdFormat(Enum):
    """Where an event's id comes from."""

    DOMAIN = "chosen by the sending server: $opaque:server, a field of the event"
    HASH = "the reference hash in standard unpadded Base64"
    URLSAFE_HASH = "the reference hash in URL-safe unpadded Base64"


class StateResolution(Enum):
    """Which algorithm merges the forks of a room's state."""

    V1 = "1"
    V2 = "2"
    V2_1 = "2.1"


class RoomVersion(msgspec.Struct, frozen=True, eq=False):
    """The rules of one room version. There is one object for each version: compare and hash by identity.

    Flags are written so that False is how room version 1 did it.
    """

    identifier: str
    """As it stands in `content.room_version` of the create event."""

    stable: bool = True
    """Whether the specification calls the version fit for use."""

    # The format of events.

    event_id_format: EventIdFormat = EventIdFormat.DOMAIN

    strict_json: bool = False
    """Events must be strictly canonical JSON: integers within ±(2^53 - 1), no floats."""

    room_id_is_hash: bool = False
    """The room id is `!` and the create event's hash; the create event has no `room_id` and is cited by nobody."""

    strict_sizes: bool = False
    """COMPAT Synapse: the limits on `type` and `state_key` count bytes, in events of others too. In rooms of before,
    there are events that keep to them in characters only: those are known, but rejected."""

    redacts_in_content: bool = False
    """`redacts` of an `m.room.redaction` stands in its content and no longer at the top level."""

    enforce_key_validity: bool = False
    """A signing key only counts if it was valid at the event's `origin_server_ts`."""

    # What redaction keeps.

    redaction_drops_aliases: bool = False
    """`aliases` of an `m.room.aliases` does not survive."""

    redaction_keeps_allow: bool = False
    """`allow` of an `m.room.join_rules` survives."""

    redaction_keeps_join_authorised: bool = False
    """`join_authorised_via_users_server` of an `m.room.member` survives."""

    redaction_tidied: bool = False
    """The rewrite of version 11. `origin`, `membership` and `prev_state` go; a create event's whole content stays, and
    so do `invite` of power levels, `redacts` of redactions and `third_party_invite.signed` of members."""

    # The authorisation rules.

    aliases_auth: bool = False
    """`m.room.aliases` events are allowed by a rule of their own, from the server named in their state key."""

    redaction_auth: bool = False
    """Whether a redaction may be sent is for the auth rules to say; later versions only ask whether it is applied."""

    notifications_auth: bool = False
    """Changes of `notifications` in power levels are checked as those of `events` are."""

    knock: bool = False
    """There is a membership and a join rule `knock`."""

    restricted: bool = False
    """There is a join rule `restricted`."""

    knock_restricted: bool = False
    """There is a join rule `knock_restricted`."""

    integer_power_levels: bool = False
    """Power levels must be integers: strings, floats and other oddities are refused."""

    creator_is_sender: bool = False
    """The room's creator is the create event's `sender`; `content.creator` means nothing."""

    privileged_creators: bool = False
    """Creators (also those in `additional_creators`) have infinite power, and no entry in power levels."""

    state_resolution: StateResolution = StateResolution.V1

    @property
    def cites_with_hashes(self) -> bool:
        """Whether `prev_events` and `auth_events` are lists of pairs `[id, {"sha256": hash}]` and not of ids."""
        return self.event_id_format is EventIdFormat.DOMAIN

    def __str__(self) -> str:
        return self.identifier


V1 = RoomVersion("1", aliases_auth=True, redaction_auth=True)
V2 = msgspec.structs.replace(V1, identifier="2", state_resolution=StateResolution.V2)
V3 = msgspec.structs.replace(V2, identifier="3", event_id_format=EventIdFormat.HASH, redaction_auth=False)
V4 = msgspec.structs.replace(V3, identifier="4", event_id_format=EventIdFormat.URLSAFE_HASH)
V5 = msgspec.structs.replace(V4, identifier="5", enforce_key_validity=True)
V6 = msgspec.structs.replace(
    V5,
    identifier="6",
    strict_json=True,
    aliases_auth=False,
    redaction_drops_aliases=True,
    notifications_auth=True,
)
V7 = msgspec.structs.replace(V6, identifier="7", knock=True)
V8 = msgspec.structs.replace(V7, identifier="8", restricted=True, redaction_keeps_allow=True)
V9 = msgspec.structs.replace(V8, identifier="9", redaction_keeps_join_authorised=True)
V10 = msgspec.structs.replace(V9, identifier="10", integer_power_levels=True, knock_restricted=True)
V11 = msgspec.structs.replace(
    V10,
    identifier="11",
    strict_sizes=True,
    redaction_tidied=True,
    redacts_in_content=True,
    creator_is_sender=True,
)
V12 = msgspec.structs.replace(
    V11,
    identifier="12",
    room_id_is_hash=True,
    privileged_creators=True,
    state_resolution=StateResolution.V2_1,
)

ROOM_VERSIONS: Mapping[str, RoomVersion] = MappingProxyType(
    {version.identifier: version for version in (V1, V2, V3, V4, V5, V6, V7, V8, V9, V10, V11, V12)}
)
"""Every room version that this server knows, by its identifier, oldest first."""


def get_room_version(identifier: object) -> RoomVersion | None:
    """The version that `content.room_version` names, or None if we do not know it (or it is not even a string)."""
    return ROOM_VERSIONS.get(identifier) if isinstance(identifier, str) else None
