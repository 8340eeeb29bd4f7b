"""Names of rooms: making, finding and removing aliases, and which of them a room may call its own.

Aliases of this server live in its database; another server's are looked up there, through a port.

Spec: https://spec.matrix.org/v1.19/client-server-api/#room-aliases
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from federation.room.identifiers import InvalidIdentifier, parse_room_alias, parse_room_id, server_of
from federation.service import service
from homeserver.errors import BadJson, Forbidden, InvalidParam, MatrixError, NotFound
from homeserver.http.route import Requester
from homeserver.rooms.accept import Door
from homeserver.rooms.access import RoomAccess
from homeserver.rooms.compose import Template
from homeserver.rooms.live import CANONICAL_ALIAS, LiveRoom
from homeserver.rooms.membership import in_room
from homeserver.rooms.registry import NOT_IN_ROOM
from storage import aliases as rows
from storage.database import Database

MOST_SERVERS = 30
"""How many servers are named to somebody who looks up an alias: those with most members first."""

MOST_ASKED = 10
"""Aliases of other servers that are looked up, one after the other, before a room may call them its own."""


class ResolvedAlias(msgspec.Struct, frozen=True):
    """What an alias stands for, and who can help to join."""

    room_id: str
    servers: list[str]


class RemoteAliases(Protocol):
    """Asks other servers for their aliases."""

    async def look_up(self, alias: str) -> ResolvedAlias | None:
        """None where the alias' server has no such alias. Raises MatrixError where it can't be asked."""


class NoRemoteAliases:
    """For a server that does not federate: nobody else's alias is found."""

    async def look_up(self, alias: str) -> ResolvedAlias | None:
        return None


@service
class Aliases:
    """See the module's docstring."""

    door: Door
    access: RoomAccess
    database: Database
    remote: RemoteAliases

    async def resolve(self, text: str) -> ResolvedAlias:
        """What an alias stands for. Raises InvalidParam, NotFound, and `M_UNKNOWN` with 502 if its server is silent."""
        alias = _parse(text)
        found = await (self._find(alias) if self._is_local(alias) else self.remote.look_up(alias))
        if found is None:
            raise NotFound(f"There is no room alias {alias}")
        return found

    async def resolve_own(self, text: str) -> ResolvedAlias:
        """What an alias of this server stands for. Raises InvalidParam, also for those of others, and NotFound."""
        alias = _parse(text)
        if not self._is_local(alias):
            raise InvalidParam("Aliases of other servers are looked up there")
        found = await self._find(alias)
        if found is None:
            raise NotFound(f"There is no room alias {alias}")
        return found

    async def create(self, who: Requester, text: str, room_id: str) -> None:
        """Name a room that one is in. Raises InvalidParam, Forbidden, and `M_UNKNOWN` with 409 if the name is taken."""
        alias = _parse(text)
        if any(character.isspace() for character in alias):
            raise InvalidParam("A room alias has no white space")
        if not self._is_local(alias):
            raise InvalidParam("Aliases of other servers are made there")
        try:
            parse_room_id(room_id)
        except InvalidIdentifier as error:
            raise InvalidParam(f"`room_id`: {error}") from None
        room = await self.access.rooms.require(room_id)
        if room.membership_of(who.user_id) != "join" and not who.is_admin:
            raise Forbidden(NOT_IN_ROOM)
        now = self.door.clock.now_ms()
        if not await self.database.write(rows.add, alias, room_id, who.user_id, now):
            raise MatrixError(409, "M_UNKNOWN", f"The room alias {alias} exists already")

    async def remove(self, who: Requester, text: str) -> None:
        """Remove an alias: one's own, one of a room where one may set its main alias, or any as an administrator.

        The room stops advertising it, if the caller may say so there. Raises InvalidParam, NotFound, Forbidden.
        """
        alias = _parse(text)
        row = await self.database.run(rows.find, alias) if self._is_local(alias) else None
        if row is None:
            raise NotFound(f"There is no room alias {alias}")
        room = await self.access.rooms.get(row.room_id)
        if row.creator != who.user_id and not who.is_admin and not await self.may_advertise(room, who.user_id):
            raise Forbidden("This alias was made by somebody else")
        await self.database.write(rows.remove, alias)
        if room is not None:
            await self._stop_advertising(room, who.user_id, alias)

    async def of_room(self, room_id: str, user_id: str) -> list[str]:
        """This server's aliases of a room, for its members, or anybody if it is world-readable. Raises Forbidden."""
        access = await self.access.reader(room_id, user_id)
        if not access.is_member and not access.is_world_readable:
            raise Forbidden(NOT_IN_ROOM)
        return await self.database.run(rows.of_room, room_id)

    async def may_advertise(self, room: LiveRoom | None, user_id: str) -> bool:
        """Whether a user is in a room and may set its main alias: the power to speak for it in directories."""
        if room is None or room.membership_of(user_id) != "join":
            return False
        levels = await self.door.power_levels(room)
        return levels.user(user_id) >= levels.event("m.room.canonical_alias", True)

    async def check_canonical_alias(self, room_id: str, template: Template, current: Mapping[str, Any] | None) -> None:
        """A `StateCheck` for `m.room.canonical_alias`: every alias that is new must stand for this room.

        Raises BadJson for a wrong shape, InvalidParam for what is no alias, and `M_BAD_ALIAS`.
        """
        if template.state_key != "":
            return
        known = set(advertised(current or {}))
        added = [text for text in _checked(template.content) if text not in known]
        if sum(not self._is_local(_parse(text)) for text in added) > MOST_ASKED:
            raise InvalidParam(f"At most {MOST_ASKED} aliases of other servers can be added at a time")
        for text in added:
            try:
                found = (await self.resolve(text)).room_id
            except NotFound:
                found = None
            if found != room_id:
                raise MatrixError(400, "M_BAD_ALIAS", f"The alias {text} does not point to this room")

    def _is_local(self, alias: str) -> bool:
        return server_of(alias) == self.door.identity.server_name

    async def _find(self, alias: str) -> ResolvedAlias | None:
        row = await self.database.run(rows.find, alias)
        return None if row is None else ResolvedAlias(row.room_id, await self._servers(row.room_id))

    async def _servers(self, room_id: str) -> list[str]:
        me: str = self.door.identity.server_name
        room = await self.access.rooms.get(room_id)
        others = [] if room is None else [name for name in room.servers_by_size()[:MOST_SERVERS] if name != me]
        return [me, *others]

    async def _stop_advertising(self, room: LiveRoom, user_id: str, alias: str) -> None:
        ref = room.visible.state.get(CANONICAL_ALIAS)
        stored = None if ref is None else await self.door.events.get(ref.nid)
        if stored is None or alias not in advertised(stored.event.content):
            return
        content = dict(stored.event.content)
        if content.get("alias") == alias:
            del content["alias"]
        if isinstance(content.get("alt_aliases"), list):
            content["alt_aliases"] = [other for other in content["alt_aliases"] if other != alias]
        template = Template("m.room.canonical_alias", user_id, content, "")
        try:
            await self.door.send(room.room_id, [template], check=in_room(user_id))
        except MatrixError:
            return  # the alias is gone all the same: that the caller may not say so in the room is no reason to keep it


def advertised(content: Mapping[str, Any]) -> list[str]:
    """The aliases in the content of an `m.room.canonical_alias`, as far as it makes sense."""
    others = content.get("alt_aliases")
    named = [content.get("alias"), *(others if isinstance(others, list) else ())]
    return [alias for alias in named if isinstance(alias, str) and alias]


def _checked(content: Mapping[str, Any]) -> list[str]:
    alias, others = content.get("alias"), content.get("alt_aliases")
    if alias is not None and not isinstance(alias, str):
        raise BadJson("`alias` must be a string")
    if others is not None and not (isinstance(others, list) and all(isinstance(other, str) for other in others)):
        raise BadJson("`alt_aliases` must be an array of strings")
    return ([alias] if alias else []) + (others or [])


def _parse(text: str) -> str:
    try:
        return parse_room_alias(text)
    except InvalidIdentifier as error:
        raise InvalidParam(f"{text!r} is not a room alias: {error}") from None
