"""The room of two people: which one it is, and what its state says of them as friends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import orjson

from federation.service import service
from homeserver.friends.halves import FRIEND, REQUEST, Half, read_state, relation_of
from homeserver.rooms.events import EventCache
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.membership import MEMBER
from homeserver.rooms.registry import Rooms
from homeserver.userdata.account_data import GLOBAL, AccountData
from homeserver.userdata.heirlooms import DIRECT
from homeserver.userdata.invite_filter import InviteFilter
from storage import friends as rows
from storage import memberships as membership_rows
from storage import rooms as room_rows
from storage.database import Database
from storage.friends import INCOMING, NONE, DirectRoom
from storage.memberships import RoomOfUser
from storage.ports import Cursor, StoredEvent

INSIDE = ("join", "invite")


class Reading(msgspec.Struct, frozen=True):
    """A room as the room of two people, seen by one of them."""

    user_id: str
    other_id: str
    room_id: str
    membership: str | None
    their_membership: str | None
    """None too where this server is not in the room."""
    mine: Half | None
    theirs: Half | None
    room: LiveRoom | None
    """Where the user is in it."""
    is_for_two: bool = True
    """Whether nobody else is in it, or invited."""

    @property
    def rank(self) -> tuple[object, ...]:
        """The room of two people is the one with the lowest: one in which both are; one that waits for the other; one
        to which the other invites; one that the other left. Of equals the older one, which is the same on all servers.
        """
        if self.membership == "invite":
            return 2, 0, self.room_id
        order = {"join": 0, "invite": 1}.get(self.their_membership or "", 3)
        return order, 0 if self.room is None else self.room.create.origin_server_ts, self.room_id


@service
class Pairs:
    """Reads them."""

    database: Database
    rooms: Rooms
    events: EventCache
    account_data: AccountData
    invite_filter: InviteFilter

    async def find(self, user_id: str, other_id: str) -> Reading | None:
        """The room of two people, as far as it is one for the first, who lives here."""
        return min(await self.all_of(user_id, other_id), key=lambda reading: reading.rank, default=None)

    async def all_of(self, user_id: str, other_id: str) -> list[Reading]:
        """All that might be it."""
        found = []
        for room_id in await self._candidates(user_id, other_id):
            reading = await self.read(user_id, other_id, room_id)
            if reading is not None and reading.is_for_two:
                found.append(reading)
        return found

    async def _candidates(self, user_id: str, other_id: str) -> list[str]:
        noted = [one.room_id for one in await self.database.run(rows.of_pair, user_id, other_id)]
        named = (await self.listed_direct(user_id)).get(other_id, [])
        new = [room_id for room_id in named if room_id not in noted]
        known = [*noted, *(await self.database.run(rows.joined_among, user_id, new) if new else ())]
        invited = await self.database.run(membership_rows.rooms_of, user_id, ["invite"])
        return [*known, *(stay.room_id for stay in invited if stay.room_id not in known)]

    async def listed_direct(self, user_id: str) -> Mapping[str, list[str]]:
        """The rooms of somebody's `m.direct`, which clients write as they like, by the others' ids."""
        json = await self.account_data.get(user_id, GLOBAL, DIRECT)
        content: Any = {} if json is None else orjson.loads(json)
        return {
            other_id: [room_id for room_id in room_ids if isinstance(room_id, str)]
            for other_id, room_ids in content.items()
            if isinstance(room_ids, list)
        }

    async def import_old(self, user_id: str) -> None:
        """Note what clients made direct rooms of before, or without saying so to the server."""
        noted = {(one.other_id, one.room_id) for one in await self.database.run(rows.listed, user_id)}
        named = {
            (other_id, room_id)
            for other_id, room_ids in (await self.listed_direct(user_id)).items()
            for room_id in room_ids
        }
        new = named - noted
        joined = await self.database.run(rows.joined_among, user_id, [room_id for _, room_id in new]) if new else []
        for other_id, room_id in sorted(new):
            reading = await self.read(user_id, other_id, room_id) if room_id in joined else None
            if reading is not None and reading.is_for_two and reading.their_membership in INSIDE:
                relation = await self.relation(reading)
                await self.database.write(rows.add, DirectRoom(user_id, other_id, room_id, relation))

    async def read(self, user_id: str, other_id: str, room_id: str) -> Reading | None:
        """What a room says of two people, the first of whom lives here. None where that one is not in it, nor
        invited by the other to a direct room. Raises StillPartial.
        """
        room = await self.rooms.get(room_id)
        if room is None or room.membership_of(user_id) != "join":
            return await self._read_invitation(user_id, other_id, room_id)
        room = await self.rooms.whole(room)
        inside = {member for member, ref in room.known_members() if ref.membership in INSIDE}
        their_membership = room.membership_of(other_id)
        said = await self.database.run(rows.words, room_id)
        halves: dict[str, Half | None] = {}
        for person in (user_id, other_id):
            word = said.get(person)
            state = None if word is None else read_state({"state": word.state})
            stored = await self._stored(room, (FRIEND, person))
            if word is not None and state is not None:
                halves[person] = Half(state, word.position)
            if stored is not None and (state := read_state(stored.event.content)) is not None:
                event = Half(state, stored.position)
                halves[person] = max(halves.get(person) or event, event, key=lambda half: half.position)
        mine, theirs = halves.get(user_id), halves.get(other_id)
        if theirs is None and mine is not None and their_membership == "join":
            theirs = await self._by_joining(room, mine, other_id)
        is_for_two = inside <= {user_id, other_id} and user_id != other_id
        return Reading(user_id, other_id, room_id, "join", their_membership, mine, theirs, room, is_for_two)

    async def relation(self, reading: Reading) -> int:
        """What the other is to the user. Requests of those whom the user does not want to hear of are none."""
        relation = relation_of(reading.mine, reading.theirs)
        if relation == INCOMING:
            wishes = await self.invite_filter.of(reading.user_id)
            return relation if wishes.judge(reading.other_id) == "allow" else NONE
        return relation

    async def _by_joining(self, room: LiveRoom, mine: Half, other_id: str) -> Half | None:
        """The half of somebody whose server knows nothing of friends: having come in after the request says yes."""
        if mine.state == "accepted":
            return Half("accepted", mine.position)
        stay = await self.database.run(membership_rows.membership_of, room.nid, other_id)
        if mine.state == "requested" and stay is not None and stay.since > mine.position:
            return Half("accepted", stay.since)
        return None

    async def _read_invitation(self, user_id: str, other_id: str, room_id: str) -> Reading | None:
        stay = await self.database.run(_stay, room_id, user_id)
        if stay is None or stay.membership != "invite":
            return None
        stored = await self.events.get(stay.event_nid)
        if stored is None or stored.event.sender != other_id or stored.event.content.get("is_direct") is not True:
            return None
        asks = stored.event.content.get(REQUEST) is True
        theirs = Half("requested", stay.position) if asks else None
        return Reading(user_id, other_id, room_id, "invite", None, None, theirs, None)

    async def _stored(self, room: LiveRoom, key: tuple[str, str]) -> StoredEvent | None:
        ref = room.visible.state.get(key)
        return None if ref is None else await self.events.get(ref.nid)

    async def has_been_in(self, room: LiveRoom, user_id: str) -> bool:
        """Whether somebody ever came into a room."""
        if room.visible.state.get((MEMBER, user_id)) is None:
            return False
        past = await self.database.run(membership_rows.membership_history, room.nid, user_id)
        return any(change.membership == "join" for change in past)


def _stay(cursor: Cursor, room_id: str, user_id: str) -> RoomOfUser | None:
    room_nid = room_rows.find_nid(cursor, room_id)
    return None if room_nid is None else membership_rows.membership_of(cursor, room_nid, user_id)
