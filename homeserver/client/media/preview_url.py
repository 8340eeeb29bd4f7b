"""`GET /_matrix/client/v1/media/preview_url`: what a web page is about.

Spec: https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1mediapreview_url
"""

from __future__ import annotations

import msgspec

from homeserver.client.media.paths import AUTHED, OLD
from homeserver.http.route import GUEST, Reply, Requester, route
from homeserver.media.previews.service import UrlPreviews


class PreviewUrl(msgspec.Struct, frozen=True):
    url: str
    ts: int | None = None
    """The moment that is of interest. Only the present can be had."""
    accept_language: str | None = None


# Guests are let in here; whether they get anything is a setting.
@route(
    "GET",
    AUTHED + "/preview_url",
    OLD + "/preview_url",
    auth=GUEST,
    rate="preview",
    query=("url", "ts"),
    headers=("accept-language",),
)
async def preview_url(previews: UrlPreviews, who: Requester, ask: PreviewUrl) -> Reply:
    return Reply(body=await previews.preview(who.user_id, who.is_guest, ask.url, ask.accept_language))
