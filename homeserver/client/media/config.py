"""`GET /_matrix/client/v1/media/config`: how large an upload may be.

Spec: https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1mediaconfig
"""

from __future__ import annotations

from collections.abc import Mapping

from config import Settings
from homeserver.client.media.paths import AUTHED, OLD
from homeserver.http.route import GUEST, Requester, route


@route("GET", AUTHED + "/config", OLD + "/config", auth=GUEST, rate="read")
async def get_config(settings: Settings, who: Requester) -> Mapping[str, int]:
    return {"m.upload.size": settings.media.max_upload_bytes}
