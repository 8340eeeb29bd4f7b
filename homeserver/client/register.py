"""Making an account: `POST /register`, and asking beforehand whether a name or a token is any good.

Spec: https://spec.matrix.org/v1.19/client-server-api/#account-registration
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from federation.room.identifiers import UserId, localpart_of, server_of
from homeserver.accounts.passwords import Passwords
from homeserver.accounts.registration import Registration
from homeserver.accounts.registration_tokens import RegistrationTokens
from homeserver.accounts.sessions import Sessions, check_device_id
from homeserver.errors import Forbidden, MissingParam, UnknownToken
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
    guest_access_token: str | None = None


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
    guest = await _find_guest(sessions, ask)
    if guest is None and ask.username is not None:
        await registration.require_free_name(ask.username)
    if ask.password is not None:
        passwords.check_strength(ask.password)
    if ask.device_id is not None:
        check_device_id(ask.device_id)
    proofs = await registration.require_permission(ask.auth, info.address)
    if ask.password is None:
        raise MissingParam("Missing parameter 'password'")
    registration.charge(info.address)
    if guest is None:
        user_id = await registration.make(ask.username, ask.password, proofs=proofs)
    else:
        user_id = await registration.promote_guest(guest, ask.password, proofs)
        sessions.authenticate.forget_user(user_id)  # as a guest
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


async def _find_guest(sessions: Sessions, ask: Register) -> UserId | None:
    """The guest, if it is one who wants an account of their own.

    Spec: https://spec.matrix.org/v1.19/client-server-api/#guest-access
    """
    if ask.guest_access_token is None:
        return None
    if ask.username is None:
        raise MissingParam("Missing parameter 'username', which is the guest's own")
    try:
        guest = await sessions.authenticate.find(ask.guest_access_token)
    except UnknownToken:
        raise Forbidden("'guest_access_token' is unknown here") from None
    if not guest.is_guest:
        raise Forbidden("'guest_access_token' is of no guest")
    if localpart_of(guest.user_id) != ask.username:
        raise Forbidden("'username' is not the guest's own")
    return UserId(guest.user_id)


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
