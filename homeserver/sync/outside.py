"""The rooms in a `/sync` answer that the reader is not in: invitations, knocks, and what it just left.

What is shown of them is little, on purpose: stripped state to the invited, and to those who left what happened up to
their leaving.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from federation.service import service
from homeserver.rooms.closed import ClosedRooms
from homeserver.rooms.events import EventCache
from homeserver.rooms.glimpse import STRIPPED
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.registry import Rooms
from homeserver.rooms.render import client_event, stripped_state
from homeserver.streams.hub import Feed, newer
from homeserver.streams.tokens import RoomToken, StreamToken
from homeserver.sync.joined import Manner, RoomSections, Want
from homeserver.sync.timeline import Span
from homeserver.userdata.invite_filter import InviteFilter, Wishes
from storage import memberships as membership_rows
from storage.database import Database
from storage.events import load_events
from storage.memberships import RoomOfUser
from storage.ports import Cursor, StoredEvent
from storage.stripped import get_stripped


class Outside(msgspec.Struct, frozen=True):
    """Room id → JSON of the room's section."""

    invite: dict[str, bytes] = msgspec.field(default_factory=dict)
    knock: dict[str, bytes] = msgspec.field(default_factory=dict)
    leave: dict[str, bytes] = msgspec.field(default_factory=dict)


NOTHING = Outside()


@service
class OutsideSections:
    """Makes the sections of rooms that the reader is not in."""

    rooms: Rooms
    events: EventCache
    database: Database
    sections: RoomSections
    invite_filter: InviteFilter
    closed: ClosedRooms

    async def make(self, feed: Feed, manner: Manner, since: StreamToken, upto: StreamToken, *, first: bool) -> Outside:
        nids = await self._nids(feed, manner, since, first)
        if not nids:
            return NOTHING
        found = Outside()
        wishes = await self.invite_filter.of(feed.user_id)
        left: list[Want] = []
        live = await self.rooms.get_many(nids)
        afar = [nid for nid in nids if nid not in feed.joined and (nid not in live or not live[nid].local_joined)]
        known_afar = await self.database.run(_read_afar, feed.user_id, afar) if afar else {}
        for told in known_afar.values():
            if told.row.position <= upto.position and manner.filter.room.admits_room(told.row.room_id):
                _show_afar(found, told, manner, wishes)
        for nid, room in live.items():
            if nid in known_afar:
                continue
            ref = room.visible.state.get(("m.room.member", feed.user_id))
            if nid in feed.joined or not manner.filter.room.admits_room(room.room_id):
                continue
            if ref is None:
                if not first:  # resolution took the membership away, and there is no event to show for it
                    found.leave[room.room_id] = _section([], [], upto.position)
                continue
            stored = await self.events.get(ref.nid)
            if stored is None or stored.position > upto.position:
                continue
            if ref.membership == "invite":
                if wishes.judge(stored.event.sender) != "allow":
                    continue
                state = await self.stripped(room, feed.user_id)
                found.invite[room.room_id] = b'{"invite_state":{"events":[%b]}}' % b",".join(state)
            elif ref.membership == "knock":
                state = await self.stripped(room, feed.user_id)
                found.knock[room.room_id] = b'{"knock_state":{"events":[%b]}}' % b",".join(state)
            elif not first and stored.position <= since.position:
                # Resolution put the end of an earlier stay in force again.
                copy = client_event(stored, manner.reader, room_id=False)
                found.leave[room.room_id] = _section([], [copy], upto.position)
            elif ref.membership in ("leave", "ban"):
                is_closed = await self.closed.is_closed(room, feed.user_id)
                want = None if is_closed else await self._left(room, stored, since, first)
                if want is None:
                    found.leave[room.room_id] = _only(stored, stored.position, manner)
                else:
                    left.append(want)
        if left:
            found.leave.update(await self.sections.make(left, manner))
        return found

    async def afar(self, user_id: str, nids: Sequence[int]) -> list[tuple[RoomOfUser, StoredEvent]]:
        """What somebody is in those of the rooms that this server is not in: the membership, and what a peer sent.

        Invitations from whom the person wants none are left out.
        """
        if not nids:
            return []
        wishes = await self.invite_filter.of(user_id)
        read = await self.database.run(_read_afar, user_id, nids)
        return [
            (one.row, one.stored)
            for one in read.values()
            if one.row.membership != "invite" or wishes.judge(one.stored.event.sender) == "allow"
        ]

    async def stripped(self, room: LiveRoom, user_id: str) -> list[bytes]:
        """What someone who is invited or knocks is told of a room.

        Spec: https://spec.matrix.org/v1.19/client-server-api/#stripped-state
        """
        state = room.visible.state
        own = state.get(("m.room.member", user_id))
        keys = [(event_type, "") for event_type in STRIPPED] + [("m.room.member", user_id)]
        if own is not None:
            stored = await self.events.get(own.nid)
            if stored is not None and stored.event.sender != user_id:
                keys.append(("m.room.member", stored.event.sender))
        nids = [ref.nid for key in keys if (ref := state.get(key)) is not None]
        found = await self.events.get_many(nids)
        return [stripped_state(found[nid].event) for nid in nids if nid in found]

    async def _nids(self, feed: Feed, manner: Manner, since: StreamToken, first: bool) -> list[int]:
        if not first and since.position >= feed.floor:
            return [nid for nid in newer(feed.moved, since.position) if nid not in feed.joined]
        shown = {"invite", "knock"}
        if not first or manner.filter.room.include_leave:
            shown |= {"leave", "ban"}
        rows = await self.database.run(membership_rows.rooms_of, feed.user_id)
        return [
            row.room_nid
            for row in rows
            if row.membership in shown and not row.forgotten and (first or row.position > since.position)
        ]

    async def _left(self, room: LiveRoom, stored: StoredEvent, since: StreamToken, first: bool) -> Want | None:
        """How to show a room up to the reader's leaving; None if it was not in it, so that only the end is shown."""
        stay = await self._stay_before(stored)
        if stay is None:
            return None
        # Somebody who came and went since the last sync knows nothing of the room yet.
        while not first and stay.position > since.position:
            earlier = await self._stay_before(stay)
            first, stay = earlier is None, earlier or stay
        span = Span(0 if first else since.position, stored.position)
        return Want(room, span, first, span.upto, is_left=True, end_snapshot=stored.after)

    async def _stay_before(self, stored: StoredEvent) -> StoredEvent | None:
        """The member event that this one replaced, if its user was joined by it."""
        before = await self.events.get(stored.replaces) if stored.replaces else None
        if before is None or before.event.content.get("membership") != "join":
            return None
        return before


class _Afar(msgspec.Struct, frozen=True):
    """A membership of a room that this server is not in, as a peer told of it."""

    row: RoomOfUser
    stored: StoredEvent
    shown: bytes
    """JSON list of stripped state."""


def _read_afar(cursor: Cursor, user_id: str, room_nids: Sequence[int]) -> dict[int, _Afar]:
    """Those of the rooms in which the user's membership is one of that kind, by nid. Runs in a database thread."""
    rows = {row.event_nid: row for row in membership_rows.rooms_of(cursor, user_id) if row.room_nid in set(room_nids)}
    events = load_events(cursor, list(rows))
    shown = get_stripped(cursor, list(rows))
    return {
        row.room_nid: _Afar(row, events[nid], shown.get(nid, b"[]"))
        for nid, row in rows.items()
        if nid in events and not events[nid].position and not row.forgotten
    }


def _show_afar(found: Outside, told: _Afar, manner: Manner, wishes: Wishes) -> None:
    stored, room_id, membership = told.stored, told.row.room_id, told.row.membership
    if membership == "invite" and wishes.judge(stored.event.sender) != "allow":
        return
    inner = told.shown.strip()[1:-1]
    state = b",".join([part for part in (inner, stripped_state(stored.event)) if part])
    if membership == "invite":
        found.invite[room_id] = b'{"invite_state":{"events":[%b]}}' % state
    elif membership == "knock":
        found.knock[room_id] = b'{"knock_state":{"events":[%b]}}' % state
    else:
        found.leave[room_id] = _only(stored, told.row.position, manner)


def _only(stored: StoredEvent, position: int, manner: Manner) -> bytes:
    return _section([client_event(stored, manner.reader, room_id=False)], [], position - 1)


def _section(timeline: Sequence[bytes], state: Sequence[bytes], start: int) -> bytes:
    return b'{"timeline":{"events":[%b],"limited":false,"prev_batch":"%b"},"state":{"events":[%b]}}' % (
        b",".join(timeline),
        str(RoomToken(start)).encode(),
        b",".join(state),
    )
