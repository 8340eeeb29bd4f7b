"""Joining and leaving rooms, and deciding who else is in them.

Spec: https://spec.matrix.org/v1.19/client-server-api/#room-membership
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from federation.room.identifiers import InvalidIdentifier, parse_server_name
from federation.room.purging import FLAG
from homeserver.errors import BadJson, InvalidParam
from homeserver.http.route import GUEST, USER, Requester, route
from homeserver.rooms.aliases import Aliases
from homeserver.rooms.membership import Memberships

MOST_VIA = 20
"""Servers that a client may name."""


class JoinRoom(msgspec.Struct, frozen=True):
    room_id: str
    content: dict[str, Any] = {}


class JoinAnywhere(msgspec.Struct, frozen=True):
    room_id_or_alias: str
    content: dict[str, Any] = {}
    server_name: list[str] = []
    via: list[str] = []


class _JoinBody(msgspec.Struct, frozen=True):
    """What the server reads of a join's body; whatever else is in it goes into the member event."""

    reason: str | None = None
    third_party_signed: dict[str, Any] | None = None


class KnockAnywhere(msgspec.Struct, frozen=True):
    room_id_or_alias: str
    reason: str | None = None
    server_name: list[str] = []
    via: list[str] = []


class OneRoom(msgspec.Struct, frozen=True):
    room_id: str
    reason: str | None = None


class SomebodyInRoom(msgspec.Struct, frozen=True):
    room_id: str
    user_id: str
    reason: str | None = None


class PutOut(SomebodyInRoom, frozen=True):
    redact_events: bool = msgspec.field(name=FLAG, default=False)


class Invite(msgspec.Struct, frozen=True):
    room_id: str
    user_id: str | None = None
    reason: str | None = None
    medium: str | None = None


async def find_room(aliases: Aliases, name: str, via: Sequence[str]) -> tuple[str, list[str]]:
    """The id of the room behind an id or an alias, and servers that can help. Raises InvalidParam or NotFound."""
    named = [server for server in via[:MOST_VIA] if _is_server(server)]
    if name.startswith("!"):
        return name, named
    if name.startswith("#"):
        found = await aliases.resolve(name)
        return found.room_id, [*named, *found.servers]
    raise InvalidParam("A room is named by its id, which begins with !, or by an alias, which begins with #")


def _is_server(name: str) -> bool:
    try:
        parse_server_name(name)
    except InvalidIdentifier:
        return False
    return True


async def _join(
    memberships: Memberships, who: Requester, room_id: str, content: dict[str, Any], via: Sequence[str] = ()
) -> dict[str, str]:
    try:
        body = msgspec.convert(content, _JoinBody)
    except msgspec.ValidationError as error:
        raise BadJson(str(error).replace("`$.", "`")) from None
    await memberships.join(
        room_id,
        who.user_id,
        body.reason,
        third_party_signed=body.third_party_signed,
        is_guest=who.is_guest,
        besides=content,
        via=via,
    )
    return {"room_id": room_id}


@route("POST", "/_matrix/client/v3/rooms/{room_id}/join", auth=GUEST, rate="join_local", body="content")
async def join_room(memberships: Memberships, who: Requester, ask: JoinRoom) -> dict[str, str]:
    return await _join(memberships, who, ask.room_id, ask.content)


@route(
    "POST",
    "/_matrix/client/v3/join/{room_id_or_alias}",
    auth=GUEST,
    rate="join_local",
    query=("server_name", "via"),
    body="content",
)
async def join_anywhere(
    memberships: Memberships, aliases: Aliases, who: Requester, ask: JoinAnywhere
) -> dict[str, str]:
    room_id, via = await find_room(aliases, ask.room_id_or_alias, [*ask.via, *ask.server_name])
    return await _join(memberships, who, room_id, ask.content, via)


@route(
    "POST",
    "/_matrix/client/v3/knock/{room_id_or_alias}",
    auth=USER,
    rate="join_local",
    query=("server_name", "via"),
)
async def knock(memberships: Memberships, aliases: Aliases, who: Requester, ask: KnockAnywhere) -> dict[str, str]:
    room_id, via = await find_room(aliases, ask.room_id_or_alias, [*ask.via, *ask.server_name])
    await memberships.knock(room_id, who.user_id, ask.reason, via)
    return {"room_id": room_id}


@route("POST", "/_matrix/client/v3/rooms/{room_id}/invite", auth=USER, rate="invite")
async def invite(memberships: Memberships, who: Requester, ask: Invite) -> None:
    if ask.user_id is None:
        if ask.medium is not None:
            raise InvalidParam("This server has no identity server to invite by address", "M_THREEPID_DENIED")
        raise InvalidParam("`user_id` is missing", "M_MISSING_PARAM")
    await memberships.invite(ask.room_id, who.user_id, ask.user_id, ask.reason)


@route("POST", "/_matrix/client/v3/rooms/{room_id}/leave", auth=GUEST, rate="write")
async def leave(memberships: Memberships, who: Requester, ask: OneRoom) -> None:
    await memberships.leave(ask.room_id, who.user_id, ask.reason)


@route("POST", "/_matrix/client/v3/rooms/{room_id}/forget", auth=GUEST, rate="write")
async def forget(memberships: Memberships, who: Requester, ask: OneRoom) -> None:
    await memberships.forget(ask.room_id, who.user_id)


@route("POST", "/_matrix/client/v3/rooms/{room_id}/kick", auth=USER, rate="write")
async def kick(memberships: Memberships, who: Requester, ask: PutOut) -> None:
    await memberships.kick(ask.room_id, who.user_id, ask.user_id, ask.reason, besides=_besides(ask))


@route("POST", "/_matrix/client/v3/rooms/{room_id}/ban", auth=USER, rate="write")
async def ban(memberships: Memberships, who: Requester, ask: PutOut) -> None:
    await memberships.ban(ask.room_id, who.user_id, ask.user_id, ask.reason, besides=_besides(ask))


def _besides(ask: PutOut) -> dict[str, bool]:
    return {FLAG: True} if ask.redact_events else {}


@route("POST", "/_matrix/client/v3/rooms/{room_id}/unban", auth=USER, rate="write")
async def unban(memberships: Memberships, who: Requester, ask: SomebodyInRoom) -> None:
    await memberships.unban(ask.room_id, who.user_id, ask.user_id, ask.reason)
