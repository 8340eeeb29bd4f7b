"""`dms`: the one room that two people have for themselves."""

from __future__ import annotations

from functools import partial

import msgspec

from homeserver.friends.direct import DirectRooms
from homeserver.guilds.api.fields import API, Id
from homeserver.http.route import USER, Requester, route
from storage import friends as rows


class DmAnswer(msgspec.Struct, frozen=True):
    room_id: str
    user_id: str
    """The other."""


class DmList(msgspec.Struct, frozen=True):
    dms: list[DmAnswer]


class OpenDm(msgspec.Struct, frozen=True):
    user_id: Id


class OpenedDm(msgspec.Struct, frozen=True):
    room_id: str


@route("GET", f"{API}/dms", auth=USER, rate="read")
async def get_dms(direct: DirectRooms, who: Requester) -> DmList:
    """One's direct rooms, by the others' ids: one for each."""
    pairs = direct.pairs
    await pairs.import_old(who.user_id)
    found: dict[str, list[str]] = {}
    for one in await pairs.database.run(rows.listed, who.user_id):
        if one.membership == "join":
            found.setdefault(one.other_id, []).append(one.room_id)
    dms = []
    for other_id, room_ids in found.items():
        reading = None if len(room_ids) == 1 else await pairs.find(who.user_id, other_id)
        dms.append(DmAnswer(room_ids[0] if reading is None else reading.room_id, other_id))
    return DmList(dms)


@route("POST", f"{API}/dms", auth=USER, rate="invite")
async def open_dm(direct: DirectRooms, who: Requester, ask: OpenDm) -> OpenedDm:
    """The direct room with somebody: the one that there is, or else a new one to which they are invited."""
    await direct.check(who.user_id, ask.user_id)
    work = partial(direct.open, who.user_id, ask.user_id)
    return OpenedDm(await direct.alone(who.user_id, ask.user_id, work))
