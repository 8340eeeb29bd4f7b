"""Memberships of rooms that this server is not in: invitations and knocks that came or went by peers, and their ends.

Of such a room there is a row and the member events, which stand outside of any graph. The table of memberships tells
what holds: a live room, where there is one from an earlier stay, knows nothing of it.

Spec: https://spec.matrix.org/v1.19/server-server-api/#inviting-to-a-room
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Protocol, TypeVar

import msgspec
from attrs import field

from federation.room.event import Event
from federation.room.identifiers import server_of
from federation.room.versions import RoomVersion, get_room_version
from federation.service import service
from homeserver.rooms.accept import Door
from homeserver.rooms.receive.gather import Gatherer
from homeserver.rooms.registry import Rooms
from homeserver.streams.hub import Hub
from homeserver.turns import OneAtATime
from storage import events as event_rows
from storage import memberships as membership_rows
from storage import rooms as room_rows
from storage import stripped
from storage.database import Database
from storage.memberships import RoomOfUser
from storage.ports import Cursor, EventAppend, NewEvent, NewRoom, StateChange, StateRef, StoredEvent

T = TypeVar("T")

MEMBER = "m.room.member"


class Outsider(msgspec.Struct, frozen=True):
    """Somebody of this server who is invited to a room that the server is not in, or knocks there."""

    room: RoomOfUser
    event: Event
    """The member event that says so."""
    version: RoomVersion
    glimpse: bytes
    """What came with it, as clients are told it."""


class OutsideListener(Protocol):
    """Told of every committed change, before `/sync` shows it: must not wait and must not raise."""

    def membership_outside(self, stored: StoredEvent, position: int) -> None:
        """`stored`: the member event of a local user, which has no position of its own."""


class _Told(msgspec.Struct, frozen=True):
    """The notice of a committed change."""

    user_id: str
    stored: StoredEvent
    position: int
    listeners: Sequence[OutsideListener]

    def publish(self, hub: Hub) -> None:
        for listener in self.listeners:
            listener.membership_outside(self.stored, self.position)
        hub.mark_membership(self.user_id, self.stored.room_nid, self.position, joined=False, was_joined=False)


@service
class OutsideRooms:
    """Keeps them."""

    door: Door
    database: Database
    rooms: Rooms
    gatherer: Gatherer
    listeners: list[OutsideListener] = field(factory=list, init=False)
    _turns: OneAtATime = field(factory=OneAtATime)

    async def alone(self, room_id: str, work: Callable[[], Awaitable[T]]) -> T:
        """Do something about a room that this server is not in, one at a time: entering it, above all."""
        return await self._turns.alone(room_id, work)

    async def settled(self, room_id: str) -> None:
        """Wait until nobody is entering the room any more: what happens in it may arrive before the room itself."""
        await self._turns.settled(room_id)

    async def version_of(self, room_id: str) -> RoomVersion | None:
        """The version of a room of which there is a row."""
        row = await self.database.run(room_rows.find_room, room_id)
        return None if row is None else get_room_version(row.version)

    async def find(self, room_id: str, user_id: str) -> Outsider | None:
        """The user's invitation or knock, if it is one of those that only a peer knows."""
        return await self.database.run(_find, room_id, user_id)

    async def record(self, version: RoomVersion, event: Event, glimpse: bytes | None, create: Event | None) -> None:
        """Keep a member event of a local user, checked, as what holds now; `glimpse` is what came with it."""
        await self.alone(event.room_id, partial(self.record_alone, version, event, glimpse, create))

    async def take_end(self, origin: str, version: RoomVersion, room_id: str, raw: bytes) -> bool:
        """Hear from a peer that somebody's invitation or knock came to its end. False if it is nothing of the kind."""
        checked = (await self.gatherer.check(version, [raw]))[0]
        if isinstance(checked, str) or checked.room_id != room_id or checked.type != MEMBER:
            return False
        user_id = checked.state_key or ""
        if server_of(checked.sender) != origin or checked.content.get("membership") not in ("leave", "ban"):
            return False
        if user_id.partition(":")[2] != self.door.identity.server_name:
            return False
        standing = await self.find(room_id, user_id)
        # Who ends it knows it: the event says by what it was preceded.
        if standing is None or standing.event.event_id not in checked.auth_events:
            return False
        # Whether somebody else may take an invitation back only those can tell who know the room's state. Who invited
        # may; who knocks has nothing but the word of the room's servers anyway.
        if standing.room.membership == "invite" and checked.sender not in (standing.event.sender, user_id):
            return False
        await self.record(version, checked, None, None)
        return True

    async def record_alone(
        self, version: RoomVersion, event: Event, glimpse: bytes | None, create: Event | None
    ) -> None:
        """The same for who has the turn already."""
        user_id = event.state_key
        assert user_id is not None
        room_nid, known, old = await self.database.run(_read, event.room_id, event.event_id, user_id)
        live = self.rooms.peek(event.room_id)
        if known is not None or (live is not None and live.local_joined):
            return  # told twice, or this server came in meanwhile and hears of it in the room
        counters = self.door.means.counters
        new_room = None
        if room_nid is None:
            room_nid = counters.room
            counters.room += 1
            room_type = None if create is None else create.content.get("type")
            creator = event.sender if create is None else create.sender
            new_room = NewRoom(
                room_nid, event.room_id, version.identifier, creator, room_type if isinstance(room_type, str) else None
            )
        nid = counters.event
        counters.event += 1
        membership = event.content.get("membership")
        ref = StateRef(nid, event.event_id, membership if isinstance(membership, str) else None)
        before = None if old is None else StateRef(old.event_nid, "", old.membership)
        stored = StoredEvent(
            nid=nid,
            position=0,
            room_nid=room_nid,
            event=event,
            before=0,
            after=0,
            received_ts=self.door.clock.now_ms(),
        )
        position = self.database.next_position()
        await self.database.append(
            EventAppend(
                room_nid=room_nid,
                events=[NewEvent(stored, [StateChange((MEMBER, user_id), ref, before)], is_outlier=True)],
                head=None,
                new_room=new_room,
                also=[] if glimpse is None else [partial(stripped.put_stripped, event_nid=nid, state=glimpse)],
                notice=_Told(user_id, stored, position, self.listeners),
                position=position,
            )
        )


def _read(
    cursor: Cursor, room_id: str, event_id: str, user_id: str
) -> tuple[int | None, int | None, RoomOfUser | None]:
    """Nids of the room and of the event, where they are known, and what held so far."""
    room_nid = room_rows.find_nid(cursor, room_id)
    known = event_rows.find_nids(cursor, [event_id]).get(event_id)
    old = None if room_nid is None else membership_rows.membership_of(cursor, room_nid, user_id)
    return room_nid, known, old


def _find(cursor: Cursor, room_id: str, user_id: str) -> Outsider | None:
    row = room_rows.find_room(cursor, room_id)
    if row is None:
        return None
    current = membership_rows.membership_of(cursor, row.nid, user_id)
    if current is None or current.membership not in ("invite", "knock"):
        return None
    stored = event_rows.load_events(cursor, [current.event_nid]).get(current.event_nid)
    version = get_room_version(row.version)
    if stored is None or stored.position or version is None:
        return None
    shown = stripped.get_stripped(cursor, [stored.nid]).get(stored.nid, b"[]")
    return Outsider(current, stored.event, version, shown)
