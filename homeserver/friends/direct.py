"""The one direct room of two people: opened once, however often and from whichever side.

    there is one        both in it: done; the other is out of it: invited again; invited oneself: join
    there is none       made, with the other invited
    two at one moment   on two servers, each with the other invited: that of the lesser user id stays, and the other
                        side comes over; a server that knows nothing of this can't, so its room stays

Everything about two people is done one at a time (`alone`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, Protocol, TypeVar

import structlog
from attrs import field

from federation.room.identifiers import server_of
from federation.room.versions import ROOM_VERSIONS
from federation.service import service
from homeserver.errors import Forbidden, InvalidParam, MatrixError, NotFound
from homeserver.friends.halves import FRIEND, REQUEST, Half, State, settled
from homeserver.friends.listing import DirectList
from homeserver.friends.notices import News
from homeserver.friends.pairs import INSIDE, Pairs, Reading
from homeserver.friends.words import Words
from homeserver.guilds.steward import is_steward
from homeserver.rooms.create import CreateRoom, InitialState, RoomMaker
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.membership import Memberships, check_invitable
from homeserver.turns import OneAtATime
from storage import friends as rows
from storage.accounts import get_account
from storage.friends import INCOMING, NONE, DirectRoom

MARK: Final = "chat.guildhall.direct"
"""In the content of the create event: the room of two people, made by a server that knows of there being but one."""

log = structlog.get_logger("homeserver.friends")

T = TypeVar("T")


class Glances(Protocol):
    """Knows rooms to which people here are invited and that this server is not in."""

    async def create_content(self, room_id: str, user_id: str) -> dict[str, Any]:
        """The content of the create event, as the invitation shows it; {} where it does not."""


class NoGlances:
    """For a server that does not federate."""

    async def create_content(self, room_id: str, user_id: str) -> dict[str, Any]:
        return {}


@service
class DirectRooms:
    """See the module's docstring. One per process."""

    pairs: Pairs
    maker: RoomMaker
    memberships: Memberships
    listing: DirectList
    words: Words
    news: News
    glances: Glances = field(factory=NoGlances)
    _turns: OneAtATime = field(factory=OneAtATime)

    async def alone(self, user_id: str, other_id: str, work: Callable[[], Awaitable[T]]) -> T:
        """Do something about two people, in whichever order they are named."""
        return await self._turns.alone(frozenset((user_id, other_id)), work)

    async def check(self, user_id: str, other_id: str) -> None:
        """Whether somebody can be written to. Raises InvalidParam, Forbidden, NotFound for who has no account here."""
        check_invitable(other_id)
        if other_id == user_id:
            raise InvalidParam("`user_id`: that is you")
        if is_steward(other_id):
            raise Forbidden("Nobody can write to a server's own account")
        if self._is_ours(other_id):
            account = await self.pairs.database.run(get_account, other_id)
            if account is None or account.deactivated:
                raise NotFound("There is no such user")

    async def open(self, user_id: str, other_id: str, *, asks: bool = False) -> str:
        """The room of two people for the first of them, who is in it then; for who has the turn.

        `asks`: inviting the other is a friend request too, and said to be one. Raises MatrixError.
        """
        reading = await self.pairs.find(user_id, other_id)
        if reading is None:
            reading = await self._make(user_id, other_id, asks=asks)
        elif reading.membership == "invite":
            await self.memberships.join(reading.room_id, user_id, via=[str(server_of(other_id))])
            await self.welcome(user_id, other_id, reading.room_id, asked=reading.theirs is not None)
            return reading.room_id
        else:
            await self._note(user_id, other_id, reading.room_id)
            await self._ask_in(reading, asks=asks)
        crossing = await self._crossing(reading)
        if crossing is not None:
            with suppress(MatrixError):  # it is tried again by itself
                return await self.cross(reading, crossing)
        return reading.room_id

    async def welcome(self, user_id: str, other_id: str, room_id: str, *, asked: bool = False) -> None:
        """Somebody has come into a direct room: if that was to invite them to be friends, it says yes.

        `asked`: it was; otherwise it was if it is noted.
        """
        noted = await self.pairs.database.run(rows.of_pair, user_id, other_id)
        asked = asked or any(one.room_id == room_id and one.relation == INCOMING for one in noted)
        await self._note(user_id, other_id, room_id)
        reading = await self.pairs.read(user_id, other_id, room_id)
        if reading is not None and reading.room is not None and asked and not _is_willing(reading.mine):
            await self.say(user_id, other_id, reading.room, "accepted")

    async def invited(self, user_id: str, other_id: str, room_id: str, *, asks: bool) -> None:
        """Somebody here was invited to a direct room; for who has the turn. `asks`: to be friends, too."""
        if (await self.pairs.invite_filter.of(user_id)).judge(other_id) != "allow":
            return
        # Noted first and looked at then: whoever joins meanwhile finds it noted, or is found here to have joined.
        relation = INCOMING if asks else NONE
        room = DirectRoom(user_id, other_id, room_id, relation)
        before = NONE if await self.pairs.database.write(rows.add, room) else None
        if before is None:
            before = await self.pairs.database.write(rows.set_relation, room)
        reading = await self.pairs.read(user_id, other_id, room_id)
        if reading is None or not reading.is_for_two:
            await self.pairs.database.write(rows.remove, user_id, other_id, room_id)
            return
        if reading.membership == "join":
            await self.welcome(user_id, other_id, room_id, asked=asks)
            await self.refresh(user_id, other_id, room_id, user_id)
            return
        await self.news.tell_change(user_id, other_id, room_id, before or NONE, relation, other_id)

    async def give_way(self, user_id: str, other_id: str) -> None:
        """Where both opened a room at the same moment, come over to the other's if that is the one that stays; for who
        has the turn. Raises MatrixError, also where the other's server does not know yet that it invites to it.
        """
        for mine in await self.pairs.all_of(user_id, other_id):
            theirs = await self._crossing(mine)
            if theirs is not None:
                await self.cross(mine, theirs)
                return

    async def inviting(self, user_id: str, other_id: str, room_id: str) -> None:
        """Somebody here invited somebody to a direct room, by whatever client; for who has the turn."""
        reading = await self.pairs.read(user_id, other_id, room_id)
        if reading is not None and reading.room is not None and reading.is_for_two:
            await self._note(user_id, other_id, room_id)

    async def left(self, user_id: str, other_id: str, room_id: str, by: str) -> None:
        """Somebody here is not in a direct room any more, nor invited; for who has the turn."""
        if await self.pairs.read(user_id, other_id, room_id) is not None:
            return  # and back again
        before = await self.pairs.database.write(rows.remove, user_id, other_id, room_id)
        await self.listing.remove(user_id, other_id, room_id)
        if before is not None:
            await self.news.tell_change(user_id, other_id, room_id, before, NONE, by)
            await self.news.tell("dm.deleted", user_id, other_id, room_id)

    async def say(self, user_id: str, other_id: str, room: LiveRoom, state: State) -> None:
        """Say somebody's half of a friendship; for who has the turn. Of what can't be said in the room the other
        hears at once.
        """
        is_in_room = await self.words.say(user_id, other_id, room, state)
        if not is_in_room and self._is_ours(other_id):
            await self.refresh(other_id, user_id, room.room_id, user_id)

    async def refresh(self, user_id: str, other_id: str, room_id: str, by: str) -> None:
        """What two people are to each other may have changed, by what one of them did; for who has the turn."""
        from_now = await self.pairs.read(user_id, other_id, room_id)
        if from_now is None:
            return
        state = settled(from_now.mine, from_now.theirs, from_now.their_membership)
        if state is not None and from_now.room is not None:
            await self.say(user_id, other_id, from_now.room, state)
            from_now = await self.pairs.read(user_id, other_id, room_id) or from_now
        relation = await self.pairs.relation(from_now)
        noted = DirectRoom(user_id, other_id, room_id, relation)
        before = await self.pairs.database.write(rows.set_relation, noted)
        if before is not None:
            await self.news.tell_change(user_id, other_id, room_id, before, relation, by)

    async def abandon(self, reading: Reading) -> None:
        """Leave a room that is not to be that of the two, and take back the invitation to it."""
        user_id, room_id = reading.user_id, reading.room_id
        if reading.their_membership == "invite":
            try:
                await self.memberships.kick(room_id, user_id, reading.other_id)
            except MatrixError as error:
                log.info("an invitation could not be taken back", room=room_id, why=error.error)
        await self.memberships.leave(room_id, user_id)
        await self.memberships.forget(room_id, user_id)
        await self.left(user_id, reading.other_id, room_id, user_id)

    async def cross(self, mine: Reading, theirs: Reading) -> str:
        """Both opened a room at the same moment: come over to the other's, which is given."""
        user_id, other_id = mine.user_id, mine.other_id
        asked = mine.mine is not None and mine.mine.state == "requested"
        await self.memberships.join(theirs.room_id, user_id, via=[str(server_of(other_id))])
        await self.welcome(user_id, other_id, theirs.room_id, asked=theirs.theirs is not None)
        await self.abandon(mine)
        reading = await self.pairs.read(user_id, other_id, theirs.room_id)
        if asked and reading is not None and reading.room is not None and not _is_willing(reading.mine):
            await self.say(user_id, other_id, reading.room, "requested")
        await self.refresh(user_id, other_id, theirs.room_id, user_id)
        return theirs.room_id

    # ----------------------------------------------------------------------------------------------------------

    async def _crossing(self, mine: Reading) -> Reading | None:
        """An invitation of the other's to which this side's room gives way."""
        for theirs in await self.pairs.all_of(mine.user_id, mine.other_id):
            if await self._gives_way(mine, theirs):
                return theirs
        return None

    async def _gives_way(self, mine: Reading, theirs: Reading) -> bool:
        """Whether a room that one side made gives way to one that the other made, as both servers see it."""
        if theirs.membership != "invite" or mine.room is None or mine.their_membership != "invite":
            return False
        create = mine.room.create
        if create.sender != mine.user_id or create.content.get(MARK) is not True:
            return False  # a client's doing: not the server's to undo
        their_create = await self._create_of(theirs)
        return their_create.get(MARK) is not True or theirs.other_id < mine.user_id

    async def _create_of(self, reading: Reading) -> dict[str, Any]:
        room = await self.pairs.rooms.get(reading.room_id)
        if room is not None and room.local_joined:
            return dict(room.create.content)
        return await self.glances.create_content(reading.room_id, reading.user_id)

    async def _make(self, user_id: str, other_id: str, *, asks: bool) -> Reading:
        version = ROOM_VERSIONS[self.maker.settings.rooms.default_version]
        levels = {
            # The other may do all that both do alike, but not put out who made the room.
            "users": {other_id: 50} if version.privileged_creators else {user_id: 100, other_id: 50},
            "events": {
                FRIEND: 0,
                "m.room.history_visibility": 100,
                "m.room.power_levels": 100,
                "m.room.server_acl": 100,
                "m.room.tombstone": 150 if version.privileged_creators else 100,
            },
        }
        request = [InitialState(FRIEND, {"state": "requested"}, user_id)] if asks else []
        room_id = await self.maker.create(
            user_id,
            CreateRoom(
                preset="private_chat",
                is_direct=True,
                creation_content={MARK: True},
                initial_state=request,
                power_level_content_override=levels,
            ),
        )
        await self.pairs.database.write(rows.add, DirectRoom(user_id, other_id, room_id, NONE))
        try:
            await self._invite(user_id, other_id, room_id, asks=asks)
        except MatrixError:
            await self.memberships.leave(room_id, user_id)
            await self.memberships.forget(room_id, user_id)
            await self.pairs.database.write(rows.remove, user_id, other_id, room_id)
            raise
        await self.listing.add(user_id, other_id, room_id)
        await self.news.tell("dm.created", user_id, other_id, room_id)
        await self.refresh(user_id, other_id, room_id, user_id)
        reading = await self.pairs.read(user_id, other_id, room_id)
        assert reading is not None, "nobody else could have put them out of it"
        return reading

    async def _ask_in(self, reading: Reading, *, asks: bool) -> None:
        """See to it that the other is in the room or invited to it; that a request is one, if it is to be."""
        user_id, other_id, room_id = reading.user_id, reading.other_id, reading.room_id
        assert reading.room is not None
        if asks:
            await self.say(user_id, other_id, reading.room, "requested")
        if reading.their_membership == "ban":
            raise Forbidden(f"{other_id} is banned from the room that you share")
        if reading.their_membership not in INSIDE or (asks and reading.their_membership == "invite"):
            await self._invite(user_id, other_id, room_id, asks=asks)
        if asks:
            await self.refresh(user_id, other_id, room_id, user_id)

    async def _invite(self, user_id: str, other_id: str, room_id: str, *, asks: bool) -> None:
        besides = {"is_direct": True, **({REQUEST: True} if asks else {})}
        await self.memberships.invite(room_id, user_id, other_id, besides=besides)

    async def _note(self, user_id: str, other_id: str, room_id: str) -> None:
        """A room is a direct one of somebody who is in it."""
        is_new = await self.pairs.database.write(rows.add, DirectRoom(user_id, other_id, room_id, NONE))
        was_listed = room_id in (await self.pairs.listed_direct(user_id)).get(other_id, ())
        if not was_listed:
            await self.listing.add(user_id, other_id, room_id)
        if is_new or not was_listed:
            await self.news.tell("dm.created", user_id, other_id, room_id)

    def _is_ours(self, user_id: str) -> bool:
        return server_of(user_id) == self.maker.door.identity.server_name


def _is_willing(half: Half | None) -> bool:
    return half is not None and half.is_willing
