"""Puts encryption together, in two steps, since accounts stand on the first.

devices = build_devices(settings, database, hub)
accounts = build_accounts(..., book=devices.lists)
encryption = build_encryption(settings, devices, ...)
encryption.listen(edus)         where there are other servers
await encryption.start()
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from config import Settings
from federation.outbound.client import FederationClient
from federation.outbound.patience import Patience
from federation.service import service
from homeserver.clock import Clock
from homeserver.encryption.backups import KeyBackups
from homeserver.encryption.claims import KeyClaims
from homeserver.encryption.dehydrated import DehydratedDevices
from homeserver.encryption.letters import Letterbox
from homeserver.encryption.lists import DeviceLists
from homeserver.encryption.log import ChangeLog
from homeserver.encryption.news import DeviceNews
from homeserver.encryption.queries import Elsewhere, KeyQueries, NobodyElsewhere
from homeserver.encryption.remote.build import RemoteEncryption, build_remote
from homeserver.encryption.remote.inbound import DeviceUpdatesThere, LettersThere, SigningKeysThere
from homeserver.encryption.remote.served import ServedKeys
from homeserver.encryption.sections import EncryptionSections
from homeserver.encryption.signing import CrossSigning, NoRemoteKeys, RemoteKeys
from homeserver.encryption.states import DeviceStates
from homeserver.encryption.uploads import KeyUploads
from homeserver.encryption.whereabouts import Whereabouts
from homeserver.rooms.accept import Door
from homeserver.rooms.registry import Rooms
from homeserver.rooms.serve.edus import Edus
from homeserver.rooms.transactions import TransactionLog
from homeserver.streams.hub import Hub
from homeserver.tasks import Tasks
from storage.database import Database


class DeviceParts(msgspec.Struct, frozen=True, eq=False):
    """What knows of everybody's devices."""

    states: DeviceStates
    log: ChangeLog
    lists: DeviceLists


@service
class Encryption:
    """Made by `build_encryption`."""

    devices: DeviceParts
    sections: EncryptionSections
    letterbox: Letterbox
    news: DeviceNews
    uploads: KeyUploads
    claims: KeyClaims
    queries: KeyQueries
    signing: CrossSigning
    backups: KeyBackups
    dehydrated: DehydratedDevices
    served: ServedKeys
    remote: RemoteEncryption | None
    """None for a server that keeps to itself."""

    def listen(self, edus: Edus) -> None:
        """Take what other servers say of devices and keys, and the letters that they bring."""
        if self.remote is not None:
            known, resyncs, lists = self.remote.known, self.remote.resyncs, self.devices.lists
            edus.handlers["m.device_list_update"] = DeviceUpdatesThere(known, lists, resyncs)
            edus.handlers["m.signing_key_update"] = SigningKeysThere(known, lists)
            edus.handlers["m.direct_to_device"] = LettersThere(self.letterbox)
            edus.must_arrive.add("m.direct_to_device")

    async def start(self) -> None:
        """Take up what was left undone."""
        if self.remote is not None:
            await self.remote.resyncs.start()

    async def close(self) -> None:
        """Begin nothing more."""
        if self.remote is not None:
            self.remote.resyncs.close()

    async def account_registered(self, user_id: str, displayname: str | None) -> None:
        """A new account has nothing of all this (`homeserver.accounts.ports.AccountListener`)."""

    async def account_deactivated(self, user_id: str, *, erase: bool) -> None:
        """The account is closed: its devices are gone already, and nobody can use the rest."""
        await self.dehydrated.forget(user_id)
        await self.signing.forget(user_id)
        await self.backups.forget(user_id)

    def collaborators(self) -> Mapping[type[Any], object]:
        """What handlers take, by type."""
        friends: list[object] = [
            self.letterbox,
            self.news,
            self.uploads,
            self.claims,
            self.queries,
            self.signing,
            self.backups,
            self.dehydrated,
            self.served,
        ]
        return {type(friend): friend for friend in friends}


def build_devices(settings: Settings, database: Database, hub: Hub) -> DeviceParts:
    states = DeviceStates(hub, database)
    log = ChangeLog(hub.position)
    lists = DeviceLists(hub, database, log, states, shows_names=settings.federation.share_device_names)
    return DeviceParts(states, log, lists)


def build_encryption(
    settings: Settings,
    devices: DeviceParts,
    *,
    database: Database,
    hub: Hub,
    clock: Clock,
    tasks: Tasks,
    door: Door,
    rooms: Rooms,
    transactions: TransactionLog,
    whereabouts: Whereabouts,
    federation: tuple[FederationClient, Patience] | None,
) -> Encryption:
    """Put everything together, and have it see who moves where."""
    server_name = settings.server.name
    letterbox = Letterbox(database, devices.states, transactions, clock, tasks, server_name)
    news = DeviceNews(database, rooms, devices.log, whereabouts)
    claims = KeyClaims(database, devices.states, clock)
    remote: RemoteEncryption | None = None
    if federation is not None:
        client, patience = federation
        remote = build_remote(
            devices.lists,
            client=client,
            patience=patience,
            database=database,
            rooms=rooms,
            hub=hub,
            tasks=tasks,
            timers=clock.timers,
        )
    elsewhere: Elsewhere = NobodyElsewhere() if remote is None else remote.asked
    remote_keys: RemoteKeys = NoRemoteKeys() if remote is None else remote.asked
    return Encryption(
        devices=devices,
        sections=EncryptionSections(devices.states, letterbox, news),
        letterbox=letterbox,
        news=news,
        uploads=KeyUploads(devices.lists, devices.states, clock),
        claims=claims,
        queries=KeyQueries(database, server_name, claims, elsewhere),
        signing=CrossSigning(database, devices.lists, server_name, remote_keys),
        backups=KeyBackups(database),
        dehydrated=DehydratedDevices(database, devices.lists, letterbox, hub, clock),
        served=ServedKeys(database, claims, server_name, settings.federation.share_device_names),
        remote=remote,
    )
