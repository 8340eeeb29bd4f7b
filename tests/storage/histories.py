"""Rooms for storage tests: real events of a made-up server, appended the way the room engine does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from federation.room.build import build_event
from federation.room.event import Event, StateKey
from federation.room.signing import SigningKey
from federation.room.versions import ROOM_VERSIONS
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

SERVER = "test.example"
KEY = SigningKey.generate("1")
VERSION = ROOM_VERSIONS["11"]


class Room:
    """A room's head and state as its writer sees them; makes appends and moves on."""

    def __init__(self, counters: Counters, name: str = "room", creator: str = "@alice:test.example") -> None:
        self.counters = counters
        self.nid = counters.room
        counters.room += 1
        self.room_id = f"!{name}{self.nid}:{SERVER}"
        self.creator = creator
        self.head = RoomHead((), 0, 0)
        self.state: dict[StateKey, StateRef] = {}
        self.new = True

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
            content=content,
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
        counters = self.counters
        new: list[NewEvent] = []
        snapshots: list[NewSnapshot] = []
        for event in events:
            nid, position = counters.event, counters.position
            counters.event += 1
            counters.position += 1
            before = after = self.head.snapshot
            changes: tuple[StateChange, ...] = ()
            if event.state_key is not None:
                after = counters.snapshot
                counters.snapshot += 1
                key = (event.type, event.state_key)
                ref = StateRef(nid, event.event_id, event.content.get("membership"))
                changes = (StateChange(key, ref, self.state.get(key)),)
                self.state[key] = ref
                snapshots.append(NewSnapshot(after, before, ((key, nid),)))
            stored = StoredEvent(nid, position, self.nid, event, before, after, received_ts=event.origin_server_ts)
            if transaction is not None:
                stored.device_id, stored.txn_id = transaction.device_id, transaction.txn_id
            new.append(NewEvent(stored, changes))
            self.head = RoomHead((event.event_id,), event.depth, after)
        new_room = None
        if self.new:
            new_room = NewRoom(self.nid, self.room_id, VERSION.identifier, self.creator)
            self.new = False
        return EventAppend(
            self.nid, new, self.head, snapshots=snapshots, new_room=new_room, transaction=transaction, **more
        )

    def send(self, text: str, **more: Any) -> EventAppend:
        return self.accept(self.event("m.room.message", {"msgtype": "m.text", "body": text}), **more)

    def set(self, type: str, state_key: str, content: Mapping[str, Any], sender: str | None = None) -> EventAppend:
        return self.accept(self.event(type, content, sender=sender, state_key=state_key))

    def join(self, user_id: str) -> EventAppend:
        return self.set("m.room.member", user_id, {"membership": "join"}, sender=user_id)

    def create(self) -> list[EventAppend]:
        """The appends of a new public room."""
        return [
            self.set("m.room.create", "", {"room_version": VERSION.identifier}),
            self.join(self.creator),
            self.set("m.room.power_levels", "", {"users": {self.creator: 100}}),
            self.set("m.room.join_rules", "", {"join_rule": "public"}),
        ]
