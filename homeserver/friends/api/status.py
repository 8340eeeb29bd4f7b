"""`status`: how one wants to be seen, until one says otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta

from homeserver.client.presence import MAX_STATUS_CHARACTERS
from homeserver.ephemeral.person import Mood
from homeserver.ephemeral.presence import PresenceBoard
from homeserver.guilds.api.fields import API, Maybe
from homeserver.http.route import USER, Requester, route

Status = Literal["online", "away", "busy", "invisible"]
MOODS: Mapping[Status, Mood | None] = {"online": None, "away": "away", "busy": "busy", "invisible": "invisible"}


class PutStatus(msgspec.Struct, frozen=True):
    status: Status
    status_msg: Annotated[str, Meta(max_length=MAX_STATUS_CHARACTERS)] | Maybe | None = UNSET
    """What to say with it; absent: what one said last."""


@route("PUT", f"{API}/status", auth=USER, rate="write")
async def put_status(board: PresenceBoard, who: Requester, ask: PutStatus) -> None:
    """Be seen as online (and as away by oneself after a while), away, busy, or offline whatever one does."""
    if ask.status_msg is not UNSET:
        board.set(who.user_id, who.device_id, "online", ask.status_msg or None)
    await board.choose(who.user_id, who.device_id, MOODS[ask.status])
