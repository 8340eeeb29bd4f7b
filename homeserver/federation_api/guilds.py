"""What servers of this kind ask each other about guilds; it is no part of the specification.

`POST …/guilds/{roomId}/actions`: something is to be done in the name of somebody there.
`GET …/invites/{code}`: what an invitation leads to.
"""

from __future__ import annotations

from federation.inbound.x_matrix import Origin
from homeserver.guilds.abroad.actions import Action, Actions
from homeserver.guilds.api.desk import Desk
from homeserver.guilds.api.invites import InviteShown, OneInvite, show_invite
from homeserver.guilds.invites import Invites
from homeserver.http.route import FEDERATION, route

PREFIX = "/_matrix/federation/unstable/chat.guildhall"


@route("GET", PREFIX + "/invites/{code}", auth=FEDERATION, rate="federation")
async def get_invite(desk: Desk, invites: Invites, who: Origin, ask: OneInvite) -> InviteShown:
    return await show_invite(desk, invites, ask.code)


@route("POST", PREFIX + "/guilds/{room_id}/actions", auth=FEDERATION, rate="federation")
async def act(actions: Actions, who: Origin, ask: Action) -> object:
    return await actions.act(who.server_name, ask)
