"""`DELETE rooms/{room_id}`: the end of a room, be it of a guild or of none."""

from __future__ import annotations

import msgspec

from homeserver.client.own import require_room_id
from homeserver.errors import Forbidden
from homeserver.guilds.api import channels, guilds
from homeserver.guilds.api.desk import Desk
from homeserver.guilds.api.fields import API
from homeserver.guilds.api.roles import InGuild
from homeserver.guilds.closing import Closer
from homeserver.guilds.steward import guild_id_of
from homeserver.http.route import USER, Requester, route
from homeserver.retention.expiry import Expiry
from homeserver.rooms.removal import Removal
from homeserver.tasks import Tasks


class DeleteRoom(msgspec.Struct, frozen=True):
    room_id: str
    purge: bool = False
    """Take its messages from this server's database, search and media too."""


@route("DELETE", f"{API}/rooms/{{room_id}}", auth=USER, rate="write", query=("purge",))
async def delete_room(
    removal: Removal, desk: Desk, closer: Closer, expiry: Expiry, tasks: Tasks, who: Requester, ask: DeleteRoom
) -> None:
    """Delete a room: everybody is put out of it and forgets it, and it leaves the directory.

    As who made it, or as an admin of the server; a guild as its owner, its channels with `manage_channels`. With
    `purge` its messages are gone from database, search and media (if nothing else shows them) when it answers.
    """
    room = await desk.rooms.get(require_room_id(ask.room_id))
    guild_id = None if room is None or room.membership_of(who.user_id) != "join" else guild_id_of(room)
    doomed = [ask.room_id]
    if room is None or guild_id is None:
        await removal.remove(await removal.require(who, ask.room_id), who.user_id)
    elif room.create.sender != desk.editor.steward:
        raise Forbidden("A guild that lives elsewhere is changed by the calls under `guilds`")
    elif guild_id == room.room_id:
        doomed += (await desk.guild(guild_id, who.user_id)).channels
        await guilds.delete_guild(desk, closer, tasks, who, InGuild(guild_id))
    else:
        await channels.delete_channel(desk, closer, tasks, who, channels.OneChannel(guild_id, room.room_id))
    for room_id in doomed if ask.purge else ():
        gone = await desk.rooms.get(room_id)
        if gone is not None and (room_id == ask.room_id or guild_id_of(gone) == guild_id):
            await expiry.empty(gone.nid)
