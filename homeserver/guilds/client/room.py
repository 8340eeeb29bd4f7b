"""One room, be it a channel of a guild or any other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from homeserver.guilds.client.session import Caller, Query, at

Json = dict[str, Any]


class RoomClient(msgspec.Struct, frozen=True):
    """The calls below `rooms/{room_id}`. Times are ms since 1970."""

    caller: Caller
    room_id: str

    def _call(self, method: str, *segments: str, body: object = None, query: Query | None = None) -> Any:
        return self.caller.call(method, at("rooms", self.room_id, *segments), body, query)

    # -- a message ---------------------------------------------------------------------------------------------

    def status(self, event_id: str) -> Json:
        """To whom it has come, and who has read it."""
        return dict(self._call("GET", "messages", event_id, "status"))

    def edits(self, event_id: str) -> list[Json]:
        """What it was changed to, oldest first."""
        return list(self._call("GET", "messages", event_id, "edits")["edits"])

    def forward(self, event_id: str, room_ids: Sequence[str]) -> Json:
        """Say it in other rooms too; by room, the new event or why it could not be."""
        return dict(self._call("POST", "messages", event_id, "forward", body={"room_ids": list(room_ids)}))

    # -- scheduled messages ------------------------------------------------------------------------------------

    def scheduled(self) -> list[Json]:
        """One's own that are still to be sent."""
        return list(self._call("GET", "scheduled")["scheduled"])

    def schedule(self, at_ts: int, content: Mapping[str, Any], event_type: str = "m.room.message") -> str:
        """Have something said later; its id."""
        body = {"at_ts": at_ts, "type": event_type, "content": dict(content)}
        return str(self._call("POST", "scheduled", body=body)["id"])

    def change_scheduled(self, schedule_id: str, **changes: Any) -> None:
        self._call("PATCH", "scheduled", schedule_id, body=changes)

    def cancel_scheduled(self, schedule_id: str) -> None:
        self._call("DELETE", "scheduled", schedule_id)

    # -- the room ----------------------------------------------------------------------------------------------

    def delete(self, *, purge: bool = False) -> None:
        """End it: everybody is put out. `purge`: its messages are gone from the server's database too."""
        self._call("DELETE", query={"purge": "true"} if purge else None)

    def analytics(self, **query: int) -> Json:
        """How much was said, and who came and went, by day. `query`: `from` and `to`."""
        return dict(self._call("GET", "analytics", query=query))

    def export(self, **query: int) -> Json:
        """What was said between `from` and `to`, oldest first. The API has it as a page and as text too."""
        return dict(self._call("GET", "export", query={"format": "json", **query}))
