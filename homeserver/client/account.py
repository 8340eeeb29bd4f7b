"""One's own account: another password, closing it, and the addresses that belong to it (here: none).

Spec: https://spec.matrix.org/v1.19/client-server-api/#account-management
"""

from __future__ import annotations

from typing import Any

import msgspec

from homeserver.accounts.changes import AccountChanges
from homeserver.errors import Forbidden
from homeserver.http.route import NONE, USER, Requester, RequestInfo, route


class ChangePassword(msgspec.Struct, frozen=True):
    new_password: str
    logout_devices: bool = True
    auth: dict[str, Any] | None = None


class Deactivate(msgspec.Struct, frozen=True):
    auth: dict[str, Any] | None = None
    erase: bool = False


@route("POST", "/_matrix/client/v3/account/password", auth=USER, rate="write")
async def change_password(changes: AccountChanges, who: Requester, ask: ChangePassword, info: RequestInfo) -> None:
    changes.check_password(ask.new_password)
    await changes.require_owner("change the password", who, ask.auth, info.address)
    await changes.change_password(who, ask.new_password, logout_devices=ask.logout_devices)


@route("POST", "/_matrix/client/v3/account/deactivate", auth=USER, rate="write")
async def deactivate(changes: AccountChanges, who: Requester, ask: Deactivate, info: RequestInfo) -> dict[str, str]:
    operation = "deactivate and erase the account" if ask.erase else "deactivate the account"
    await changes.require_owner(operation, who, ask.auth, info.address)
    await changes.deactivate(who.user_id, erase=ask.erase)
    return {"id_server_unbind_result": "success"}  # there was nothing to unbind


@route("GET", "/_matrix/client/v3/account/3pid", auth=USER, rate="read")
async def list_addresses(who: Requester) -> dict[str, list[object]]:
    return {"threepids": []}


@route("POST", "/_matrix/client/v3/account/3pid", auth=USER, rate="write")
@route("POST", "/_matrix/client/v3/account/3pid/add", auth=USER, rate="write")
@route("POST", "/_matrix/client/v3/account/3pid/bind", auth=USER, rate="write")
@route(
    "POST",
    "/_matrix/client/v3/register/email/requestToken",
    "/_matrix/client/v3/register/msisdn/requestToken",
    "/_matrix/client/v3/account/password/email/requestToken",
    "/_matrix/client/v3/account/password/msisdn/requestToken",
    "/_matrix/client/v3/account/3pid/email/requestToken",
    "/_matrix/client/v3/account/3pid/msisdn/requestToken",
    auth=NONE,
    rate="anonymous",
)
async def refuse_address() -> None:
    """Email addresses and phone numbers are not kept here: `m.3pid_changes` says so."""
    raise Forbidden("This server keeps no email addresses and phone numbers", "M_THREEPID_DENIED")


@route("POST", "/_matrix/client/v3/account/3pid/delete", auth=USER, rate="write")
@route("POST", "/_matrix/client/v3/account/3pid/unbind", auth=USER, rate="write")
async def remove_address(who: Requester) -> dict[str, str]:
    """There is none, so it is gone."""
    return {"id_server_unbind_result": "no-support"}
