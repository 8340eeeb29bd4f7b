"""A room as its reader may see it, to keep: read a page at a time while it is being sent.

What is asked for at the beginning is judged for each page again: whoever is put out of the room in the middle gets no
more, and their copy breaks off.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import msgspec
import orjson
from attrs import define, field

from federation.service import service
from homeserver.clock import Clock
from homeserver.http.bodies import PIECE
from homeserver.records.formats import About, Format
from homeserver.relations.bundles import Bundles
from homeserver.rooms.events import EventCache
from homeserver.rooms.history import History, Page, PageAsk
from homeserver.rooms.live import NAME, LiveRoom
from homeserver.rooms.render import Reader, client_event
from homeserver.streams.tokens import RoomToken
from homeserver.sync.filters import NO_EVENT_FILTER
from storage.database import Database
from storage.events import span_of

PAGE = 200


class Period(msgspec.Struct, frozen=True):
    """Of when the events are to be, by their own word: from … to, both included, in ms since 1970."""

    start_ts: int
    end_ts: int

    def holds(self, ts: int) -> bool:
        return self.start_ts <= ts <= self.end_ts


@service
class Exports:
    """Makes them."""

    database: Database
    history: History
    bundles: Bundles
    events: EventCache
    clock: Clock
    base_url: str

    async def open(self, user_id: str, room_id: str, period: Period, format: Format) -> ExportSource:
        """Begin one. Raises Forbidden for who may not look into the room."""
        access = await self.history.access.reader(room_id, user_id)
        room = access.room
        now = self.clock.now_ms()
        about = About(room_id, await self._name_of(room), user_id, now, self.base_url)
        span = await self.database.run(span_of, room.nid, period.start_ts, period.end_ts)
        pieces = self._pieces(user_id, room, about, period, format, span)
        return ExportSource(pieces)

    async def _pieces(
        self, user_id: str, room: LiveRoom, about: About, period: Period, format: Format, span: tuple[int, int] | None
    ) -> AsyncIterator[bytes]:
        yield format.head(about)
        # No event comes between these positions any more, however long it takes.
        start = None if span is None else RoomToken(span[0] - 1)
        is_first = True
        while start is not None and span is not None:
            ask = PageAsk(backwards=False, start=start, stop=span[1], limit=PAGE, filter=NO_EVENT_FILTER)
            page = await self.history.page(about.room_id, user_id, ask)
            reader = Reader(user_id, None, about.ts, page.replaced.get)
            reader = await self.bundles.reader(reader, page.room, [stored for stored, _ in page.events])
            names = await self._names_of(room, page)
            for stored, membership in page.events:
                if not period.holds(stored.event.origin_server_ts):
                    continue
                raw = client_event(stored, reader, membership=membership)
                name = names.get(stored.event.sender) or stored.event.sender
                piece = format.event(about, orjson.loads(raw), raw, name, is_first)
                is_first = is_first and not piece
                yield piece
            start = page.end
        yield format.tail()

    async def _name_of(self, room: LiveRoom) -> str:
        ref = room.visible.state.get(NAME)
        stored = None if ref is None else await self.events.get(ref.nid)
        name = None if stored is None else stored.event.content.get("name")
        return name if isinstance(name, str) and name else room.room_id

    async def _names_of(self, room: LiveRoom, page: Page) -> dict[str, str]:
        """What those who speak on a page are called now."""
        state = room.visible.state
        refs = {stored.event.sender: state.get(("m.room.member", stored.event.sender)) for stored, _ in page.events}
        found = await self.events.get_many([ref.nid for ref in refs.values() if ref is not None])
        names = {}
        for user_id, ref in refs.items():
            name = None if ref is None or ref.nid not in found else found[ref.nid].event.content.get("displayname")
            if isinstance(name, str):
                names[user_id] = name
        return names


@define(eq=False)
class ExportSource:
    """Implements `homeserver.http.bodies.Source`."""

    _pieces: AsyncIterator[bytes]
    _held: list[bytes] = field(factory=list, init=False)
    _closed: bool = field(default=False, init=False)

    @property
    def length(self) -> None:
        """It is not known before all is read."""

    async def read(self) -> bytes:
        held, size = self._held, sum(map(len, self._held))
        while not self._closed and size < PIECE:
            try:
                piece = await anext(self._pieces)
            except StopAsyncIteration:
                self._closed = True
            else:
                held.append(piece)
                size += len(piece)
        whole = b"".join(held)
        self._held = _nonempty([whole[PIECE:]])
        return whole[:PIECE]

    def close(self) -> None:
        self._closed = True
        self._held = []


def _nonempty(pieces: Sequence[bytes]) -> list[bytes]:
    return [piece for piece in pieces if piece]
