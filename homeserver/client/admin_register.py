"""`/_synapse/admin/v1/register`: accounts for whoever knows the shared secret. See `accounts.shared_secret`."""

from __future__ import annotations

from typing import Any

import msgspec

from federation.room.identifiers import server_of
from homeserver.accounts.sessions import Sessions
from homeserver.accounts.shared_secret import SharedSecretRegistration
from homeserver.http.route import NONE, route


class RegisterWithSecret(msgspec.Struct, frozen=True):
    nonce: str
    username: str
    password: str
    mac: str
    admin: bool = False
    user_type: str | None = None
    displayname: str | None = None


@route("GET", "/_synapse/admin/v1/register", auth=NONE, rate="anonymous")
async def get_nonce(shared_secret: SharedSecretRegistration) -> dict[str, str]:
    return {"nonce": shared_secret.new_nonce()}


@route("POST", "/_synapse/admin/v1/register", auth=NONE, rate="anonymous")
async def register_with_secret(
    shared_secret: SharedSecretRegistration, sessions: Sessions, ask: RegisterWithSecret
) -> dict[str, Any]:
    user_id = await shared_secret.register(
        nonce=ask.nonce,
        username=ask.username,
        password=ask.password,
        mac=ask.mac,
        is_admin=ask.admin,
        user_type=ask.user_type,
        displayname=ask.displayname,
    )
    opened = await sessions.open(user_id)
    return {
        "user_id": user_id,
        "home_server": server_of(user_id),
        "device_id": opened.device_id,
        **opened.to_json(),
    }
