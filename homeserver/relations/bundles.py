"""What hangs on events as it goes with them to one reader: `unsigned.m.relations`.

Spec: https://spec.matrix.org/v1.19/client-server-api/#aggregations-of-child-events
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec
import orjson

from federation.service import service
from homeserver.relations.summaries import Parents, Summaries
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.related import Summary, Thread
from homeserver.rooms.render import Reader, client_event, is_personal
from homeserver.userdata.ignoring import Ignorance
from storage.ports import StoredEvent


class Bundled(msgspec.Struct, frozen=True):
    """What goes with some events."""

    parts: Mapping[int, bytes] = msgspec.field(default_factory=dict)
    """By the events' nids: a member of `unsigned`, as `,"m.relations":…`. Most events have none."""
    personal: Collection[str] = ()
    """Whom it would look different to."""


NOTHING = Bundled()


@service
class Bundles:
    """Makes them."""

    summaries: Summaries
    ignoring: Ignorance

    async def reader(
        self, reader: Reader, room: LiveRoom, events: Sequence[StoredEvent], *, room_id: bool = True
    ) -> Reader:
        """The reader, with what goes with these events of one room."""
        bundled = await self.of(reader, [(room, events)], room_id=room_id)
        return msgspec.structs.replace(reader, bundled=bundled.parts) if bundled.parts else reader

    async def of(self, reader: Reader, parents: Parents, *, room_id: bool = True) -> Bundled:
        """For events that the reader may see. `room_id`: whether events inside tell their room."""
        found = await self.summaries.of(parents)
        if not found:
            return NOTHING
        ignored = await self.ignoring.of(reader.user_id)
        visibility = self.summaries.visibility
        concerned = [room for room, events in parents if any(stored.event.event_id in found for stored in events)]
        open_rooms = await visibility.sees_all_of(concerned, reader.user_id)
        limited = [
            (room, [stored for stored in events if stored.event.event_id in found])
            for room, events in parents
            if ignored or room.nid not in open_rooms
        ]
        if limited:
            for _, asked in limited:
                for stored in asked:
                    self._leave_out(found, stored.event.event_id)
            found.update(await self.summaries.for_some(reader.user_id, limited, ignored, open_rooms))
        parts: dict[int, bytes] = {}
        personal: set[str] = set()
        for _, events in parents:
            for stored in events:
                summary = found.get(stored.event.event_id)
                if summary is not None and (made := _bundle(stored, summary, found, reader, room_id)):
                    parts[stored.nid] = made
                    personal.update(_whose(stored, summary))
        return Bundled(parts, personal)

    def _leave_out(self, found: dict[str, Summary], event_id: str) -> None:
        summary = found.pop(event_id, None)
        if summary is not None and summary.thread is not None:
            self._leave_out(found, summary.thread.latest.event.event_id)


def _bundle(
    stored: StoredEvent, summary: Summary, found: Mapping[str, Summary], reader: Reader, room_id: bool
) -> bytes:
    parts: list[bytes] = []
    if summary.references:
        chunk = b",".join([b'{"event_id":%b}' % orjson.dumps(event_id) for event_id in summary.references])
        parts.append(b'"m.reference":{"chunk":[%b]}' % chunk)
    # Of what was taken back, no later version is shown.
    if summary.edit is not None and not stored.redacted_by:
        parts.append(b'"m.replace":' + client_event(summary.edit, reader, room_id=room_id))
    if summary.thread is not None:
        parts.append(b'"m.thread":' + _thread(stored, summary.thread, found, reader, room_id))
    return b',"m.relations":{%b}' % b",".join(parts) if parts else b""


def _thread(root: StoredEvent, thread: Thread, found: Mapping[str, Summary], reader: Reader, room_id: bool) -> bytes:
    latest = thread.latest
    inner = found.get(latest.event.event_id)
    if inner is not None and inner.thread is None:
        reader = msgspec.structs.replace(reader, bundled={latest.nid: _bundle(latest, inner, found, reader, room_id)})
    took_part = root.event.sender == reader.user_id or reader.user_id in thread.speakers
    return b'{"count":%d,"current_user_participated":%b,"latest_event":%b}' % (
        thread.replies,
        b"true" if took_part else b"false",
        client_event(latest, reader, room_id=room_id),
    )


def _whose(stored: StoredEvent, summary: Summary) -> list[str]:
    """To whom a bundle tells something of their own: that they took part, or under which transaction id they sent."""
    shown = [] if summary.edit is None else [summary.edit]
    found: list[str] = []
    if summary.thread is not None:
        shown.append(summary.thread.latest)
        found += [stored.event.sender, *summary.thread.speakers]
    return [*found, *(one.event.sender for one in shown if is_personal(one, one.event.sender))]
