"""Telling servers what they can't have heard of, as it crossed something of theirs on the way.

    comes in      A server joins beside events that its join does not follow: they are neither in the state that it is
                  handed nor sent to it. Who let it in tells it of all of them, everybody else of their own people's.
    is put out    By state resolution: it was in the room on one side of a fork and is not by what became of the forks.
                  Whoever finds that out tells it of the other side, and lets it ask about that (`storage.overruled`).
    speaks on     What its people say comes too late, as they are not in the room any more: it is told by what.

Spec: https://spec.matrix.org/v1.19/server-server-api/#room-state-resolution
and https://spec.matrix.org/v1.19/server-server-api/#soft-failure
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from attrs import field
from twisted.internet.defer import Deferred

from federation.bounded import Bounded
from federation.room.event import Event, StateKey
from federation.room.identifiers import server_of
from federation.service import service
from homeserver.rooms.accept import Accepted
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.receive.known import KnownEvents
from homeserver.rooms.remote.delivery import Delivery
from homeserver.rooms.serve.access import Blurred
from homeserver.rooms.serve.view import PeerView
from storage.ports import NewEvent, StoredEvent

JOIN_RULES: StateKey = ("m.room.join_rules", "")
MEMBER = "m.room.member"
MOST_STEPS = 10
"""Member events of somebody, one resting on the other, among which it is looked for what ended their stay."""
REMEMBERED = 10_000
"""Events that servers were told of because theirs came too late: each once, as long as it is remembered."""

Spawn = Callable[[str, Coroutine[Deferred[Any], Any, None]], None]


@service
class Crossings:
    """Observes the door, after `Delivery`."""

    delivery: Delivery
    known: KnownEvents
    view: PeerView
    spawn: Spawn
    _reminded: Bounded[tuple[str, str], bool] = field(factory=lambda: Bounded(REMEMBERED))

    def accepted(self, accepted: Accepted) -> None:
        room, own = accepted.room, self.delivery.server_name
        ends = () if accepted.standing is None else accepted.standing.head.extremities
        for new in accepted.events:
            event, server = new.stored.event, str(server_of(new.stored.event.sender))
            if new.stored.position <= 0 or new.stored.rejected or server == own:
                continue
            if new.stored.soft_failed:
                if server not in room.servers:
                    self.spawn("tell who speaks on", self._remind(room, server, event, accepted.position))
            elif len(ends) > 1 and _comes_in(room, server, new):
                is_let_in = self.delivery.is_handed_in(event.event_id)
                self.spawn("tell who comes in", self._greet(room, server, ends, is_let_in, accepted.position))
        for server in sorted(accepted.put_out):
            self.spawn("tell who is put out", self._explain(room, server, ends, accepted.position))

    async def _greet(self, room: LiveRoom, server: str, ends: Sequence[str], is_let_in: bool, position: int) -> None:
        """Who comes in gets state as it is, and of the rest what it may see: the graph it can ask for."""
        for stored in await self._ends(room, server, ends):
            is_ours = server_of(stored.event.sender) == self.delivery.server_name
            if (is_let_in or is_ours) and (
                stored.event.state_key is not None or await self._shown(server, room, stored) is stored.event
            ):
                self._send(stored.event, server, stored.position or position)

    async def _explain(self, room: LiveRoom, server: str, ends: Sequence[str], position: int) -> None:
        for stored in await self._ends(room, server, ends):
            shown = await self._shown(server, room, stored)
            if shown is not None:
                self._send(shown, server, stored.position or position)

    async def _remind(self, room: LiveRoom, server: str, event: Event, position: int) -> None:
        """Of what put the sender out, and of who may come in where that is what the event is about."""
        wanted = [await self._end_of_stay(room, event.sender)]
        if event.type == "m.room.member" and (rules := room.visible.state.get(JOIN_RULES)) is not None:
            wanted += await self._ends(room, server, [rules.event_id])
        for stored in wanted:
            if stored is None or stored.event.event_id in event.auth_events:
                continue
            key = (server, stored.event.event_id)
            if self._reminded.get(key) is None:
                self._reminded.put(key, True)
                self._send(stored.event, server, stored.position or position)

    async def _end_of_stay(self, room: LiveRoom, user_id: str) -> StoredEvent | None:
        """The first event by somebody else that made a user be no member; what came after that is not for their server
        to know.
        """
        ref = room.visible.state.get(("m.room.member", user_id))
        newest = [] if ref is None else [ref.event_id]
        found: StoredEvent | None = None
        for _ in range(MOST_STEPS):
            cited = (await self.known.find(room, newest)).values()
            member = next((one for one in cited if (one.event.type, one.event.state_key) == (MEMBER, user_id)), None)
            if member is None or member.event.content.get("membership") == "join":
                break
            if server_of(member.event.sender) != server_of(user_id):
                found = member
            newest = list(member.event.auth_events)
        return found

    # ----------------------------------------------------------------------------------------------------------

    async def _ends(self, room: LiveRoom, server: str, event_ids: Sequence[str]) -> list[StoredEvent]:
        """Events that others made."""
        found = await self.known.find(room, event_ids)
        return [stored for stored in found.values() if server_of(stored.event.sender) != server]

    async def _shown(self, server: str, room: LiveRoom, stored: StoredEvent) -> Event | None:
        """An event as a server may have it; None where this server can't tell."""
        try:
            return (await self.view.of(server, room, [stored]))[0]
        except Blurred:
            return None

    def _send(self, event: Event, server: str, position: int) -> None:
        """`position`: the event's own, so that it is found again where the server can't be reached for long."""
        self.delivery.outbox.send_pdu(event, [server], position)


def _comes_in(room: LiveRoom, server: str, new: NewEvent) -> bool:
    """Whether by this event a server has its first person in the room."""
    for change in new.changes:
        is_member = change.key[0] == MEMBER and server_of(change.key[1]) == server
        was_in = change.old is not None and change.old.membership == "join"
        if is_member and not was_in and change.new is not None and change.new.membership == "join":
            return room.servers[server] == 1
    return False
