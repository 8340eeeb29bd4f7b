"""Saying one's half of a friendship: in the room if it lets one, or else beside it, where this server keeps it."""

from __future__ import annotations

from attrs import field

from federation.service import service
from homeserver.errors import Forbidden
from homeserver.friends.halves import FRIEND, State
from homeserver.friends.ports import OtherServers, StandAlone
from homeserver.rooms.accept import Door
from homeserver.rooms.compose import Template
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.membership import in_room
from storage import friends as rows
from storage.database import Database
from storage.friends import Word


@service
class Words:
    """See the module's docstring."""

    database: Database
    door: Door
    others: OtherServers = field(factory=StandAlone)

    async def say(self, user_id: str, other_id: str, room: LiveRoom, state: State) -> bool:
        """Say it for somebody who is in the room; whether it is said there. Durable when it answers."""
        levels = await self.door.power_levels(room)
        if levels.user(user_id) >= levels.event(FRIEND, is_state=True):
            try:
                # An event also where it says the same again: when it was said counts.
                template = Template(FRIEND, user_id, {"state": state}, user_id)
                await self.door.send(room.room_id, [template], check=in_room(user_id))
            except Forbidden:
                pass  # the levels changed meanwhile
            else:
                await self.database.write(rows.remove_word, room.room_id, user_id)
                return True
        word = Word(state, self.database.next_position())
        await self.database.write(rows.put_word, room.room_id, user_id, word)
        await self.others.tell(room.room_id, user_id, other_id, state)
        return False
