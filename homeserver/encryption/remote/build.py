"""Puts together what encryption has to do with other servers.

remote = build_remote(settings, devices, ...)
federation.gate.observers.append(remote.resyncs.heard_of)
"""

from __future__ import annotations

import msgspec
from twisted.internet.interfaces import IReactorTime

from federation.outbound.client import FederationClient
from federation.outbound.keys import KeyRequests
from federation.outbound.patience import Patience
from homeserver.encryption.lists import DeviceLists
from homeserver.encryption.remote.asking import AskedKeys
from homeserver.encryption.remote.known import KnownLists
from homeserver.encryption.remote.resync import Resyncs
from homeserver.rooms.registry import Rooms
from homeserver.streams.hub import Hub
from homeserver.tasks import Tasks
from storage.database import Database


class RemoteEncryption(msgspec.Struct, frozen=True, eq=False):
    """Made by `build_remote`."""

    known: KnownLists
    resyncs: Resyncs
    asked: AskedKeys


def build_remote(
    lists: DeviceLists,
    *,
    client: FederationClient,
    patience: Patience,
    database: Database,
    rooms: Rooms,
    hub: Hub,
    tasks: Tasks,
    timers: IReactorTime,
) -> RemoteEncryption:
    requests = KeyRequests(client, patience)
    known = KnownLists(database, rooms)
    resyncs = Resyncs(database, lists, requests, timers, tasks.spawn, hub)
    return RemoteEncryption(known, resyncs, AskedKeys(database, requests, known, resyncs, timers))
