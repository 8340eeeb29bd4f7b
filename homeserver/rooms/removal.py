"""Ending a room: everybody is put out of it and forgets it, and it is found nowhere any more.

Whoever can't be put out, as they stand as high as who does it, is left behind where they are of another server; this
server's own people leave. It may be asked for again after a crash: what is done already is left as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from federation.room.auth import room_creators
from federation.service import service
from homeserver.errors import Forbidden, NotFound
from homeserver.http.route import Requester
from homeserver.rooms.accept import Along, Door
from homeserver.rooms.compose import Draft, Template
from homeserver.rooms.live import JOIN_RULES, LiveRoom
from homeserver.rooms.membership import INSIDE, MEMBER
from homeserver.rooms.registry import Rooms
from storage import aliases as alias_rows
from storage import directory as directory_rows
from storage import memberships as membership_rows
from storage.database import Database
from storage.ports import Cursor

AT_ONCE = 200
"""People who are put out in one commit."""


@service
class Removal:
    """See the module's docstring."""

    door: Door
    rooms: Rooms
    database: Database

    async def require(self, who: Requester, room_id: str) -> LiveRoom:
        """The room, for somebody who may end it: who made it, and the server's admins.

        Raises Forbidden for its members, and NotFound for everybody else, whether there is one or not.
        """
        room = await self.rooms.get(room_id)
        if room is not None and (who.is_admin or who.user_id in room_creators(room.version, room.create)):
            return await self.rooms.whole(room)
        if room is not None and room.membership_of(who.user_id) == "join":
            raise Forbidden("Only who made a room may delete it, and the server's admins")
        raise NotFound("There is no such room")

    async def remove(self, room: LiveRoom, actor: str) -> None:
        """End it. Durable when it answers."""
        await self.database.write(_unlist, room.nid, room.room_id)
        sender = actor if room.membership_of(actor) == "join" else await self._mightiest(room)
        if sender is not None:
            await self._close(room, sender)
            inside = sorted(user for user, ref in room.members() if ref.membership in INSIDE and user != sender)
            for first in range(0, len(inside), AT_ONCE):
                await self._put_out(room.room_id, sender, inside[first : first + AT_ONCE])
            await self._put_out(room.room_id, sender, [sender])
        local = [user_id for user_id, _ in room.members() if self._is_ours(user_id)]
        await self.database.write(_forget, room.nid, local)

    async def _mightiest(self, room: LiveRoom) -> str | None:
        """Who of this server's people in the room stands highest."""
        levels = await self.door.power_levels(room)
        return max(sorted(room.local_joined), key=levels.user, default=None)

    async def _close(self, room: LiveRoom, sender: str) -> None:
        """Let nobody in again."""
        ref = room.visible.state.get(JOIN_RULES)
        stored = None if ref is None else await self.door.events.get(ref.nid)
        if stored is not None and stored.event.content.get("join_rule") != "invite":
            rule = Template("m.room.join_rules", sender, {"join_rule": "invite"}, "")
            with suppress(Forbidden):  # then whoever wants to may come into an empty room
                await self.door.send(room.room_id, [rule])

    async def _put_out(self, room_id: str, sender: str, people: Sequence[str]) -> None:
        def work(draft: Draft) -> tuple[None, Along]:
            draft.need_members(people)
            for user_id in people:
                ref = draft.standing.state.get((MEMBER, user_id))
                if ref is None or ref.membership not in INSIDE:
                    continue
                for by in dict.fromkeys([sender, *([user_id] if self._is_ours(user_id) else ())]):
                    try:
                        draft.add(Template(MEMBER, by, {"membership": "leave"}, user_id))
                        break
                    except Forbidden:
                        continue
            return None, Along()

        await self.door.settle(room_id, work)

    def _is_ours(self, user_id: str) -> bool:
        return user_id.partition(":")[2] == self.door.identity.server_name


def _unlist(cursor: Cursor, room_nid: int, room_id: str) -> None:
    directory_rows.unpublish(cursor, room_nid)
    for alias in alias_rows.of_room(cursor, room_id):
        alias_rows.remove(cursor, alias)


def _forget(cursor: Cursor, room_nid: int, people: Sequence[str]) -> None:
    for user_id in people:
        stay = membership_rows.membership_of(cursor, room_nid, user_id)
        if stay is not None and stay.membership in ("leave", "ban"):
            membership_rows.set_forgotten(cursor, room_nid, user_id)
