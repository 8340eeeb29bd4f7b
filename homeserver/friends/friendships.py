"""Asking somebody to be a friend, and what either side then does about it.

A request to somebody with whom there is no direct room yet is the invitation to it; otherwise it is said in the room.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from federation.service import service
from homeserver.errors import NotFound
from homeserver.friends.direct import DirectRooms
from homeserver.friends.notices import News
from homeserver.friends.pairs import Pairs, Reading
from homeserver.rooms.membership import check_invitable
from storage import friends as rows
from storage.friends import FRIENDS, INCOMING, OUTGOING, Listed

NO_REQUEST = "There is no such friend request"


@service
class Friendships:
    """Acts for people of this server. Each call answers when it is durable; all raise MatrixError."""

    pairs: Pairs
    direct: DirectRooms
    news: News

    async def request(self, user_id: str, other_id: str) -> tuple[str, int]:
        """Ask somebody, or accept what they asked: the room of the two, and what they are to each other now."""
        await self.direct.check(user_id, other_id)
        return await self.direct.alone(user_id, other_id, partial(self._request, user_id, other_id))

    async def accept(self, user_id: str, other_id: str) -> None:
        check_invitable(other_id)
        await self.direct.alone(user_id, other_id, partial(self._answer, user_id, other_id, yes=True))

    async def decline(self, user_id: str, other_id: str) -> None:
        check_invitable(other_id)
        await self.direct.alone(user_id, other_id, partial(self._answer, user_id, other_id, yes=False))

    async def cancel(self, user_id: str, other_id: str) -> None:
        """Take back what one asked."""
        check_invitable(other_id)
        await self.direct.alone(user_id, other_id, partial(self._cancel, user_id, other_id))

    async def remove(self, user_id: str, other_id: str) -> None:
        """Be friends no more. The room stays, and all that was said in it."""
        check_invitable(other_id)
        await self.direct.alone(user_id, other_id, partial(self._remove, user_id, other_id))

    async def of(self, user_id: str) -> Sequence[Listed]:
        """What others are to somebody, by their ids: one entry each."""
        found: dict[str, Listed] = {}
        for one in await self.pairs.database.run(rows.listed, user_id):
            if one.relation and (one.other_id not in found or one.relation > found[one.other_id].relation):
                found[one.other_id] = one
        return list(found.values())

    # ----------------------------------------------------------------------------------------------------------

    async def _request(self, user_id: str, other_id: str) -> tuple[str, int]:
        reading = await self.pairs.find(user_id, other_id)
        relation = None if reading is None else await self.pairs.relation(reading)
        if reading is not None and relation == FRIENDS:
            return reading.room_id, FRIENDS
        if reading is not None and relation == INCOMING:
            await self._accept(reading)
            room_id = reading.room_id
        else:
            room_id = await self.direct.open(user_id, other_id, asks=True)
            reading = await self.pairs.read(user_id, other_id, room_id)
            if reading is not None and reading.room is not None and reading.mine is None:
                # The other had opened the room, with no thought of friends.
                await self.direct.say(user_id, other_id, reading.room, "requested")
                await self.direct.refresh(user_id, other_id, room_id, user_id)
        now = await self.pairs.read(user_id, other_id, room_id)
        return room_id, OUTGOING if now is None else await self.pairs.relation(now)

    async def _answer(self, user_id: str, other_id: str, *, yes: bool) -> None:
        reading = await self._require(user_id, other_id, INCOMING)
        if yes:
            await self._accept(reading)
        elif reading.room is None:
            await self.direct.memberships.leave(reading.room_id, user_id)
            await self.direct.left(user_id, other_id, reading.room_id, user_id)
        else:
            await self.direct.say(user_id, other_id, reading.room, "removed")
            await self._changed(reading)

    async def _accept(self, reading: Reading) -> None:
        user_id, other_id = reading.user_id, reading.other_id
        if reading.room is None:
            await self.direct.open(user_id, other_id)
        else:
            await self.direct.say(user_id, other_id, reading.room, "accepted")
        await self._changed(reading)

    async def _cancel(self, user_id: str, other_id: str) -> None:
        reading = await self._require(user_id, other_id, OUTGOING)
        assert reading.room is not None
        if reading.their_membership == "invite" and not await self.pairs.has_been_in(reading.room, other_id):
            await self.direct.abandon(reading)  # a room that nobody ever came into
            return
        await self.direct.say(user_id, other_id, reading.room, "removed")
        if reading.their_membership == "invite":
            await self.direct.memberships.kick(reading.room_id, user_id, other_id)
        await self._changed(reading)

    async def _remove(self, user_id: str, other_id: str) -> None:
        reading = await self._require(user_id, other_id, FRIENDS, "You are no friends")
        assert reading.room is not None
        await self.direct.say(user_id, other_id, reading.room, "removed")
        await self._changed(reading)

    async def _require(self, user_id: str, other_id: str, relation: int, none: str = NO_REQUEST) -> Reading:
        """The room by which the other is that to the user. Raises NotFound."""
        for one in await self.pairs.database.run(rows.of_pair, user_id, other_id):
            if one.relation == relation:
                reading = await self.pairs.read(user_id, other_id, one.room_id)
                if reading is not None and await self.pairs.relation(reading) == relation:
                    return reading
        raise NotFound(none)

    async def _changed(self, reading: Reading) -> None:
        """Note what follows on both sides, where the other lives here too."""
        await self.direct.refresh(reading.user_id, reading.other_id, reading.room_id, reading.user_id)
        for one in await self.pairs.database.run(rows.of_pair, reading.other_id, reading.user_id):
            if one.room_id == reading.room_id:
                await self.direct.refresh(one.user_id, one.other_id, one.room_id, reading.user_id)
