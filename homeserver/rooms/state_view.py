"""A room's state for those who may look into it: whole, one piece, or its members.

Members and peekers see the current state, former members what it was when they left.

Spec: https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidstate
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from federation.room.event import StateKey
from federation.service import service
from homeserver.errors import NotFound
from homeserver.rooms.access import Access, RoomAccess
from homeserver.rooms.events import EventCache
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.tracing import without_later
from storage.database import Database
from storage.events import load_events, timeline
from storage.ports import Cursor, StoredEvent
from storage.state import read_state

MembershipName = Literal["join", "invite", "knock", "leave", "ban"]


class MembersAsk(msgspec.Struct, frozen=True, gc=False):
    """Which members: `wanted`, or everybody who is not `unwanted`; both together mean either."""

    at: int | None = None
    """Position in the room's timeline; None: now."""
    wanted: MembershipName | None = None
    unwanted: MembershipName | None = None

    def admits(self, membership: object) -> bool:
        if self.wanted is None and self.unwanted is None:
            return True
        return membership == self.wanted or (self.unwanted is not None and membership != self.unwanted)


class MemberProfile(msgspec.Struct, frozen=True, gc=False):
    """What `joined_members` tells of somebody."""

    display_name: str | None
    avatar_url: str | None


@service
class StateView:
    """Reads the state of rooms for clients."""

    database: Database
    access: RoomAccess
    events: EventCache

    async def whole(self, room_id: str, user_id: str) -> list[StoredEvent]:
        """All state events. Raises Forbidden."""
        access = await self.access.reader_of_whole(room_id, user_id)
        if access.left is not None:
            return await self.database.run(_state_after, access.left)
        return await self._load([ref.nid for ref in access.room.visible.state.values()])

    async def piece(self, room_id: str, user_id: str, key: StateKey) -> StoredEvent:
        """One state event. Raises Forbidden, or NotFound where the room has none of that type and key."""
        access = await self.access.reader(room_id, user_id)
        if access.room.partial is not None and not self._is_known(access.room, key):
            access = await self.access.reader_of_whole(room_id, user_id)
        found: StoredEvent | None = None
        if access.left is not None:
            found = await self.database.run(_piece_after, access.left, key)
        else:
            ref = access.room.visible.state.get(key)
            if ref is not None:
                found = await self.events.get(ref.nid)
        if found is None:
            raise NotFound("The room has no state of that type and key")
        return found

    async def members(self, room_id: str, user_id: str, ask: MembersAsk) -> list[StoredEvent]:
        """Member events. Raises Forbidden."""
        access = await self.access.reader_of_whole(room_id, user_id)
        room = access.room
        if access.left is None and (ask.at is None or _same_members_since(room, ask.at)):
            return await self._load([ref.nid for _, ref in room.members() if ask.admits(ref.membership)])
        events = await self.database.run(_members_at, access, ask.at)
        return [stored for stored in events if ask.admits(stored.event.content.get("membership"))]

    async def joined_members(self, room_id: str, user_id: str) -> dict[str, MemberProfile]:
        """Who is joined, with names and pictures. Raises Forbidden for everybody who is not joined."""
        room = await self.access.member_of_whole(room_id, user_id)
        events = await self._load([ref.nid for _, ref in room.members() if ref.membership == "join"])
        return {stored.event.state_key or "": _profile(stored.event.content) for stored in events}

    def _is_known(self, room: LiveRoom, key: StateKey) -> bool:
        """Whether a partial room's word on a piece of state counts: it does, but for other servers' people."""
        return key[0] != "m.room.member" or key[1] in room.local_joined

    async def _load(self, nids: Sequence[int]) -> list[StoredEvent]:
        found = await self.events.get_many(nids)
        return [found[nid] for nid in nids if nid in found]


def _same_members_since(room: LiveRoom, position: int) -> bool:
    """Whether the room's recent past, as far as it is in memory, shows that nobody's membership changed since."""
    return room.window_floor <= position and not any(
        change.key[0] == "m.room.member"
        for entry in room.window
        if entry.position > position
        for change in entry.changes
    )


def _profile(content: Mapping[str, object]) -> MemberProfile:
    name, avatar = content.get("displayname"), content.get("avatar_url")
    return MemberProfile(name if isinstance(name, str) else None, avatar if isinstance(avatar, str) else None)


# -- in a database thread ----------------------------------------------------------------------------------------


def _state_after(cursor: Cursor, event: StoredEvent) -> list[StoredEvent]:
    found = load_events(cursor, list(read_state(cursor, event.after).values())).values()
    return [without_later(stored, event.position) for stored in found]


def _piece_after(cursor: Cursor, event: StoredEvent, key: StateKey) -> StoredEvent | None:
    nid = read_state(cursor, event.after, [key]).get(key)
    stored = None if nid is None else load_events(cursor, [nid]).get(nid)
    return None if stored is None else without_later(stored, event.position)


def _members_at(cursor: Cursor, access: Access, at: int | None) -> list[StoredEvent]:
    """Member events as they were at a place in the timeline, and not later than when the reader left."""
    last = access.left
    if at is not None and (last is None or at < last.position):
        events = timeline(cursor, access.room.nid, upto=at, limit=1, backwards=True)
        if not events:
            # COMPAT Complement: a first sync that shows all of a room's timeline has a `prev_batch` from before the
            # room's creation. Nobody was in it then: the first who came are the answer, not an empty list.
            events = timeline(cursor, access.room.nid, limit=2, backwards=False)[-1:]
        if not events:
            return []
        last = events[0]
    assert last is not None
    found = load_events(cursor, list(read_state(cursor, last.after, types=["m.room.member"]).values())).values()
    left = access.left
    return list(found) if left is None else [without_later(stored, left.position) for stored in found]
