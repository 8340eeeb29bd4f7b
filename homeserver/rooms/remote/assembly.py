"""Puts together the rooms' side of federation: who is asked what, and what is answered.

rooms = build_remote_rooms(door, ..., client=federation.client, verifier=federation.keyring, outbox=sender)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import msgspec

from federation.outbound.client import FederationClient
from federation.room.signing import SigningKey
from federation.threads import Workers
from homeserver.rooms.accept import Door
from homeserver.rooms.events import EventCache
from homeserver.rooms.glimpse import Glimpses
from homeserver.rooms.partial.completion import Completion
from homeserver.rooms.partial.resync import Resync, Spawn
from homeserver.rooms.policy.build import PolicyParts, build_policy
from homeserver.rooms.policy.entry import PolicyEntry
from homeserver.rooms.receive.enter import Entrance
from homeserver.rooms.receive.gather import Gatherer
from homeserver.rooms.receive.judge import Judge
from homeserver.rooms.receive.known import KnownEvents
from homeserver.rooms.receive.ports import Verifier
from homeserver.rooms.receive.questions import Questions
from homeserver.rooms.receive.receiver import Receiver
from homeserver.rooms.receive.states import RoomStates
from homeserver.rooms.registry import Rooms
from homeserver.rooms.remote.backfill import Backfill
from homeserver.rooms.remote.crossings import Crossings
from homeserver.rooms.remote.delivery import Delivery, Outbox
from homeserver.rooms.remote.doorway import Doorway
from homeserver.rooms.remote.elsewhere import RemoteElsewhere
from homeserver.rooms.remote.invitations import Invitations
from homeserver.rooms.remote.outside import OutsideRooms
from homeserver.rooms.remote.peers import RemotePeers
from homeserver.rooms.remote.placing import Placer
from homeserver.rooms.serve.access import PeerAccess
from homeserver.rooms.serve.edus import Edus
from homeserver.rooms.serve.graph import Graph
from homeserver.rooms.serve.handshake import Handshake
from homeserver.rooms.serve.inbox import Inbox
from homeserver.rooms.serve.later import Later
from homeserver.rooms.serve.view import PeerView
from homeserver.rooms.vouching import Vouching
from homeserver.streams.hub import Hub
from homeserver.tasks import Tasks
from homeserver.userdata.invite_filter import Invitees
from storage.database import Database


class RemoteRooms(msgspec.Struct, frozen=True, eq=False):
    """Made by `build_remote_rooms`."""

    elsewhere: RemoteElsewhere
    receiver: Receiver
    access: PeerAccess
    edus: Edus
    graph: Graph
    handshake: Handshake
    invitations: Invitations
    inbox: Inbox
    backfill: Backfill
    policy: PolicyParts
    resync: Resync
    later: Later
    outside: OutsideRooms

    def collaborators(self) -> Mapping[type[Any], object]:
        """What handlers of `homeserver.federation_api` take, by type."""
        friends: list[object] = [
            self.graph, self.handshake, self.invitations, self.inbox, self.receiver, self.policy.desk, self.resync,
            self.later,
        ]  # fmt: skip
        return {type(friend): friend for friend in friends}


def build_remote_rooms(
    door: Door,
    database: Database,
    rooms: Rooms,
    events: EventCache,
    vouching: Vouching,
    *,
    hub: Hub,
    client: FederationClient,
    verifier: Verifier,
    workers: Workers,
    outbox: Outbox,
    invitees: Invitees,
    tasks: Tasks,
    charge_join: Callable[[str], None],
    spawn: Spawn,
    random: Random,
    policy_key: SigningKey | None = None,
) -> RemoteRooms:
    """Put everything together, and have the door's events delivered.

    `charge_join`: see `RemoteElsewhere`. `policy_key`: see `homeserver.rooms.policy`.
    """
    server_name = door.identity.server_name
    peers = RemotePeers(client)
    gatherer = Gatherer(Questions(peers, door.clock), verifier, workers)
    judge = Judge(events)
    known = KnownEvents(database, events)
    states = RoomStates(database, door.means)
    access = PeerAccess(rooms, events)
    policy = build_policy(door, client, access, gatherer, judge, known, policy_key)
    receiver = Receiver(door, rooms, states, known, judge, gatherer, policy.guard)
    door.side_entry = PolicyEntry(policy.guard, receiver)
    delivery = Delivery(server_name, outbox)
    view = PeerView(database)
    door.observers += [delivery, Crossings(delivery, known, view, spawn)]
    glimpses = Glimpses(events)
    outside = OutsideRooms(door, database, rooms, gatherer)
    entrance = Entrance(door, rooms, judge, database)
    completion = Completion(door, rooms, receiver)
    resync = Resync(server_name, rooms, receiver, completion, database, door.clock, spawn, random)
    doorway = Doorway(door.means, rooms, peers, gatherer, entrance, receiver, delivery, outside, resync)
    invitations = Invitations(door, rooms, access, glimpses, peers, gatherer, receiver, outside, invitees)
    edus = Edus()
    later = Later(rooms, receiver, database, tasks, door.clock)
    return RemoteRooms(
        elsewhere=RemoteElsewhere(doorway, invitations, outside, database, charge_join),
        receiver=receiver,
        access=access,
        edus=edus,
        graph=Graph(server_name, database, events, access, view, door.clock),
        handshake=Handshake(
            door.identity,
            door.clock,
            database,
            events,
            glimpses,
            access,
            vouching,
            known,
            gatherer,
            receiver,
            delivery,
        ),
        invitations=invitations,
        inbox=Inbox(
            rooms,
            access,
            receiver,
            outside,
            edus,
            door.clock.timers,
            tasks,
            later,
        ),
        backfill=Backfill(server_name, peers, Placer(receiver, database, hub), database, door.clock),
        policy=policy,
        resync=resync,
        later=later,
        outside=outside,
    )
