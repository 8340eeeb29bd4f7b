"""Rooms for storage tests: real events of a made-up server, appended the way the room engine does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from federation.room.build import build_event
from federation.room.event import Event, StateKey
from federation.room.signing import SigningKey
from federation.room.versions import ROOM_VERSIONS
from storage.database import Database
from storage.ports import (
    Counters,
    EventAppend,
    NewEvent,
    NewRoom,
    NewSnapshot,
    RoomHead,
    StateChange,
    StateRef,
    StoredEvent,
    Transaction,
)
from tests.fixtures_db import Pump

SERVER = "test.example"
KEY = SigningKey.generate("1")
VERSION = ROOM_VERSIONS["11"]
ALICE = f"@alice:{SERVER}"
BOB = f"@bob:{SERVER}"


class Room:
    """A room's head and state as its writer sees them; makes appends and moves on."""

    def __init__(self, counters: Counters, name: str = "room", creator: str = ALICE) -> None:
        self.counters = counters
        self.nid = counters.room
        counters.room += 1
        self.room_id = f"!{name}{self.nid}:{SERVER}"
        self.creator = creator
        self.head = RoomHead((), 0, 0)
        self.state: dict[StateKey, StateRef] = {}
        self.new_room: NewRoom | None = NewRoom(self.nid, self.room_id, VERSION.identifier, creator)

    def event(
        self,
        type: str,
        content: Mapping[str, Any],
        *,
        sender: str | None = None,
        state_key: str | None = None,
        auth_events: Sequence[str] | None = None,
        prev_events: Sequence[str] | None = None,
        ts: int = 1_700_000_000_000,
    ) -> Event:
        if auth_events is None:
            wanted: list[StateKey] = [
                ("m.room.create", ""),
                ("m.room.power_levels", ""),
                ("m.room.join_rules", ""),
                ("m.room.member", sender or self.creator),
            ]
            auth_events = [self.state[key].event_id for key in wanted if key in self.state]
        return build_event(
            VERSION,
            room_id=self.room_id,
            type=type,
            sender=sender or self.creator,
            content=dict(content),
            state_key=state_key,
            prev_events=self.head.extremities if prev_events is None else prev_events,
            auth_events=auth_events,
            depth=self.head.depth + 1,
            origin_server_ts=ts,
            server_name=SERVER,
            key=KEY,
        )

    def accept(self, *events: Event, transaction: Transaction | None = None, **more: Any) -> EventAppend:
        """An append of events that follow each other and are all allowed."""
        new: list[NewEvent] = []
        snapshots: list[NewSnapshot] = []
        for event in events:
            stored = self.store(event)
            changes: tuple[StateChange, ...] = ()
            if event.state_key is not None:
                stored.after = self.counters.snapshot
                self.counters.snapshot += 1
                key = (event.type, event.state_key)
                ref = StateRef(stored.nid, event.event_id, event.content.get("membership"))
                changes = (StateChange(key, ref, self.state.get(key)),)
                self.state[key] = ref
                snapshots.append(NewSnapshot(stored.after, stored.before, ((key, stored.nid),)))
            if transaction is not None:
                stored.device_id, stored.txn_id = transaction.device_id, transaction.txn_id
            new.append(NewEvent(stored, changes))
            self.head = RoomHead((event.event_id,), event.depth, stored.after)
        return EventAppend(
            self.nid,
            new,
            self.head,
            snapshots=snapshots,
            new_room=self.take_new_room(),
            transaction=transaction,
            **more,
        )

    def store(self, event: Event, **fields: Any) -> StoredEvent:
        """The event with a nid and the next position, in the room's state as it is."""
        nid, position = self.counters.event, self.counters.position
        self.counters.event += 1
        self.counters.position += 1
        snapshot = self.head.snapshot
        given: dict[str, Any] = {
            "position": position,
            "before": snapshot,
            "after": snapshot,
            "received_ts": event.origin_server_ts,
        }
        return StoredEvent(nid, room_nid=self.nid, event=event, **(given | fields))

    def take_new_room(self) -> NewRoom | None:
        new_room, self.new_room = self.new_room, None
        return new_room

    def send(self, text: str = "hello", *, sender: str | None = None, **more: Any) -> EventAppend:
        return self.accept(self.event("m.room.message", {"msgtype": "m.text", "body": text}, sender=sender), **more)

    def set(self, type: str, state_key: str, content: Mapping[str, Any], sender: str | None = None) -> EventAppend:
        return self.accept(self.event(type, content, sender=sender, state_key=state_key))

    def member(self, user_id: str, membership: str, **content: Any) -> EventAppend:
        return self.set("m.room.member", user_id, {"membership": membership, **content}, sender=user_id)

    def create(self) -> list[EventAppend]:
        """The appends of a new public room."""
        return [
            self.set("m.room.create", "", {"room_version": VERSION.identifier}),
            self.member(self.creator, "join"),
            self.set("m.room.power_levels", "", {"users": {self.creator: 100}}),
            self.set("m.room.join_rules", "", {"join_rule": "public"}),
        ]


def append_all(pump: Pump, database: Database, *appends: EventAppend) -> None:
    """Append in one go, which is one batch or two."""
    waiting = [database.append(append) for append in appends]
    for answer in waiting:
        pump.wait(answer)
