"""Parts of a room's graph for peers: single events, states, auth chains, and walks into the past.

Spec: https://spec.matrix.org/v1.19/server-server-api/#retrieving-events
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import orjson

from federation.room.event import Event
from federation.room.identifiers import InvalidIdentifier, parse_event_id
from federation.service import service
from federation.wire.rooms import TimedEvent
from homeserver.clock import Clock
from homeserver.errors import Forbidden, InvalidParam, NotFound
from homeserver.rooms.events import EventCache
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.moments import FURTHEST, candidates, no_event
from homeserver.rooms.past import Moment
from homeserver.rooms.serve.access import Blurred, PeerAccess
from homeserver.rooms.serve.view import PeerView
from storage import auth_chains, graph, overruled, state
from storage import events as event_rows
from storage.database import Database
from storage.ports import Cursor, StoredEvent
from storage.visibility import memberships_of_server

MOST_BACKFILLED = 100
MOST_MISSING = 20

Pdus = list[orjson.Fragment]


@service
class Graph:
    """Answers peers' questions about rooms that both servers are in."""

    server_name: str
    database: Database
    events: EventCache
    access: PeerAccess
    view: PeerView
    clock: Clock

    async def event(self, origin: str, event_id: str) -> dict[str, object]:
        """One event, as a transaction of one."""
        stored = (await self.database.run(event_rows.load_by_ids, [_parse(event_id)])).get(event_id)
        room = None if stored is None else self.access.rooms.peek_nid(stored.room_nid)
        if stored is not None and room is None:
            room = (await self.access.rooms.get_many([stored.room_nid])).get(stored.room_nid)
        if stored is None or room is None or stored.rejected:
            raise _no_event()
        await self._for(origin, room.room_id, [event_id])
        return self._transaction(pdus(await self._seen(origin, room, [stored])))

    async def state(self, origin: str, room_id: str, event_id: str) -> dict[str, object]:
        """The state before an event, and its auth chain."""
        stored = await self._placed(origin, room_id, event_id)
        in_state, chain = await self.database.run(read_state_events, stored.before)
        return {"pdus": pdus(one.event for one in in_state), "auth_chain": pdus(one.event for one in chain)}

    async def state_ids(self, origin: str, room_id: str, event_id: str) -> dict[str, object]:
        """The same by event ids."""
        stored = await self._placed(origin, room_id, event_id)
        in_state, chain = await self.database.run(read_state_events, stored.before)
        return {
            "pdu_ids": [one.event.event_id for one in in_state],
            "auth_chain_ids": [one.event.event_id for one in chain],
        }

    async def event_auth(self, origin: str, room_id: str, event_id: str) -> dict[str, object]:
        """Everything that an event rests on."""
        room, _ = await self._for(origin, room_id, [_parse(event_id)])
        chain = await self.database.run(_read_auth_chain, room.nid, _parse(event_id))
        if chain is None:
            raise _no_event()
        return {"auth_chain": pdus(one.event for one in chain)}

    async def backfill(self, origin: str, room_id: str, event_ids: Sequence[str], limit: int) -> dict[str, object]:
        """Events and those before them, newest first."""
        if not event_ids:
            raise InvalidParam("`v` names no event", "M_MISSING_PARAM")
        room, start = await self._for(origin, room_id, [_parse(event_id) for event_id in event_ids[:MOST_BACKFILLED]])
        limit = max(0, min(limit, MOST_BACKFILLED))
        found = await self.database.run(graph.walk_back, room.nid, start, limit=limit)
        return self._transaction(pdus(await self.view.of(origin, room, found)))

    async def closest(self, origin: str, room_id: str, ts: int, *, backwards: bool) -> TimedEvent:
        """The event that is closest to a moment, of those that the server may see."""
        room = await self.access.member(origin, room_id)
        moment = Moment(max(-FURTHEST, min(ts, FURTHEST)), backwards)
        found = await self.database.run(_read_closest, self.view, origin, room.nid, moment)
        if found is None:
            raise no_event(ts, backwards=backwards)
        return TimedEvent(found.event.event_id, found.event.origin_server_ts)

    async def missing(
        self, origin: str, room_id: str, *, earliest: Sequence[str], latest: Sequence[str], limit: int, min_depth: int
    ) -> dict[str, object]:
        """What lies between two sets of events, oldest first."""
        room, start = await self._for(origin, room_id, [_parse(event_id) for event_id in latest[:MOST_MISSING]])
        limit = max(0, min(limit, MOST_MISSING))
        found = await self.database.run(
            graph.walk_back,
            room.nid,
            start,
            limit=limit,
            stop=earliest,
            min_depth=min_depth,
            with_start=False,
        )
        return {"events": pdus(await self.view.of(origin, room, found[::-1]))}

    async def _for(self, origin: str, room_id: str, event_ids: Sequence[str]) -> tuple[LiveRoom, Sequence[str]]:
        """A room, and those of some of its events about which a server may ask: all, where it is in the room, and else
        those at which it was, and what was here when it turned out not to be there any more. (Who is put out has to
        find out by what.) Raises NotFound, Forbidden.
        """
        room = await self.access.known(origin, room_id)
        if origin not in room.servers:
            event_ids = await self.database.run(_attended, room.nid, origin, event_ids)
            if not event_ids:
                raise Forbidden("Your server is not in this room")
        return room, event_ids

    async def _placed(self, origin: str, room_id: str, event_id: str) -> StoredEvent:
        """An event that has a place in the room's graph here, so that the state at it is known."""
        room, _ = await self._for(origin, room_id, [_parse(event_id)])
        stored = (await self.database.run(event_rows.load_by_ids, [event_id])).get(event_id)
        if stored is None or stored.room_nid != room.nid or not stored.position:
            raise _no_event()
        if room.is_blurred(stored.position):
            raise Blurred()
        return stored

    async def _seen(self, origin: str, room: LiveRoom, events: Sequence[StoredEvent]) -> list[Event]:
        """As the view has it; outliers, at which the state is not known, are state that whoever is in the room has."""
        placed = [stored for stored in events if stored.position]
        seen = {event.event_id: event for event in await self.view.of(origin, room, placed)}
        return [seen.get(stored.event.event_id, stored.event) for stored in events]

    def _transaction(self, found: Pdus) -> dict[str, object]:
        return {"origin": self.server_name, "origin_server_ts": self.clock.now_ms(), "pdus": found}


def pdus(events: Iterable[Event]) -> Pdus:
    """Events as they go into an answer, unparsed."""
    return [orjson.Fragment(event.raw) for event in events]


def read_state_events(cursor: Cursor, snapshot: int) -> tuple[list[StoredEvent], list[StoredEvent]]:
    """The events of a state, and those that they rest on, each in an explicit order."""
    nids = sorted(state.read_state(cursor, snapshot).values())
    chain = auth_chains.auth_chain(cursor, nids)
    found = event_rows.load_events(cursor, [*nids, *chain.difference(nids)])
    return [found[nid] for nid in nids], [found[nid] for nid in sorted(chain)]


def _read_closest(cursor: Cursor, view: PeerView, origin: str, room_nid: int, moment: Moment) -> StoredEvent | None:
    for piece in candidates(cursor, room_nid, moment):
        hidden = view.hidden(cursor, origin, piece)
        found = next((stored for stored in piece if stored.nid not in hidden), None)
        if found is not None:
            return found
    return None


def _read_auth_chain(cursor: Cursor, room_nid: int, event_id: str) -> list[StoredEvent] | None:
    stored = event_rows.load_by_ids(cursor, [event_id]).get(event_id)
    if stored is None or stored.room_nid != room_nid:
        return None
    cited = event_rows.find_nids(cursor, stored.event.auth_events)
    chain = auth_chains.auth_chain(cursor, list(cited.values())) | set(cited.values())
    found = event_rows.load_events(cursor, chain)
    return [found[nid] for nid in sorted(found)]


def _attended(cursor: Cursor, room_nid: int, server: str, event_ids: Sequence[str]) -> list[str]:
    """Those of the events before which a server was in the room, or that were here before it was put out."""
    found = event_rows.load_by_ids(cursor, event_ids)
    last = overruled.last_event(cursor, room_nid, server)
    return [
        event_id
        for event_id in event_ids
        if (stored := found.get(event_id)) is not None
        and stored.room_nid == room_nid
        and ((last and _is_before(stored, last)) or (stored.position and _was_there(cursor, stored, server)))
    ]


def _is_before(stored: StoredEvent, last: overruled.Last) -> bool:
    """Events without a place are what others rest on."""
    return stored.position <= last.position if stored.position else stored.nid < last.nid


def _was_there(cursor: Cursor, stored: StoredEvent, server: str) -> bool:
    return "join" in memberships_of_server(cursor, stored.before, server)


def _parse(event_id: str) -> str:
    try:
        return parse_event_id(event_id)
    except InvalidIdentifier as error:
        raise InvalidParam(f"{event_id!r} is not an event id: {error}") from None


def _no_event() -> NotFound:
    return NotFound("There is no such event here, or your server may not see it")
