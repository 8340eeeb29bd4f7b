"""Redactions that peers send: applied where they may be, also if what they redact comes after them.

Spec: https://spec.matrix.org/v1.19/rooms/v11/#handling-redactions
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import msgspec
from attrs import define

from federation.room.auth import PowerLevels
from federation.room.event import Event
from federation.room.identifiers import server_of
from federation.room.redaction import redact_event
from homeserver.rooms.awaited import AwaitedRedactions
from homeserver.rooms.events import EventCache
from homeserver.rooms.live import CREATE, POWER_LEVELS, LiveRoom
from homeserver.rooms.receive.known import KnownEvents
from homeserver.rooms.receive.states import RoomStates, StateAt
from storage import events as event_rows
from storage import redactions as rows
from storage.database import Database
from storage.ports import Cursor, StoredEvent


class Effect(msgspec.Struct):
    """What an event's acceptance does to another, or another's to it."""

    target: StoredEvent | None = None
    """What it redacts, where that is here and it may."""
    awaited: str | None = None
    """What it would redact, where that is not here."""
    by: StoredEvent | None = None
    """What redacts it, which came before it."""
    is_vain: bool = False
    """It would redact what it may not, or what is not here: people hear nothing of it, at least not yet."""

    def apply(self, room: LiveRoom, stored: StoredEvent) -> tuple[list[Callable[[Cursor], None]], list[StoredEvent]]:
        """Given the event as it will be stored, which may be changed here: what to write with it, and new forms of
        others to show.
        """
        also: list[Callable[[Cursor], None]] = []
        shown: list[StoredEvent] = []
        stored.unapplied = self.is_vain
        if self.by is not None:
            stored.event = redact_event(room.version, stored.event)
            stored.redacted_by, stored.redacted_because = self.by.nid, self.by
            also.append(partial(rows.drop_pending, room_nid=room.nid, event_id=stored.event.event_id))
            if self.by.unapplied:
                found = msgspec.structs.replace(self.by, unapplied=False)
                stored.redacted_because = found
                also.append(partial(event_rows.show_redaction, nid=found.nid))
                shown.append(found)
        if self.target is not None:
            pruned = msgspec.structs.replace(
                self.target,
                event=redact_event(room.version, self.target.event),
                redacted_by=stored.nid,
                redacted_because=stored,
            )
            also.append(
                partial(event_rows.apply_redaction, target_nid=pruned.nid, raw=pruned.event.raw, redacted_by=stored.nid)
            )
            shown.append(pruned)
        if self.awaited is not None:
            also.append(partial(rows.add_pending, room_nid=room.nid, event_id=self.awaited, redaction_nid=stored.nid))
        return also, shown


NONE = Effect()


@define(eq=False)
class Redactions:
    """Finds out what redacts what."""

    database: Database
    events: EventCache
    known: KnownEvents
    states: RoomStates
    awaited: AwaitedRedactions

    async def effect_of(self, room: LiveRoom, event: Event, before: StateAt) -> Effect:
        """What comes of an event that is accepted; `before` is the state before it.

        What was taken out of an event does not come back. Where it is not certain who is in the room, people redact
        what is their own server's; the rest is done once the room is whole, when the redaction is judged again.
        """
        effect = Effect()
        if event.redacts is not None and event.redacts != event.event_id:
            target = (await self.known.find(room, [event.redacts])).get(event.redacts)
            if target is None:
                effect.awaited = event.redacts
                effect.is_vain = True
                self.awaited.add(room.nid)
            elif not await self._may(room, event, before, target):
                effect.is_vain = True
            elif not target.redacted_by and (target.event.type, target.event.state_key) != CREATE:
                effect.target = target
        if await self.awaited.waits_in(room.nid):
            effect.by = await self._redaction_of(room, event)
        return effect

    async def _redaction_of(self, room: LiveRoom, event: Event) -> StoredEvent | None:
        """The first redaction that waits for the event and may redact it."""
        nids = await self.database.run(rows.pending_for, room.nid, event.event_id)
        found = await self.events.get_many(nids)
        for nid in nids:
            redaction = found.get(nid)
            if redaction is None or redaction.rejected or redaction.soft_failed:
                continue
            before = await self.states.before(room, redaction)
            target = StoredEvent(0, 0, room.nid, event, 0, 0)
            if await self._may(room, redaction.event, before, target):
                return redaction
        return None

    async def _may(self, room: LiveRoom, redaction: Event, before: StateAt, target: StoredEvent) -> bool:
        """Whether a redaction holds: for the target's own server, and for whom the room gives the power."""
        if target.room_nid != room.nid or target.rejected:
            return False
        if server_of(redaction.sender) == server_of(target.event.sender):
            return True
        if before.is_partial:
            return False
        if room.version.redaction_auth:
            return True
        ref = before.state.get(POWER_LEVELS)
        stored = None if ref is None else await self.events.get(ref.nid)
        levels = PowerLevels.parse(room.version, room.create, None if stored is None else stored.event)
        return levels.user(redaction.sender) >= levels.redact
