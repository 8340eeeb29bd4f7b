"""Joining, leaving, knocking and inviting, between servers.

Spec: https://spec.matrix.org/v1.19/server-server-api/#joining-rooms
"""

from __future__ import annotations

from typing import Any

import msgspec
import orjson

from federation.inbound.x_matrix import Origin
from homeserver.errors import BadJson
from homeserver.http.route import FEDERATION, route
from homeserver.rooms.remote.invitations import Invitations, ThirdPartyInvite
from homeserver.rooms.serve.handshake import Handshake

V1 = "/_matrix/federation/v1"
V2 = "/_matrix/federation/v2"


class Make(msgspec.Struct, frozen=True):
    room_id: str
    user_id: str
    ver: list[str] = []


class MakeLeave(msgspec.Struct, frozen=True):
    room_id: str
    user_id: str


class SendEvent(msgspec.Struct, frozen=True):
    room_id: str
    event_id: str
    event: bytes


class SendJoin(msgspec.Struct, frozen=True):
    room_id: str
    event_id: str
    event: bytes
    omit_members: bool = False


class Invited(msgspec.Struct, frozen=True):
    room_version: str
    event: msgspec.Raw
    invite_room_state: list[msgspec.Raw] = []


class _OldUnsigned(msgspec.Struct, frozen=True):
    invite_room_state: list[msgspec.Raw] = []


class _OldInvited(msgspec.Struct, frozen=True):
    unsigned: _OldUnsigned = _OldUnsigned()


@route("GET", V1 + "/make_join/{room_id}/{user_id}", auth=FEDERATION, rate="federation", query=("ver",))
async def make_join(handshake: Handshake, who: Origin, ask: Make) -> dict[str, Any]:
    return await handshake.make(who.server_name, "join", ask.room_id, ask.user_id, ask.ver or ["1"])


@route("GET", V1 + "/make_leave/{room_id}/{user_id}", auth=FEDERATION, rate="federation")
async def make_leave(handshake: Handshake, who: Origin, ask: MakeLeave) -> dict[str, Any]:
    return await handshake.make(who.server_name, "leave", ask.room_id, ask.user_id, None)


@route("GET", V1 + "/make_knock/{room_id}/{user_id}", auth=FEDERATION, rate="federation", query=("ver",))
async def make_knock(handshake: Handshake, who: Origin, ask: Make) -> dict[str, Any]:
    return await handshake.make(who.server_name, "knock", ask.room_id, ask.user_id, ask.ver or ["1"])


@route(
    "PUT",
    V2 + "/send_join/{room_id}/{event_id}",
    auth=FEDERATION,
    rate="federation",
    query=("omit_members",),
    body="event",
)
async def send_join(handshake: Handshake, who: Origin, ask: SendJoin) -> dict[str, Any]:
    return await handshake.send_join(
        who.server_name, ask.room_id, ask.event_id, ask.event, omit_members=ask.omit_members
    )


# COMPAT the form of before 2019: the answer is the second entry of a list.
@route("PUT", V1 + "/send_join/{room_id}/{event_id}", auth=FEDERATION, rate="federation", body="event")
async def send_join_v1(handshake: Handshake, who: Origin, ask: SendEvent) -> list[Any]:
    return [200, await handshake.send_join(who.server_name, ask.room_id, ask.event_id, ask.event)]


@route("PUT", V2 + "/send_leave/{room_id}/{event_id}", auth=FEDERATION, rate="federation", body="event")
async def send_leave(handshake: Handshake, who: Origin, ask: SendEvent) -> None:
    await handshake.send_leave(who.server_name, ask.room_id, ask.event_id, ask.event)


@route("PUT", V1 + "/send_leave/{room_id}/{event_id}", auth=FEDERATION, rate="federation", body="event")
async def send_leave_v1(handshake: Handshake, who: Origin, ask: SendEvent) -> list[Any]:
    await handshake.send_leave(who.server_name, ask.room_id, ask.event_id, ask.event)
    return [200, {}]


@route("PUT", V1 + "/send_knock/{room_id}/{event_id}", auth=FEDERATION, rate="federation", body="event")
async def send_knock(handshake: Handshake, who: Origin, ask: SendEvent) -> dict[str, Any]:
    return await handshake.send_knock(who.server_name, ask.room_id, ask.event_id, ask.event)


@route("PUT", V2 + "/invite/{room_id}/{event_id}", auth=FEDERATION, rate="federation", body="event")
async def invite(invitations: Invitations, who: Origin, ask: SendEvent) -> dict[str, Any]:
    try:
        given = msgspec.json.decode(ask.event, type=Invited)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadJson(str(error)) from None
    shown = [bytes(one) for one in given.invite_room_state]
    signed = await invitations.receive(
        who.server_name, ask.room_id, ask.event_id, given.room_version, bytes(given.event), shown
    )
    return {"event": orjson.Fragment(signed.raw)}


class Exchange(msgspec.Struct, frozen=True):
    room_id: str
    invite: ThirdPartyInvite


@route("PUT", V1 + "/exchange_third_party_invite/{room_id}", auth=FEDERATION, rate="federation", body="invite")
async def exchange_third_party_invite(invitations: Invitations, who: Origin, ask: Exchange) -> None:
    await invitations.exchange(who.server_name, ask.room_id, ask.invite)


@route("PUT", V1 + "/invite/{room_id}/{event_id}", auth=FEDERATION, rate="federation", body="event")
async def invite_v1(invitations: Invitations, who: Origin, ask: SendEvent) -> list[Any]:
    """COMPAT servers that know room versions 1 and 2 only: the body is the event itself."""
    try:
        given = msgspec.json.decode(ask.event, type=_OldInvited)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadJson(str(error)) from None
    shown = [bytes(one) for one in given.unsigned.invite_room_state]
    signed = await invitations.receive(who.server_name, ask.room_id, ask.event_id, "1", ask.event, shown)
    return [200, {"event": orjson.Fragment(signed.raw)}]
