"""`GET /_guildhall/client/v1/media/{server}/{id}/waveform`: how long a sound is, and how loud where.

Clients that record a voice message put this into it themselves; this is for those that only got a file. The numbers are
those of https://github.com/matrix-org/matrix-spec-proposals/pull/3246: from 0 to 1024, up to 100 of them.
"""

from __future__ import annotations

import msgspec

from homeserver.http.route import GUEST, Requester, route
from homeserver.media.downloads import Wanted
from homeserver.media.sounds import Sounds
from homeserver.media.workshop.jobs import Sound


class Waveform(msgspec.Struct, frozen=True):
    server_name: str
    media_id: str


@route("GET", "/_guildhall/client/v1/media/{server_name}/{media_id}/waveform", auth=GUEST, rate="media")
async def get_waveform(sounds: Sounds, who: Requester, ask: Waveform) -> Sound:
    return await sounds.hear(Wanted(ask.server_name, ask.media_id))
