"""`POST /_matrix/client/v3/rooms/{roomId}/receipt/{receiptType}/{eventId}`: say how far one has read.

Spec: https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidreceiptreceipttypeeventid
"""

from __future__ import annotations

from typing import Any

import msgspec

from federation.room.identifiers import InvalidIdentifier, parse_event_id
from homeserver.client.own import require_event_id
from homeserver.ephemeral.receipts import PRIVATE, READ
from homeserver.ephemeral.threads import MAIN, Threads
from homeserver.errors import InvalidParam
from homeserver.http.route import USER, Requester, route
from homeserver.rooms.access import RoomAccess
from homeserver.userdata.read_markers import FULLY_READ, Mark, ReadMarkers
from storage.receipts import UNTHREADED


class PostReceipt(msgspec.Struct, frozen=True):
    room_id: str
    receipt_type: str
    event_id: str
    thread_id: Any = msgspec.UNSET


@route("POST", "/_matrix/client/v3/rooms/{room_id}/receipt/{receipt_type}/{event_id}", auth=USER, rate="write")
async def post_receipt(
    markers: ReadMarkers, threads: Threads, access: RoomAccess, who: Requester, ask: PostReceipt
) -> None:
    if ask.receipt_type not in (READ, PRIVATE, FULLY_READ):
        raise InvalidParam(f"A receipt's type is {READ}, {PRIVATE} or {FULLY_READ}")
    event_id = require_event_id(ask.event_id)
    thread = _thread_of(ask)
    room = await access.member(ask.room_id, who.user_id)
    if thread != UNTHREADED:
        await threads.require_in_thread(room.nid, event_id, thread)
    await markers.move(room.nid, who.user_id, [Mark(ask.receipt_type, event_id, thread)])


def _thread_of(ask: PostReceipt) -> str:
    thread_id = ask.thread_id
    if thread_id is msgspec.UNSET:
        return UNTHREADED
    if ask.receipt_type == FULLY_READ:
        raise InvalidParam(f"`thread_id` does not go with {FULLY_READ}")
    if thread_id == MAIN:
        return MAIN
    try:
        return parse_event_id(thread_id)
    except InvalidIdentifier:
        raise InvalidParam("`thread_id` must be `main` or the id of a thread's root") from None
