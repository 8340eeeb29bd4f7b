"""`GET rooms/{room_id}/export`: what was said in a room, to keep."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from homeserver.guilds.api.fields import API
from homeserver.http.route import USER, Reply, Requester, route
from homeserver.media.headers import SAFE, disposition
from homeserver.records.exports import Exports, Period
from homeserver.records.formats import FORMATS

LAST = 2**53 - 1
Moment = Annotated[int, Meta(ge=0, le=LAST)]
"""In ms since 1970."""


class Export(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    room_id: str
    format: Literal["json", "html", "txt"] = "json"
    from_: Moment = 0
    to: Moment = LAST


@route("GET", f"{API}/rooms/{{room_id}}/export", auth=USER, rate="export", query=("format", "from", "to"))
async def export_room(exports: Exports, who: Requester, ask: Export) -> Reply:
    """A room's events, the oldest first: those that the caller may see, of a time. Files are there as links."""
    format = FORMATS[ask.format]
    source = await exports.open(who.user_id, ask.room_id, Period(ask.from_, ask.to), format)
    headers = {
        **SAFE,
        "Content-Type": format.content_type,
        "Content-Disposition": disposition("attachment", f"room.{format.suffix}"),
        "Cache-Control": "no-store",
    }
    return Reply(200, headers=headers, source=source)
