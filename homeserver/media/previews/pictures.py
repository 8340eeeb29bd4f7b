"""The pictures of previews: fetched once, kept as files of this server until their preview is forgotten."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from attrs import define

from config import Media as MediaSettings
from config import Previews as Settings
from federation.outbound.transport import PeerError
from federation.outbound.web import BadUrl, Web, WebRequest, parse_url
from homeserver.errors import MatrixError
from homeserver.media.draft import Draft
from homeserver.media.kinds import essence, sniff
from homeserver.media.library import Library
from homeserver.media.sinks import DraftSink
from homeserver.media.uris import new_media_id, uri_of
from homeserver.media.workshop.jobs import MakeThumbnail, Thumbnailed, WorkFailed
from homeserver.media.workshop.ladder import WHOLE
from homeserver.media.workshop.pool import Workshop
from storage import media as rows
from storage.media import Added, Medium

TIMEOUT_S = 15.0
ACCEPT = "image/jpeg, image/png, image/webp, image/gif"


class _NoPicture(Exception):
    """What is there is something else."""


class PreviewPicture(msgspec.Struct, frozen=True):
    media_id: str
    properties: Mapping[str, Any]
    """Of the preview: `og:image` and what belongs to it."""


@define(eq=False)
class PreviewPictures:
    """Fetches pictures that pages name."""

    _library: Library
    _workshop: Workshop
    _web: Web
    _settings: Settings
    _media: MediaSettings

    async def fetch(self, target: str, is_blocked: Callable[[str], bool]) -> PreviewPicture | None:
        """Have a picture here; None where it can't be had: a preview does without, then."""
        try:
            url = parse_url(target)
        except BadUrl:
            return None
        if is_blocked(url.host):
            return None
        try:
            async with self._library.draft() as draft:
                sink = DraftSink(self._library, draft, _only_pictures)
                request = WebRequest(
                    url.text,
                    headers={"Accept": ACCEPT},
                    timeout_s=TIMEOUT_S,
                    max_bytes=self._settings.max_bytes,
                    sink=sink,
                )
                response = await self._web.fetch(request)
                if response.status != 200:
                    return None
                await sink.flush()
                await self._library.workers.run(draft.finish)
                return await self._keep(draft)
        except (PeerError, WorkFailed, MatrixError, _NoPicture):
            return None

    async def _keep(self, draft: Draft) -> PreviewPicture | None:
        kind = sniff(draft.head)
        async with self._library.scratch() as out:
            job = MakeThumbnail(str(draft.path), str(out), *WHOLE, "scale", True, self._media.max_pixels)
            result = await self._workshop.do(job, Thumbnailed)
        if result.made is not None or kind is None:
            return None  # a picture that not everybody can be shown as it is
        file = await self._library.shelve(draft, "local")
        now = self._library.clock.now_ms()
        medium = Medium(
            origin=self._library.server_name,
            media_id=new_media_id(),
            user_id=None,
            created_ts=now,
            expires_ts=None,
            used_ts=now,
            size_bytes=draft.size_bytes,
            type=kind,
            name=None,
            sha256=None,
            file=file,
            is_open=not self._media.freeze,
        )
        verdict = await self._library.enter(medium, rows.add)
        if verdict is not Added.DONE:
            return None
        properties = {
            "og:image": uri_of(*medium.key),
            "og:image:type": kind,
            "og:image:width": result.picture.width,
            "og:image:height": result.picture.height,
            "matrix:image:size": medium.size_bytes,
        }
        return PreviewPicture(medium.media_id, properties)


def _only_pictures(headers: Mapping[str, str]) -> None:
    kind = essence(headers.get("content-type", ""))
    if not kind.startswith("image/") and kind != "application/octet-stream":
        raise _NoPicture
