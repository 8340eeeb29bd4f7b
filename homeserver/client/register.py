"""Making an account: `POST /register`, and asking beforehand whether a name or a token is any good.

Spec: https://spec.matrix.org/v1.19/client-server-api/#account-registration
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from federation.room.identifiers import server_of
from homeserver.accounts.passwords import Passwords
from homeserver.accounts.registration import Registration
from homeserver.accounts.registration_tokens import RegistrationTokens
from homeserver.accounts.sessions import Sessions, check_device_id
from homeserver.errors import MissingParam
from homeserver.http.route import NONE, RequestInfo, route


class Register(msgspec.Struct, frozen=True):
    kind: Literal["user", "guest"] = "user"
    auth: dict[str, Any] | None = None
    username: str | None = None
    password: str | None = None
    device_id: str | None = None
    initial_device_display_name: str | None = None
    inhibit_login: bool | None = None
    refresh_token: bool | None = None


class NameOnly(msgspec.Struct, frozen=True):
    username: str


class TokenOnly(msgspec.Struct, frozen=True):
    token: str


# "anonymous" for the steps; what makes an account is charged to "registration" by itself.
@route("POST", "/_matrix/client/v3/register", auth=NONE, rate="anonymous", query=["kind"])
async def register(
    registration: Registration, passwords: Passwords, sessions: Sessions, ask: Register, info: RequestInfo
) -> dict[str, Any]:
    """All that can be refused is refused before the client goes through the steps of authentication."""
    registration.check_limit(info.address)
    if ask.kind == "guest":
        registration.check_guests()
        registration.charge(info.address)
        user_id = await registration.make_guest()
        opened = await sessions.open(user_id, display_name=ask.initial_device_display_name)
        return {"user_id": user_id, "device_id": opened.device_id, **opened.to_json()}
    registration.check_open()
    if ask.username is not None:
        await registration.require_free_name(ask.username)
    if ask.password is not None:
        passwords.check_strength(ask.password)
    if ask.device_id is not None:
        check_device_id(ask.device_id)
    proofs = await registration.require_permission(ask.auth, info.address)
    if ask.password is None:
        raise MissingParam("Missing parameter 'password'")
    registration.charge(info.address)
    user_id = await registration.make(ask.username, ask.password, proofs=proofs)
    answer = {"user_id": user_id, "home_server": server_of(user_id)}
    if ask.inhibit_login:
        return answer
    opened = await sessions.open(
        user_id,
        device_id=ask.device_id,
        display_name=ask.initial_device_display_name,
        refreshable=bool(ask.refresh_token),
    )
    return {**answer, "device_id": opened.device_id, **opened.to_json()}


@route("GET", "/_matrix/client/v3/register/available", auth=NONE, rate="anonymous", query=["username"])
async def get_availability(registration: Registration, ask: NameOnly) -> dict[str, bool]:
    registration.check_open()
    await registration.require_free_name(ask.username)
    return {"available": True}


@route(
    "GET",
    "/_matrix/client/v1/register/m.login.registration_token/validity",
    auth=NONE,
    rate="login_address",
    query=["token"],
)
async def get_token_validity(registration: Registration, tokens: RegistrationTokens, ask: TokenOnly) -> dict[str, bool]:
    registration.check_open()
    return {"valid": await tokens.is_valid(ask.token)}
