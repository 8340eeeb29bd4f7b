"""Judging by a state that lacks members: what an event says of its sender is believed as far as it goes.

In a partial room the state before an event is known but for other servers' people. An event names the member events
that it rests on; these have been judged by what *they* cite, as every event is. So

    not known here        what the event cites is taken for it, and learnt: whoever speaks has a name then
    known, and the same   nothing to do
    known, and another    both are put to state resolution, as two forks of the room would be

Whoever left before we came can deceive us this way, until the room is whole: then everything that came meanwhile is
judged again (`homeserver.rooms.partial`), and this memory of it is gone.

Spec: https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu (step 5)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from federation.room.auth import auth_types_of
from federation.room.event import Event, StateKey
from federation.room.identifiers import server_of
from federation.service import service
from homeserver.rooms.live import LiveRoom, State
from homeserver.rooms.receive.states import RoomStates, StateAt, ref_of, resolve_in
from storage.database import Database
from storage.ports import Cursor, NewSnapshot, StateChange, StateRef, StoredEvent

MEMBER = "m.room.member"


@service
class VagueStates:
    """Makes the best of them."""

    server_name: str
    states: RoomStates
    database: Database

    def learn(
        self, room: LiveRoom, event: Event, at: StateAt, cited: Mapping[str, StoredEvent]
    ) -> tuple[StateAt, NewSnapshot | None]:
        """The state before the event with those members that only the event tells of."""
        found = [
            StateChange(key, ref, None)
            for key, ref in _members(room, event, cited)
            if key not in at.state and self._may_learn(room, key[1], ref)
        ]
        if not found:
            return at, None
        return self.states.follow(at, sorted(found, key=lambda change: change.key))

    async def to_judge_by(self, room: LiveRoom, event: Event, at: StateAt, cited: Mapping[str, StoredEvent]) -> State:
        """The state by which the event is judged: where what it cites differs from what is known, that is decided."""
        told: dict[StateKey, StateRef] = {}
        for key, ref in _members(room, event, cited):
            known = at.state.get(key)
            if known is None or (known.nid != ref.nid and not self._is_ours(key[1])):
                told[key] = ref
        disputed = sorted(key for key in told if key in at.state)
        claimed = at.state.update(told)
        if not disputed:
            return claimed
        if room.queued:
            await self.database.write(_nothing)
        answer = await self.database.run(resolve_in, room.version, [at.state, claimed], disputed)
        return claimed.update(answer)

    def _may_learn(self, room: LiveRoom, user_id: str, ref: StateRef) -> bool:
        """Of our own people we know who is in the room; and nobody is believed to be in it whose server is not."""
        if ref.membership != "join":
            return True
        return not self._is_ours(user_id) and str(server_of(user_id)) in room.servers

    def _is_ours(self, user_id: str) -> bool:
        return user_id.partition(":")[2] == self.server_name


def _members(room: LiveRoom, event: Event, cited: Mapping[str, StoredEvent]) -> Iterator[tuple[StateKey, StateRef]]:
    """The member events among those that an event cites, as far as they have a say about it."""
    wanted = {key for key in auth_types_of(room.version, event) if key[0] == MEMBER}
    for event_id in event.auth_events:
        stored = cited[event_id]
        key = (stored.event.type, stored.event.state_key or "")
        if key in wanted and not stored.rejected:
            yield key, ref_of(stored)


def _nothing(cursor: Cursor) -> None:
    """A write that writes nothing: done when everything queued before it is."""
