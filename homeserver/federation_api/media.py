"""Files of this server for other servers.

Spec: https://spec.matrix.org/v1.19/server-server-api/#content-repository
"""

from __future__ import annotations

from typing import Literal

import msgspec

from config import Settings
from federation.inbound.x_matrix import Origin
from homeserver.http.route import FEDERATION, Reply, route
from homeserver.media.downloads import DEFAULT_WAIT_MS, Manner, Wanted
from homeserver.media.peer_downloads import PeerDownloads
from homeserver.media.thumbnails import Shape

ROOT = "/_matrix/federation/v1/media"
CONDITIONS = ("range", "if-range")


class Download(msgspec.Struct, frozen=True):
    media_id: str
    timeout_ms: int = DEFAULT_WAIT_MS
    range: str | None = None
    if_range: str | None = None


class Thumbnail(msgspec.Struct, frozen=True):
    media_id: str
    width: int
    height: int
    method: Literal["crop", "scale"] = "scale"
    animated: bool = False
    timeout_ms: int = DEFAULT_WAIT_MS
    range: str | None = None
    if_range: str | None = None


@route(
    "GET",
    ROOT + "/download/{media_id}",
    auth=FEDERATION,
    rate="federation",
    query=("timeout_ms",),
    headers=CONDITIONS,
)
async def download(files: PeerDownloads, settings: Settings, who: Origin, ask: Download) -> Reply:
    wanted = Wanted(settings.server.name, ask.media_id, ask.timeout_ms, may_fetch=False)
    return await files.download(wanted, Manner(ask.range, ask.if_range))


@route(
    "GET",
    ROOT + "/thumbnail/{media_id}",
    auth=FEDERATION,
    rate="federation",
    query=("width", "height", "method", "animated", "timeout_ms"),
    headers=CONDITIONS,
)
async def thumbnail(files: PeerDownloads, settings: Settings, who: Origin, ask: Thumbnail) -> Reply:
    wanted = Wanted(settings.server.name, ask.media_id, ask.timeout_ms, may_fetch=False)
    shape = Shape(ask.width, ask.height, ask.method, ask.animated)
    return await files.thumbnail(wanted, shape, Manner(ask.range, ask.if_range))
