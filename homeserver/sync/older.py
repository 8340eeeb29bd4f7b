"""What clients asked for before there was `/sync`, made of its answers.

They had no way to tell what goes with a device, so they are told nothing of that, and nothing of it counts as told.

Spec: https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3initialsync
Spec: https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3events
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import attrs
import orjson
from attrs import frozen

from homeserver.http.route import Requester
from homeserver.rooms.render import Reader, client_event
from homeserver.streams.tokens import StreamToken
from homeserver.sync.engine import Sync, SyncAsk
from homeserver.sync.filters import MAX_LIMIT, parse_filter
from storage.memberships import RoomOfUser, rooms_of

Json = dict[str, Any]

NOTHING: Json = {"types": []}
ONLY_EVENTS = parse_filter(
    {
        "presence": NOTHING,
        "account_data": NOTHING,
        "room": {"timeline": {"limit": MAX_LIMIT}, "ephemeral": NOTHING, "account_data": NOTHING},
    }
)


@frozen
class OlderSync:
    """Answers."""

    _sync: Sync

    async def snapshot(self, who: Requester, limit: int, archived: bool) -> Json:
        """All that somebody sees: `limit` events of each room, with `archived` of those that they left too."""
        filter = parse_filter({"room": {"timeline": {"limit": limit}, "include_leave": archived}})
        answer = await self._ask(who, SyncAsk(filter, None, False, 0, True))
        sections = answer.get("rooms", {})
        rows = {row.room_id: row for row in await self._sync.database.run(rooms_of, who.user_id)}
        invitations = await self._invitations(who, rows, sections.get("invite", ()))
        rooms: list[Json] = [
            {"room_id": room_id, "membership": "invite", "invite": invitation}
            for room_id, invitation in invitations.items()
        ]
        for name in ("join", "leave"):
            for room_id, section in sections.get(name, {}).items():
                membership = rows[room_id].membership if name == "leave" and room_id in rows else name
                rooms.append({"membership": membership, **_room(room_id, section, answer["next_batch"])})
        return {
            "end": answer["next_batch"],
            "presence": answer.get("presence", {}).get("events", []),
            "account_data": answer.get("account_data", {}).get("events", []),
            "rooms": rooms,
        }

    async def events(self, who: Requester, since: StreamToken | None, timeout_ms: int) -> Json:
        """What happened in all rooms after a place. Waits where that is nothing; without a place, which only asks where
        to begin, it does not.
        """
        hub = self._sync.hub
        if since is None:
            since, timeout_ms = StreamToken(hub.position, hub.serial), 0
        answer = await self._ask(who, SyncAsk(ONLY_EVENTS, since, False, timeout_ms, False))
        sections = answer.get("rooms", {})
        chunk = [
            event
            for name in ("join", "leave")
            for room_id, section in sections.get(name, {}).items()
            for event in _in_room(room_id, section["timeline"]["events"])
        ]
        if invited := sections.get("invite", ()):
            rows = {row.room_id: row for row in await self._sync.database.run(rooms_of, who.user_id)}
            chunk += (await self._invitations(who, rows, invited)).values()
        return {"start": str(since), "end": answer["next_batch"], "chunk": chunk}

    async def _ask(self, who: Requester, ask: SyncAsk) -> Json:
        sync = attrs.evolve(self._sync, contributors=())
        answer: Json = orjson.loads(await sync.sync(who, ask))
        return answer

    async def _invitations(
        self, who: Requester, rows: Mapping[str, RoomOfUser], room_ids: Collection[str]
    ) -> dict[str, Json]:
        """The member events by which somebody is invited to rooms."""
        nids = {room_id: rows[room_id].event_nid for room_id in room_ids if room_id in rows}
        events = await self._sync.events.get_many(list(nids.values()))
        reader = Reader(who.user_id, who.device_id, self._sync.clock.now_ms())
        return {
            room_id: orjson.loads(client_event(events[nid], reader)) for room_id, nid in nids.items() if nid in events
        }


def _room(room_id: str, section: Json, end: str) -> Json:
    timeline = section["timeline"]
    state = section["state_after"] if "state_after" in section else section["state"]
    return {
        "room_id": room_id,
        "messages": {
            "start": timeline["prev_batch"],
            "end": end,
            "chunk": _in_room(room_id, timeline["events"]),
        },
        "state": _in_room(room_id, state["events"]),
        "account_data": section.get("account_data", {}).get("events", []),
    }


def _in_room(room_id: str, events: list[Json]) -> list[Json]:
    return [{**event, "room_id": room_id} for event in events]
