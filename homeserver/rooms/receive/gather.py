"""Asking peers for what an event rests on: the events before it, the state before those, and what they cite.

A peer may lie, stall, or send a flood, so every question has limits: in number here, in bytes and time in the
transport. What comes back goes through the same checks as what was sent unasked.

Spec: https://spec.matrix.org/v1.19/server-server-api/#backfilling-and-retrieving-missing-events
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import structlog
from attrs import define, field, frozen

from federation.gather import gather
from federation.outbound.transport import BadAnswer, PeerError
from federation.room.event import Event
from federation.room.format import BadEvent
from federation.room.parse import content_hash_matches, parse_pdu
from federation.room.redaction import redact_event
from federation.room.versions import RoomVersion
from homeserver.rooms.receive.ports import Peers, StateIds, Verifier

MAX_MISSING = 20
"""Events per question for missing ones, as the specification suggests and peers allow at most."""
MAX_STATES = 10
"""States that are taken on a peer's word for one event."""
MAX_FETCHED = 2_000
"""Events that one event may make this server fetch one by one."""

AT_ONCE = 250
"""Events of a large answer that are taken apart before their signatures are checked, in threads, while the next are
taken apart."""

log = structlog.get_logger("homeserver.rooms.receive")


@define
class Budget:
    """What one incoming event may cost in questions."""

    states: int = MAX_STATES
    events: int = MAX_FETCHED


@frozen
class Delivered:
    """Events that a peer gave, by id."""

    events: Mapping[str, Event] = field(factory=dict)
    spoilt: frozenset[str] = frozenset()
    """Those that are not validly signed, or whose keys can't be had."""

    def with_more(self, more: Delivered) -> Delivered:
        return Delivered({**self.events, **more.events}, self.spoilt | more.spoilt)


@frozen
class Gatherer:
    """Asks, checks format, signatures and hashes, and gives events or nothing."""

    peers: Peers
    verifier: Verifier

    async def check(self, version: RoomVersion, raws: Sequence[bytes]) -> list[Event | str]:
        """Steps 1 to 3 for each: the event (redacted where its content hash does not match), or why it is dropped."""
        parts = (raws[start : start + AT_ONCE] for start in range(0, len(raws), AT_ONCE))
        return [event for part in await gather(self._check(version, part) for part in parts) for event in part]

    async def _check(self, version: RoomVersion, raws: Sequence[bytes]) -> list[Event | str]:
        parsed = _parse(version, raws)
        checked = iter(await self._verify(version, [event for event in parsed if isinstance(event, Event)]))
        return [event if isinstance(event, str) else next(checked) for event in parsed]

    async def missing_before(
        self,
        server: str,
        version: RoomVersion,
        room_id: str,
        *,
        earliest: Sequence[str],
        latest: Sequence[str],
    ) -> list[Event] | None:
        """Events between `earliest` and `latest`, those that are well formed; None if the peer could not be asked."""
        try:
            raws = await self.peers.get_missing_events(
                server, room_id, earliest=earliest, latest=latest, limit=MAX_MISSING
            )
        except PeerError as error:
            log.info("no missing events", peer=server, room=room_id, why=str(error))
            return [] if isinstance(error, BadAnswer) else None
        return list((await self.sift(version, room_id, raws[:MAX_MISSING])).events.values())

    async def state_ids(self, server: str, room_id: str, event_id: str) -> StateIds | None:
        try:
            return await self.peers.state_ids(server, room_id, event_id)
        except PeerError as error:
            log.info("no state", peer=server, room=room_id, event_id=event_id, why=str(error))
            return None

    async def fetch(
        self, server: str, version: RoomVersion, room_id: str, event_ids: Collection[str], budget: Budget
    ) -> Delivered:
        """Single events by id. Those that can't be had, or that are not what was asked for, are left out."""
        found = Delivered()
        for event_id in sorted(event_ids):
            if budget.events <= 0:
                break
            budget.events -= 1
            try:
                raw = await self.peers.event(server, event_id)
            except PeerError as error:
                log.info("no such event", peer=server, event_id=event_id, why=str(error))
                continue
            one = await self.sift(version, room_id, [raw])
            if event_id in one.events or event_id in one.spoilt:
                found = found.with_more(one)
        return found

    async def whole_state(
        self, server: str, version: RoomVersion, room_id: str, event_id: str, known: Collection[str] = ()
    ) -> Delivered:
        """The state before an event and its auth chain, in one answer; nothing if it can't be had. What is `known`
        (a set of ids) is left out.
        """
        try:
            told = await self.peers.state(server, room_id, event_id)
        except PeerError as error:
            log.info("no state", peer=server, room=room_id, event_id=event_id, why=str(error))
            return Delivered()
        return await self.sift(version, room_id, [*told.auth_chain, *told.state], known)

    async def sift(
        self, version: RoomVersion, room_id: str, raws: Sequence[bytes], known: Collection[str] = ()
    ) -> Delivered:
        """What of the events that a peer gave is good, and what is not, by id; without what is `known`.

        An event's id covers its content, so what has the id of a known event need not be looked at again.
        """
        parts = (raws[start : start + AT_ONCE] for start in range(0, len(raws), AT_ONCE))
        done = await gather(self._sift(version, room_id, part, known) for part in parts)
        good = {event_id: event for part in done for event_id, event in part.events.items()}
        return Delivered(good, frozenset(event_id for part in done for event_id in part.spoilt if event_id not in good))

    async def _sift(
        self, version: RoomVersion, room_id: str, raws: Sequence[bytes], known: Collection[str]
    ) -> Delivered:
        fresh = {
            event.event_id: event
            for event in _parse(version, raws)
            if isinstance(event, Event) and event.event_id not in known and event.room_id == room_id
        }
        checked = await self._verify(version, list(fresh.values()))
        good = {event.event_id: event for event in checked if isinstance(event, Event)}
        return Delivered(good, frozenset(fresh.keys() - good.keys()))

    async def _verify(self, version: RoomVersion, events: Sequence[Event]) -> list[Event | str]:
        faults = await self.verifier.verify(version, events)
        return [
            fault or (event if content_hash_matches(event) else redact_event(version, event))
            for event, fault in zip(events, faults, strict=True)
        ]


def _parse(version: RoomVersion, raws: Sequence[bytes]) -> list[Event | str]:
    parsed: list[Event | str] = []
    for raw in raws:
        try:
            parsed.append(parse_pdu(version, raw))
        except BadEvent as error:
            parsed.append(f"not an event: {error}")
    return parsed
