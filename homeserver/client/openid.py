"""`POST /_matrix/client/v3/user/{userId}/openid/request_token`: a token that proves to others who one is.

Spec: https://spec.matrix.org/v1.19/client-server-api/#openid
"""

from __future__ import annotations

import msgspec

from homeserver.accounts.openid import OpenIdTokens
from homeserver.client.own import require_self
from homeserver.http.route import USER, Requester, route


class RequestToken(msgspec.Struct, frozen=True):
    user_id: str


@route("POST", "/_matrix/client/v3/user/{user_id}/openid/request_token", auth=USER, rate="write")
async def request_token(tokens: OpenIdTokens, who: Requester, ask: RequestToken) -> dict[str, str | int]:
    require_self(who, ask.user_id)
    return await tokens.issue(who.user_id)
