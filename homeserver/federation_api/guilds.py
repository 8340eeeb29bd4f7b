"""`POST …/chat.guildhall/guilds/{roomId}/actions`: a server of this kind asks in the name of a member there.

It is no part of the specification: other servers have it only where they are of this kind.
"""

from __future__ import annotations

from federation.inbound.x_matrix import Origin
from homeserver.guilds.abroad.actions import Action, Actions
from homeserver.http.route import FEDERATION, route


@route(
    "POST",
    "/_matrix/federation/unstable/chat.guildhall/guilds/{room_id}/actions",
    auth=FEDERATION,
    rate="federation",
)
async def act(actions: Actions, who: Origin, ask: Action) -> object:
    return await actions.act(who.server_name, ask)
