"""A search in the messages of all rooms that somebody is or was in: what matches and what of that may be seen.

    term ── phrases ── index: what matches, in order, a piece at a time ── who may see it ── a page, its context, groups

The index knows nothing of who may see what, so a piece of its answer is held against the rooms' history visibility
before anything is told of it, the number of results too: of rooms that are not wholly open to the searcher, only what
was really found counts. An event that was edited is found by its newest text, by whoever may see both.

Spec: https://spec.matrix.org/v1.19/client-server-api/#server-side-search
"""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec

from federation.room.event import StateKey
from federation.service import service
from homeserver.errors import InvalidParam
from homeserver.rooms.closed import ClosedRooms
from homeserver.rooms.events import EventCache
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.paging import wanted as is_wanted
from homeserver.rooms.registry import Rooms
from homeserver.rooms.tracing import NEVER, Seen
from homeserver.rooms.visibility import Visibility
from homeserver.search.indexer import Indexer
from homeserver.search.words import highlights_of, phrases_of
from homeserver.streams.hub import Hub
from homeserver.sync.filters import EventFilter
from homeserver.userdata.ignoring import Ignorance
from storage import search as rows
from storage.database import Database
from storage.events import LAST
from storage.memberships import rooms_of
from storage.ports import StoredEvent

PIECE = 100
"""Matches that are looked at together."""
MOST_SCANNED = 2_000
"""Matches that one request looks at where few may be seen; then it answers with what it has."""
MOST_ROOMS_COUNTED = 100
"""Rooms whose matches count as results before they were looked at."""

ENCRYPTION: StateKey = ("m.room.encryption", "")

_Number = Annotated[int, msgspec.Meta(ge=-(2**62), le=2**62)]

PREFIX = "q1_"
"""Of tokens: kind and version."""


class Place(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Where a page of results begins: `next_batch`, taken apart."""

    upto: _Number
    """Position of the stream when the search began: what came later is not among the results."""
    after: _Number | None = None
    """Behind the result at that position; by rank, behind so many matches. None: at the first."""
    room_id: str | None = None
    sender: str | None = None
    """Only results of this room or sender: the next page of a group."""

    def __str__(self) -> str:
        return PREFIX + base64.urlsafe_b64encode(msgspec.json.encode(self)).decode().rstrip("=")


def parse_place(text: str) -> Place:
    """Read a `next_batch`. Raises InvalidParam for what no search of this server wrote."""
    coded = text.removeprefix(PREFIX)
    try:
        if coded == text:
            raise ValueError
        return _decode_place(base64.b64decode(coded + "=" * (-len(coded) % 4), b"-_", validate=True))
    except (ValueError, RecursionError):
        raise InvalidParam("`next_batch` is not a token of this server") from None


_decode_place = msgspec.json.Decoder(Place).decode


class SearchAsk(msgspec.Struct, frozen=True):
    """One search, its parts understood."""

    user_id: str
    term: str
    kinds: Sequence[int]
    filter: EventFilter
    order: rows.Order
    limit: int
    place: Place | None = None
    is_grouped: bool = False
    """Every result is to know its place among those of its room and sender."""


class Found(msgspec.Struct, frozen=True):
    """One result."""

    hit: rows.Hit
    room: LiveRoom
    seen: Seen
    passed: int
    """`Place.after` for what follows it."""

    @property
    def event(self) -> StoredEvent:
        return self.seen[0]

    def behind(self, place: Place, order: rows.Order, group: Literal["room_id", "sender"] | None = None) -> Place:
        """Where its page's search goes on behind it; or that of its room or sender alone."""
        after = self.passed
        if group is not None and order == "rank" and getattr(place, group) is None:
            after = self.hit.place_in_room if group == "room_id" else self.hit.place_of_sender
        value = {} if group is None else {group: getattr(self.event.event, group)}
        return msgspec.structs.replace(place, after=after, **value)


class Results(msgspec.Struct, frozen=True):
    """A page of results."""

    found: Sequence[Found]
    place: Place
    """Where it began."""
    count: int = 0
    """About how many there are in all."""
    highlights: Sequence[str] = ()
    next: Place | None = None
    """Where the next page begins; None where there is none."""


@service
class Search:
    """Searches."""

    database: Database
    hub: Hub
    rooms: Rooms
    events: EventCache
    visibility: Visibility
    ignoring: Ignorance
    indexer: Indexer
    closed: ClosedRooms

    async def search(self, ask: SearchAsk) -> Results:
        """One page of results, of all that was said before this was called."""
        await self.indexer.catch_up()
        place = ask.place or Place(self.hub.position)
        phrases, highlights = phrases_of(ask.term), highlights_of(ask.term)
        senders = ask.filter.senders.wanted
        if place.sender is not None:
            senders = (place.sender,) if senders is None or place.sender in senders else ()
        nids = await self._rooms(ask, place)
        if not phrases or not nids or not ask.kinds or senders == () or not ask.limit:
            return Results((), place, 0, highlights)
        ignored = await self.ignoring.of(ask.user_id)
        wanted = rows.Wanted(
            phrases=phrases,
            rooms=nids,
            kinds=ask.kinds,
            upto=place.upto,
            senders=senders,
            not_senders={*ignored, *ask.filter.senders.unwanted},
        )
        # No more than are shown, as most may be seen, and all in one go: going to a thread costs more than looking.
        size = min(PIECE, ask.limit)
        begun = await self.database.run(rows.begin, wanted, _from(ask, place.after), size)
        page = await self._page(ask, begun, place, size)
        return msgspec.structs.replace(page, count=await self._count(ask, begun, page), highlights=highlights)

    async def _rooms(self, ask: SearchAsk, place: Place) -> list[int]:
        """Rooms (nids) that the searcher has had to do with, as far as they are wanted."""
        found = []
        for row in await self.database.run(rooms_of, ask.user_id):
            if row.forgotten or not ask.filter.admits_room(row.room_id) or place.room_id not in (None, row.room_id):
                continue
            room = None if row.membership == "join" else await self.rooms.get(row.room_id)
            if room is None or not await self.closed.is_closed(room, ask.user_id):
                found.append(row.room_nid)
        return found

    async def _page(self, ask: SearchAsk, begun: rows.Begun, place: Place, size: int) -> Results:
        found: list[Found] = []
        after, scanned, hits = place.after, 0, begun.hits
        while True:
            places = [hit.position if ask.order == "recent" else (after or 0) + n for n, hit in enumerate(hits, 1)]
            for one in await self._see(ask, hits, places):
                found.append(one)
                if len(found) == ask.limit:
                    # Clients expect that a full page has a next one, and may find that with nothing on it.
                    return Results(found, place, next=one.behind(place, ask.order))
            scanned += len(hits)
            if len(hits) < size:
                return Results(found, place)
            after, size = places[-1], PIECE
            if scanned >= MOST_SCANNED:
                return Results(found, place, next=msgspec.structs.replace(place, after=after))
            hits = await self.database.run(rows.find, begun.wanted, _from(ask, after), size)

    async def _see(self, ask: SearchAsk, hits: Sequence[rows.Hit], places: Sequence[int]) -> list[Found]:
        """Those of the matches that the searcher may see, and whose newest text it may see."""
        stored = await self.events.get_many([nid for hit in hits for nid in {hit.event_nid, hit.source_nid}])
        rooms = await self.rooms.get_many(hit.room_nid for hit in hits)
        by_room: dict[int, dict[int, StoredEvent]] = defaultdict(dict)
        for hit in hits:
            room = rooms.get(hit.room_nid)
            if room is None or _is_encrypted(room) or not {hit.event_nid, hit.source_nid} <= stored.keys():
                continue
            if is_wanted(ask.filter, stored[hit.event_nid]):
                by_room[hit.room_nid].update((nid, stored[nid]) for nid in (hit.event_nid, hit.source_nid))
        pages = [(rooms[nid], sorted(events.values(), key=lambda one: one.position)) for nid, events in by_room.items()]
        visible = await self.visibility.filter_many(ask.user_id, pages)
        seen = {
            one[0].nid: one
            for (room, _), page in zip(pages, visible, strict=True)
            if self.visibility.viewer(room, ask.user_id).joined_until != NEVER  # only invited, once
            for one in page
        }
        return [
            Found(hit, rooms[hit.room_nid], seen[hit.event_nid], passed)
            for hit, passed in zip(hits, places, strict=True)
            if hit.event_nid in seen and hit.source_nid in seen
        ]

    async def _count(self, ask: SearchAsk, begun: rows.Begun, page: Results) -> int:
        """About how many results there are: what matches in rooms that are open to the searcher, and what was found in
        others.
        """
        counted = begun.counted
        most = sorted(counted, key=lambda nid: -counted[nid])[:MOST_ROOMS_COUNTED]
        rooms = [room for room in (await self.rooms.get_many(most)).values() if not _is_encrypted(room)]
        is_open = await self.visibility.sees_all_of(rooms, ask.user_id)
        elsewhere = sum(one.room.nid not in is_open for one in page.found)
        return max(len(page.found), sum(counted[nid] for nid in is_open) + elsewhere)


def _from(ask: SearchAsk, after: int | None) -> rows.Place:
    if ask.order == "recent":
        return rows.Place("recent", LAST if after is None else after)
    return rows.Place("rank", max(0, after or 0), ask.is_grouped)


def _is_encrypted(room: LiveRoom) -> bool:
    """What was said in such a room before it was encrypted is left alone, too, as the specification has it."""
    return ENCRYPTION in room.visible.state
