"""Events that have no place in the timeline: kept because others rest on them, each judged by what it cites."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from federation.room.auth import Refused
from federation.room.event import Event, StateKey
from federation.service import service
from homeserver.rooms.accept import Door
from homeserver.rooms.compose import Advance
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.receive.judge import Docket, Judge
from homeserver.rooms.receive.known import KnownEvents
from homeserver.rooms.registry import Rooms
from storage import auth_chains
from storage.ports import NewEvent, NewSnapshot, StateRef, StoredEvent

MEMBER = "m.room.member"
AT_ONCE = 1_000
"""Outliers that are written in one transaction: others wait for its end."""


@service
class Outliers:
    """Keeps them. Nothing else may come into the room from peers meanwhile (`Receiver.alone`)."""

    door: Door
    rooms: Rooms
    known: KnownEvents
    judge: Judge

    async def keep(self, room: LiveRoom, fetched: Mapping[str, Event], stored: dict[str, StoredEvent]) -> None:
        """Judge fetched events by what they cite, those that are cited first, and write them.

        `stored` is what is at hand of what they cite, by id; what is kept is added to it. They are written before the
        event for whose sake they were fetched: resolution finds events in the database only.
        """
        await self.anchor(room, stored.values())
        cited = {event_id for event in fetched.values() for event_id in event.auth_events}
        stored.update(await self.known.find(room, sorted(cited - stored.keys() - fetched.keys())))
        docket = Docket()
        outliers: list[StoredEvent] = []
        for event in cited_first(fetched):
            if any(event_id not in stored for event_id in event.auth_events):
                continue
            verdict = self.judge.by_auth_events(room, event, stored, docket)
            outlier = self.make(room, event, self.next_nid(), rejected=isinstance(verdict, Refused))
            stored[event.event_id] = outlier
            outliers.append(outlier)
        for start in range(0, len(outliers), AT_ONCE):
            await self.write(room, outliers[start : start + AT_ONCE])

    async def anchor(self, room: LiveRoom, known: Iterable[StoredEvent]) -> None:
        """Give a place in the auth graph to invitations and knocks of people here that were kept before this server had
        the room, so that resolution can weigh them.
        """
        stray = {
            stored.nid: stored
            for stored in known
            if not stored.position and stored.event.type == MEMBER and self._is_ours(stored.event.state_key or "")
        }
        if not stray:
            return
        for nid in sorted(await self.known.database.run(auth_chains.without_place, list(stray))):
            stored = stray[nid]
            cited = await self.known.find(room, stored.event.auth_events)
            if len(cited) == len(set(stored.event.auth_events)):
                advance = Advance(await self.rooms.require(room.room_id))
                advance.new = [NewEvent(stored, is_outlier=True, was_outlier=True)]
                await self.door.append(advance)

    async def anchor_state(self, room: LiveRoom, state: Mapping[StateKey, StateRef]) -> None:
        """The same for those among the events of a state."""
        ours = [ref.event_id for key, ref in state.items() if key[0] == MEMBER and self._is_ours(key[1])]
        if ours:
            await self.anchor(room, (await self.known.find(room, ours)).values())

    def _is_ours(self, user_id: str) -> bool:
        return user_id.partition(":")[2] == self.door.identity.server_name

    def next_nid(self) -> int:
        counters = self.door.means.counters
        counters.event += 1
        return counters.event - 1

    def make(self, room: LiveRoom, event: Event, nid: int, *, rejected: bool = False) -> StoredEvent:
        """A new one, which is yet to be written."""
        return StoredEvent(
            nid=nid,
            position=0,
            room_nid=room.nid,
            event=event,
            before=0,
            after=0,
            rejected=rejected,
            received_ts=self.door.clock.now_ms(),
        )

    async def write(
        self, room: LiveRoom, outliers: Sequence[StoredEvent], snapshots: Sequence[NewSnapshot] = ()
    ) -> None:
        """Write outliers and states, without moving the room."""
        if outliers or snapshots:
            advance = Advance(await self.rooms.require(room.room_id))
            advance.new = [NewEvent(stored, is_outlier=True) for stored in outliers]
            advance.snapshots = list(snapshots)
            await self.door.append(advance)


def cited_first(events: Mapping[str, Event]) -> list[Event]:
    """Events in an order in which what is cited comes before what cites it, and otherwise by id. A cycle, which only a
    lie can make, is left out.
    """
    alike: dict[tuple[str, ...], list[str]] = {}
    """By what they cite: much of a room cites the same few events, and comes in the same moment."""
    for event_id, event in events.items():
        alike.setdefault(event.auth_events, []).append(event_id)
    waiting: dict[tuple[str, ...], int] = {}
    """How many of what those cite are among them and have yet to come."""
    citing: dict[str, list[tuple[str, ...]]] = {}
    for cited in alike:
        among = events.keys() & cited
        waiting[cited] = len(among)
        for other in among:
            citing.setdefault(other, []).append(cited)
    ordered: list[Event] = []
    ready: Collection[str] = sorted(
        event_id for cited, count in waiting.items() if not count for event_id in alike[cited]
    )
    while ready:
        freed: list[str] = []
        for event_id in ready:
            ordered.append(events[event_id])
            for cited in citing.get(event_id, ()):
                waiting[cited] -= 1
                if not waiting[cited]:
                    freed += alike[cited]
        ready = sorted(freed)
    return ordered
