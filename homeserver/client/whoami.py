"""`GET /_matrix/client/v3/account/whoami`: whose token this is.

Spec: https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3accountwhoami
"""

from __future__ import annotations

from typing import Any

from homeserver.accounts.sessions import Sessions
from homeserver.http.route import GUEST, Requester, route


@route("GET", "/_matrix/client/v3/account/whoami", auth=GUEST, rate="read")
async def get_whoami(sessions: Sessions, who: Requester) -> dict[str, Any]:
    return {"user_id": who.user_id, "device_id": who.device_id, "is_guest": who.is_guest}
