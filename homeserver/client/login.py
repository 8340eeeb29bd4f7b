"""Logging in and out, and staying logged in by refresh tokens.

Spec: https://spec.matrix.org/v1.19/client-server-api/#login
"""

from __future__ import annotations

from typing import Any

import msgspec

from federation.room.identifiers import server_of
from homeserver.about import About
from homeserver.accounts.credentials import Identifier, PasswordAttempt
from homeserver.accounts.interactive import PASSWORD
from homeserver.accounts.login import Login
from homeserver.accounts.sessions import Sessions, check_device_id
from homeserver.errors import MatrixError
from homeserver.http.route import GUEST, NONE, Requester, route


class LogIn(msgspec.Struct, frozen=True):
    type: str
    identifier: Identifier | None = None
    user: str | None = None
    password: str | None = None
    device_id: str | None = None
    initial_device_display_name: str | None = None
    refresh_token: bool | None = None


class Refresh(msgspec.Struct, frozen=True):
    refresh_token: str


@route("GET", "/_matrix/client/v3/login", auth=NONE, rate="anonymous")
async def get_login_flows(login: Login) -> dict[str, Any]:
    return {"flows": [{"type": PASSWORD}]}


@route("POST", "/_matrix/client/v3/login", auth=NONE, rate="login_address")
async def log_in(login: Login, about: About, ask: LogIn) -> dict[str, Any]:
    if ask.type != PASSWORD:
        raise MatrixError(400, "M_UNKNOWN", f"Unknown login type: {ask.type}")
    if ask.device_id is not None:
        check_device_id(ask.device_id)
    attempt = PasswordAttempt(ask.password, ask.identifier, ask.user)
    opened = await login.by_password(
        attempt.named_user(),
        ask.password,
        device_id=ask.device_id,
        display_name=ask.initial_device_display_name,
        refreshable=bool(ask.refresh_token),
    )
    answer = {
        "user_id": opened.user_id,
        "home_server": server_of(opened.user_id),
        "device_id": opened.device_id,
        **opened.to_json(),
    }
    discovery = about.client_discovery()
    return answer if discovery is None else {**answer, "well_known": discovery}


@route("POST", "/_matrix/client/v3/refresh", auth=NONE, rate="login_address")
async def refresh(sessions: Sessions, ask: Refresh) -> dict[str, Any]:
    return (await sessions.refresh(ask.refresh_token)).to_json()


@route("POST", "/_matrix/client/v3/logout", auth=GUEST, rate="write")
async def log_out(sessions: Sessions, who: Requester) -> None:
    await sessions.end(who)


@route("POST", "/_matrix/client/v3/logout/all", auth=GUEST, rate="write")
async def log_out_everywhere(sessions: Sessions, who: Requester) -> None:
    await sessions.end_all(who.user_id)
