"""`GET /_matrix/client/v1/media/download/{serverName}/{mediaId}`: a file, or the part of it that is asked for.

Spec: https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1mediadownloadservernamemediaid
"""

from __future__ import annotations

import msgspec

from homeserver.client.media.paths import AUTHED, CONDITIONS, OLD
from homeserver.http.route import GUEST, OPTIONAL, Reply, Requester, route
from homeserver.media.downloads import DEFAULT_WAIT_MS, Downloads, Manner, Wanted


class Download(msgspec.Struct, frozen=True):
    server_name: str
    media_id: str
    timeout_ms: int = DEFAULT_WAIT_MS
    range: str | None = None
    if_range: str | None = None
    if_none_match: str | None = None

    def manner(self, may_redirect: bool = True) -> Manner:
        return Manner(self.range, self.if_range, self.if_none_match, may_redirect)


class DownloadNamed(Download, frozen=True, kw_only=True):
    file_name: str


class OldDownload(Download, frozen=True, kw_only=True):
    allow_remote: bool = True
    allow_redirect: bool = False

    def wanted(self, who: Requester | None) -> Wanted:
        return Wanted(self.server_name, self.media_id, self.timeout_ms, self.allow_remote, only_open=who is None)


class OldDownloadNamed(OldDownload, frozen=True, kw_only=True):
    file_name: str


@route(
    "GET",
    AUTHED + "/download/{server_name}/{media_id}",
    auth=GUEST,
    rate="media",
    query=("timeout_ms",),
    headers=CONDITIONS,
)
async def download(downloads: Downloads, who: Requester, ask: Download) -> Reply:
    medium = await downloads.find(Wanted(ask.server_name, ask.media_id, ask.timeout_ms))
    return await downloads.answer(medium, ask.manner())


@route(
    "GET",
    AUTHED + "/download/{server_name}/{media_id}/{file_name}",
    auth=GUEST,
    rate="media",
    query=("timeout_ms",),
    headers=CONDITIONS,
)
async def download_named(downloads: Downloads, who: Requester, ask: DownloadNamed) -> Reply:
    medium = await downloads.find(Wanted(ask.server_name, ask.media_id, ask.timeout_ms))
    return await downloads.answer(medium, ask.manner(), ask.file_name)


# The deprecated ones: without a token only what is not frozen. Who does send one may have the rest as well: the point
# of freezing is that nobody gets files who is nobody.


@route(
    "GET",
    OLD + "/download/{server_name}/{media_id}",
    auth=OPTIONAL,
    rate="media",
    query=("timeout_ms", "allow_remote", "allow_redirect"),
    headers=CONDITIONS,
)
async def old_download(downloads: Downloads, who: Requester | None, ask: OldDownload) -> Reply:
    medium = await downloads.find(ask.wanted(who))
    return await downloads.answer(medium, ask.manner(ask.allow_redirect))


@route(
    "GET",
    OLD + "/download/{server_name}/{media_id}/{file_name}",
    auth=OPTIONAL,
    rate="media",
    query=("timeout_ms", "allow_remote", "allow_redirect"),
    headers=CONDITIONS,
)
async def old_download_named(downloads: Downloads, who: Requester | None, ask: OldDownloadNamed) -> Reply:
    medium = await downloads.find(ask.wanted(who))
    return await downloads.answer(medium, ask.manner(ask.allow_redirect), ask.file_name)
