"""What servers of this kind tell each other about friends; it is no part of the specification.

`PUT …/friends/{roomId}/{userId}`: what somebody there says of a friendship and can't say in the room.
"""

from __future__ import annotations

import msgspec

from federation.inbound.x_matrix import Origin
from homeserver.federation_api.guilds import PREFIX
from homeserver.friends.abroad import FriendsHeard
from homeserver.friends.halves import State
from homeserver.http.route import FEDERATION, route


class FriendWord(msgspec.Struct, frozen=True):
    room_id: str
    user_id: str
    half: State


@route("PUT", PREFIX + "/friends/{room_id}/{user_id}", auth=FEDERATION, rate="federation")
async def put_word(heard: FriendsHeard, who: Origin, ask: FriendWord) -> None:
    await heard.hear(who.server_name, ask.room_id, ask.user_id, ask.half)
