"""`GET /_matrix/client/v3/rooms/{roomId}/members` and `/joined_members`: who is, or was, in a room.

Spec: https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidmembers
"""

from __future__ import annotations

from typing import Any

import msgspec

from homeserver.clock import Clock
from homeserver.http.route import GUEST, USER, Reply, Requester, route
from homeserver.rooms.render import Reader, client_event
from homeserver.rooms.state_view import MembersAsk, MembershipName, StateView
from homeserver.streams.tokens import parse_room_token


class Members(msgspec.Struct, frozen=True):
    room_id: str
    at: str | None = None
    membership: MembershipName | None = None
    not_membership: MembershipName | None = None


class JoinedMembers(msgspec.Struct, frozen=True):
    room_id: str


@route(
    "GET",
    "/_matrix/client/v3/rooms/{room_id}/members",
    auth=GUEST,
    rate="read",
    query=("at", "membership", "not_membership"),
)
async def get_members(view: StateView, clock: Clock, who: Requester, ask: Members) -> Reply:
    at = None if ask.at is None else parse_room_token(ask.at, "at").position
    wanted = MembersAsk(at, ask.membership, ask.not_membership)
    events = await view.members(ask.room_id, who.user_id, wanted)
    reader = Reader(who.user_id, who.device_id, clock.now_ms())
    return Reply(body=b'{"chunk":[%b]}' % b",".join([client_event(stored, reader) for stored in events]))


@route("GET", "/_matrix/client/v3/rooms/{room_id}/joined_members", auth=USER, rate="read")
async def get_joined_members(view: StateView, who: Requester, ask: JoinedMembers) -> dict[str, Any]:
    members = await view.joined_members(ask.room_id, who.user_id)
    # COMPAT Complement, as Synapse has it: both members are there, null for those who have no name or picture.
    return {
        "joined": {
            user_id: {"display_name": profile.display_name, "avatar_url": profile.avatar_url}
            for user_id, profile in members.items()
        }
    }
