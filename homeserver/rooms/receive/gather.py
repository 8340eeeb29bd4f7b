"""Asking peers for what an event rests on: the events before it, the state before those, and what they cite.

A peer may lie, stall, or send a flood, so every question has limits: in number here, in bytes and time in the
transport. What comes back goes through the same checks as what was sent unasked.

Spec: https://spec.matrix.org/v1.19/server-server-api/#backfilling-and-retrieving-missing-events
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import structlog
from attrs import define, frozen

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

log = structlog.get_logger("homeserver.rooms.receive")


@define
class Budget:
    """What one incoming event may cost in questions."""

    states: int = MAX_STATES
    events: int = MAX_FETCHED


@frozen
class Gatherer:
    """Asks, checks format, signatures and hashes, and gives events or nothing."""

    peers: Peers
    verifier: Verifier

    async def check(self, version: RoomVersion, raws: Sequence[bytes]) -> list[Event | str]:
        """Steps 1 to 3 for each: the event (redacted where its content hash does not match), or why it is dropped."""
        parsed: list[Event | str] = []
        for raw in raws:
            try:
                parsed.append(parse_pdu(version, raw))
            except BadEvent as error:
                parsed.append(f"not an event: {error}")
        events = [event for event in parsed if isinstance(event, Event)]
        faults = iter(await self.verifier.verify(version, events))
        checked: list[Event | str] = []
        for event in parsed:
            if isinstance(event, str):
                checked.append(event)
                continue
            fault = next(faults)
            if fault is not None:
                checked.append(fault)
            else:
                checked.append(event if content_hash_matches(event) else redact_event(version, event))
        return checked

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
        return await self._good(version, room_id, raws[:MAX_MISSING])

    async def state_ids(self, server: str, room_id: str, event_id: str) -> StateIds | None:
        try:
            return await self.peers.state_ids(server, room_id, event_id)
        except PeerError as error:
            log.info("no state", peer=server, room=room_id, event_id=event_id, why=str(error))
            return None

    async def fetch(
        self, server: str, version: RoomVersion, room_id: str, event_ids: Collection[str], budget: Budget
    ) -> dict[str, Event]:
        """Single events by id. Those that can't be had, or that are not what was asked for, are left out."""
        found: dict[str, Event] = {}
        for event_id in sorted(event_ids):
            if budget.events <= 0:
                break
            budget.events -= 1
            try:
                raw = await self.peers.event(server, event_id)
            except PeerError as error:
                log.info("no such event", peer=server, event_id=event_id, why=str(error))
                continue
            for event in await self._good(version, room_id, [raw]):
                if event.event_id == event_id:
                    found[event_id] = event
        return found

    async def whole_state(self, server: str, version: RoomVersion, room_id: str, event_id: str) -> dict[str, Event]:
        """The state before an event and its auth chain, in one answer; empty if it can't be had."""
        try:
            told = await self.peers.state(server, room_id, event_id)
        except PeerError as error:
            log.info("no state", peer=server, room=room_id, event_id=event_id, why=str(error))
            return {}
        good = await self._good(version, room_id, [*told.auth_chain, *told.state])
        return {found.event_id: found for found in good}

    async def _good(self, version: RoomVersion, room_id: str, raws: Sequence[bytes]) -> list[Event]:
        checked = await self.check(version, raws)
        return [event for event in checked if isinstance(event, Event) and event.room_id == room_id]
