"""One room as somebody outside may know it.

Spec: https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1room_summaryroomidoralias
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from federation.room.identifiers import InvalidIdentifier, parse_room_id, server_of
from federation.service import service
from homeserver.errors import InvalidParam, NotFound
from homeserver.rooms.aliases import Aliases
from homeserver.spaces.elsewhere import RemoteSpaces, may_be_shown, summary_of
from homeserver.spaces.local import UNKNOWN, LocalRooms

NO_SUCH_ROOM = "There is no such room, or it is none that you may know of"


@service
class Summaries:
    """Finds out about rooms for local users."""

    local: LocalRooms
    remote: RemoteSpaces
    aliases: Aliases

    async def of(self, user_id: str, room_id_or_alias: str, via: Sequence[str]) -> dict[str, Any]:
        """The room, from here or by one of the servers in `via`. Raises InvalidParam, NotFound."""
        room_id, servers = await self._room(room_id_or_alias, via)
        found = (await self.local.for_user([room_id], user_id)).get(room_id, UNKNOWN)
        if found.is_here:
            if found.shown is None:
                raise NotFound(NO_SUCH_ROOM)
            summary = found.shown.summary.to_json(whole=True)
        else:
            told = await self.remote.ask(room_id, servers, False)
            if told is None or not await may_be_shown(self.local, told.room, user_id, found.membership):
                raise NotFound(NO_SUCH_ROOM)
            summary = summary_of(told.room)
        return {**summary, "membership": found.membership or "leave"}

    async def _room(self, room_id_or_alias: str, via: Sequence[str]) -> tuple[str, Sequence[str]]:
        if room_id_or_alias.startswith("#"):
            found = await self.aliases.resolve(room_id_or_alias)
            return found.room_id, [*via, *found.servers]
        try:
            room_id = parse_room_id(room_id_or_alias)
        except InvalidIdentifier as error:
            raise InvalidParam(f"`roomIdOrAlias`: {error}") from None
        return room_id, [*via, *([server_of(room_id)] if ":" in room_id else [])]
