"""`GET /_matrix/client/v1/media/thumbnail/{serverName}/{mediaId}`: a picture as small as somebody wants it.

Spec: https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1mediathumbnailservernamemediaid
"""

from __future__ import annotations

from typing import Literal

import msgspec

from homeserver.client.media.paths import AUTHED, CONDITIONS, OLD
from homeserver.http.route import GUEST, OPTIONAL, Reply, Requester, route
from homeserver.media.downloads import DEFAULT_WAIT_MS, Manner, Wanted
from homeserver.media.thumbnails import Shape, Thumbnails

QUERY = ("width", "height", "method", "animated", "timeout_ms")


class Thumbnail(msgspec.Struct, frozen=True):
    server_name: str
    media_id: str
    width: int
    height: int
    method: Literal["crop", "scale"] = "scale"
    animated: bool = False
    timeout_ms: int = DEFAULT_WAIT_MS
    range: str | None = None
    if_range: str | None = None
    if_none_match: str | None = None

    @property
    def shape(self) -> Shape:
        return Shape(self.width, self.height, self.method, self.animated)

    def manner(self, may_redirect: bool = True) -> Manner:
        return Manner(self.range, self.if_range, self.if_none_match, may_redirect)


class OldThumbnail(Thumbnail, frozen=True, kw_only=True):
    allow_remote: bool = True
    allow_redirect: bool = False


@route(
    "GET",
    AUTHED + "/thumbnail/{server_name}/{media_id}",
    auth=GUEST,
    rate="media",
    query=QUERY,
    headers=CONDITIONS,
)
async def thumbnail(thumbnails: Thumbnails, who: Requester, ask: Thumbnail) -> Reply:
    wanted = Wanted(ask.server_name, ask.media_id, ask.timeout_ms)
    return await thumbnails.answer(wanted, ask.shape, ask.manner())


@route(
    "GET",
    OLD + "/thumbnail/{server_name}/{media_id}",
    auth=OPTIONAL,
    rate="media",
    query=(*QUERY, "allow_remote", "allow_redirect"),
    headers=CONDITIONS,
)
async def old_thumbnail(thumbnails: Thumbnails, who: Requester | None, ask: OldThumbnail) -> Reply:
    wanted = Wanted(ask.server_name, ask.media_id, ask.timeout_ms, ask.allow_remote, only_open=who is None)
    return await thumbnails.answer(wanted, ask.shape, ask.manner(ask.allow_redirect))
