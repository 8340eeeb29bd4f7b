"""The bytes of what is told of an event: made once for all who are told of it at about the same time."""

from __future__ import annotations

import orjson
from attrs import define, field

from homeserver.gateway.families.happening import Told
from homeserver.guilds.steward import guild_id_of
from homeserver.http.route import Requester
from homeserver.rooms.events import EventCache
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.render import Reader, client_event, is_personal
from storage.ports import StoredEvent

FRESH_MS = 10_000
"""Events say how old they are, so what was made is not shared for longer."""
MOST_HELD = 2_000


@define(eq=False)
class Frames:
    """One per process."""

    _events: EventCache
    _held: dict[tuple[int, int, str, bytes], bytes] = field(factory=dict, init=False)
    _made_ms: int = field(default=0, init=False)

    def body(self, room: LiveRoom, stored: StoredEvent, told: Told, who: Requester, now_ms: int) -> bytes:
        """The members `type` and `data` of a message."""
        if is_personal(stored, who.user_id):
            return self._make(room, stored, told, Reader(who.user_id, who.device_id, now_ms, self._events.peek))
        if now_ms - self._made_ms > FRESH_MS or len(self._held) > MOST_HELD:
            self._held.clear()
            self._made_ms = now_ms
        # Redaction gives an event another form under the same number.
        key = (stored.nid, stored.redacted_by, told.kind, told.fields)
        made = self._held.get(key)
        if made is None:
            made = self._held[key] = self._make(room, stored, told, Reader("", None, now_ms, self._events.peek))
        return made

    def _make(self, room: LiveRoom, stored: StoredEvent, told: Told, reader: Reader) -> bytes:
        members = [b',"room_id":' + orjson.dumps(told.room_id or room.room_id)] if told.names_room else []
        if b'"guild_id":' not in told.fields and (guild_id := guild_id_of(room)) is not None:
            members.append(b',"guild_id":' + orjson.dumps(guild_id))
        members += [told.fields, b',"event":', client_event(stored, reader)]
        return b'"type":"%b","data":{%b}' % (told.kind.encode(), b"".join(members)[1:])
