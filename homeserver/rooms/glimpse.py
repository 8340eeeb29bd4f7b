"""What those outside are told of a room: who is invited, and who knocks.

Spec: https://spec.matrix.org/v1.19/client-server-api/#stripped-state
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from federation.room.event import Event
from federation.room.format import BadEvent
from federation.room.identifiers import InvalidIdentifier, parse_user_id, server_of
from federation.room.parse import parse_pdu
from federation.room.versions import RoomVersion
from federation.service import service
from homeserver.rooms.events import EventCache
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.receive.gather import Gatherer

STRIPPED = (
    "m.room.create",
    "m.room.join_rules",
    "m.room.name",
    "m.room.avatar",
    "m.room.topic",
    "m.room.canonical_alias",
    "m.room.encryption",
)
"""Types of state that are shown, beside memberships."""

MOST_SHOWN = 30
"""Events that a peer may show of a room."""
MOST_BYTES = 128 * 1024


class StrippedEvent(msgspec.Struct, frozen=True):
    """A state event reduced to what clients are shown of it."""

    type: str
    state_key: str
    sender: str
    content: dict[str, object]


@service
class Glimpses:
    """Shows rooms of this server to outsiders."""

    events: EventCache

    async def of(self, room: LiveRoom, members: Collection[str] = ()) -> list[Event]:
        """The room's state as far as outsiders are told of it, with the member events of `members`."""
        state = room.visible.state
        keys = [(event_type, "") for event_type in STRIPPED] + [("m.room.member", user_id) for user_id in members]
        nids = [ref.nid for key in keys if (ref := state.get(key)) is not None]
        found = await self.events.get_many(nids)
        return [found[nid].event for nid in nids if nid in found]


def read_glimpse(given: Sequence[bytes]) -> bytes:
    """What a peer shows of a room, whole events or stripped ones, as clients are told it: a JSON list.

    What is no state event is left out, and what is too much.
    """
    kept: list[StrippedEvent] = []
    size = 0
    for raw in given[:MOST_SHOWN]:
        size += len(raw)
        if size > MOST_BYTES:
            break
        try:
            kept.append(msgspec.json.decode(raw, type=StrippedEvent))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
    return msgspec.json.encode(kept)


def servers_in_glimpse(glimpse: bytes) -> list[str]:
    """Servers whose people made what is shown of a room (`read_glimpse`): they are likely to be in it."""
    servers: list[str] = []
    for event in msgspec.json.decode(glimpse, type=list[StrippedEvent]):
        try:
            servers.append(str(server_of(parse_user_id(event.sender))))
        except InvalidIdentifier:
            continue
    return list(dict.fromkeys(servers))


async def believable(gatherer: Gatherer, version: RoomVersion, room_id: str, shown: Sequence[bytes]) -> Sequence[bytes]:
    """Of what a peer shows an outsider of a room: the events that are validly signed.

    Before room version 12 servers still show events reduced to what people are told of them, which can't be checked.
    """
    if not version.room_id_is_hash:
        return shown
    checked = await gatherer.check(version, shown[:MOST_SHOWN])
    return [one.raw for one in checked if isinstance(one, Event) and one.room_id == room_id]


def find_create(version: RoomVersion, room_id: str, given: Sequence[bytes]) -> Event | None:
    """The room's create event among what a peer shows, if it is there whole. Its signatures are not verified."""
    for raw in given[:MOST_SHOWN]:
        try:
            event = parse_pdu(version, raw)
        except BadEvent:
            continue
        if (event.type, event.state_key) == ("m.room.create", "") and event.room_id == room_id:
            return event
    return None
