"""`GET /_matrix/federation/v1/openid/userinfo`: who made an OpenID token. Any service may ask, not only homeservers.

Spec: https://spec.matrix.org/v1.19/server-server-api/#openid
"""

from __future__ import annotations

import msgspec

from homeserver.accounts.openid import OpenIdTokens
from homeserver.http.authenticate import MissingToken
from homeserver.http.route import NONE, route


class UserInfo(msgspec.Struct, frozen=True):
    access_token: str | None = None


@route("GET", "/_matrix/federation/v1/openid/userinfo", auth=NONE, rate="anonymous", query=("access_token",))
async def get_userinfo(tokens: OpenIdTokens, ask: UserInfo) -> dict[str, str]:
    if ask.access_token is None:
        raise MissingToken()
    return {"sub": await tokens.owner_of(ask.access_token)}
