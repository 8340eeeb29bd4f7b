"""`/_matrix/client/v3/profile/{userId}`: what people tell everybody about themselves.

Anybody may look, with or without a token.

Spec: https://spec.matrix.org/v1.19/client-server-api/#profiles
"""

from __future__ import annotations

from typing import Any

import msgspec

from homeserver.client.own import require_self, require_user_id
from homeserver.errors import Forbidden, MissingParam
from homeserver.http.route import GUEST, OPTIONAL, Requester, route
from homeserver.userdata.profiles import DISPLAYNAME, Profiles


class GetProfile(msgspec.Struct, frozen=True):
    user_id: str


class GetField(msgspec.Struct, frozen=True):
    user_id: str
    key: str


class PutField(msgspec.Struct, frozen=True):
    user_id: str
    key: str
    content: dict[str, Any]


class DeleteField(msgspec.Struct, frozen=True):
    user_id: str
    key: str


@route("GET", "/_matrix/client/v3/profile/{user_id}", auth=OPTIONAL, rate="read")
async def get_profile(profiles: Profiles, who: Requester | None, ask: GetProfile) -> dict[str, Any]:
    return await profiles.get(require_user_id(ask.user_id))


@route("GET", "/_matrix/client/v3/profile/{user_id}/{key}", auth=OPTIONAL, rate="read")
async def get_field(profiles: Profiles, who: Requester | None, ask: GetField) -> dict[str, Any]:
    return {ask.key: await profiles.get_field(require_user_id(ask.user_id), ask.key)}


@route("PUT", "/_matrix/client/v3/profile/{user_id}/{key}", auth=GUEST, rate="write", body="content")
async def put_field(profiles: Profiles, who: Requester, ask: PutField) -> None:
    require_self(who, ask.user_id)
    _check_guest(who, ask.key)
    if ask.key not in ask.content:
        raise MissingParam(f"The body has no `{ask.key}`")
    await profiles.set_field(who.user_id, ask.key, ask.content[ask.key])


@route("DELETE", "/_matrix/client/v3/profile/{user_id}/{key}", auth=GUEST, rate="write")
async def delete_field(profiles: Profiles, who: Requester, ask: DeleteField) -> None:
    require_self(who, ask.user_id)
    _check_guest(who, ask.key)
    await profiles.delete_field(who.user_id, ask.key)


def _check_guest(who: Requester, key: str) -> None:
    if who.is_guest and key != DISPLAYNAME:
        raise Forbidden("Guests may have a display name and nothing else", "M_GUEST_ACCESS_FORBIDDEN")
