"""Which servers hear of which event: every event of this server's people goes to every other server in the room.

How it gets there is the business of an `Outbox`: it queues, tries again, and makes up for what was missed.

Spec: https://spec.matrix.org/v1.19/server-server-api/#transactions
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from attrs import field, frozen

from federation.room.event import Event
from federation.room.identifiers import server_of
from homeserver.rooms.accept import Accepted
from storage.ports import NewEvent


class Outbox(Protocol):
    """Takes events to other servers, some time. Must not wait and must not raise."""

    def send_pdu(self, event: Event, destinations: Collection[str], position: int) -> None: ...


@frozen
class Delivery:
    """Observes the door."""

    server_name: str
    outbox: Outbox
    _handed_in: dict[str, str] = field(factory=dict)
    """Member events of others that came in by a handshake with us, and by whom: we tell the rest of the room."""
    _told: set[str] = field(factory=set)
    """Member events of ours that another server took in by a handshake: it tells the room."""

    def hand_in(self, event_id: str, origin: str) -> None:
        """An event is about to be accepted whose maker relies on this server to spread it."""
        self._handed_in[event_id] = origin

    def hand_over(self, event_id: str) -> None:
        """An event is about to be accepted that another server has in the room already, and spreads."""
        self._told.add(event_id)

    def is_handed_in(self, event_id: str) -> bool:
        """Whether this server is just letting somebody in by it, or out."""
        return event_id in self._handed_in

    def settle(self, event_id: str) -> None:
        """It was accepted, or refused."""
        self._handed_in.pop(event_id, None)
        self._told.discard(event_id)

    def accepted(self, accepted: Accepted) -> None:
        for new in accepted.events:
            stored = new.stored
            event = stored.event
            if stored.position <= 0 or stored.rejected or stored.soft_failed or event.event_id in self._told:
                continue
            origin = self._handed_in.get(event.event_id)
            if origin is None and server_of(event.sender) != self.server_name:
                continue
            destinations = set(accepted.room.servers) | _concerned(new)
            destinations -= {self.server_name, origin}
            if destinations:
                self.outbox.send_pdu(event, sorted(destinations), stored.position)


def _concerned(new: NewEvent) -> set[str]:
    """Servers that are not in the room any more, or not yet, and whom the event is about: a kick is told to the server
    of who is kicked, and so is the end of an invitation or a knock.
    """
    servers = set()
    for change in new.changes:
        old = None if change.old is None else change.old.membership
        if change.key[0] == "m.room.member" and old in ("join", "invite", "knock"):
            servers.add(str(server_of(change.key[1])))
    return servers
