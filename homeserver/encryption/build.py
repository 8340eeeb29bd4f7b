"""Puts encryption together, in two steps, since accounts stand on the first.

devices = build_devices(settings, database, hub)
accounts = build_accounts(..., book=devices.lists)
encryption = build_encryption(settings, devices, ...)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

from config import Settings
from homeserver.clock import Clock
from homeserver.encryption.backups import KeyBackups
from homeserver.encryption.claims import KeyClaims
from homeserver.encryption.dehydrated import DehydratedDevices
from homeserver.encryption.letters import Letterbox
from homeserver.encryption.lists import DeviceLists
from homeserver.encryption.log import ChangeLog
from homeserver.encryption.news import DeviceNews
from homeserver.encryption.queries import KeyQueries, NobodyElsewhere
from homeserver.encryption.sections import EncryptionSections
from homeserver.encryption.signing import CrossSigning, NoRemoteKeys
from homeserver.encryption.states import DeviceStates
from homeserver.encryption.uploads import KeyUploads
from homeserver.encryption.whereabouts import Whereabouts
from homeserver.rooms.accept import Door
from homeserver.rooms.registry import Rooms
from homeserver.rooms.transactions import TransactionLog
from homeserver.streams.hub import Hub
from homeserver.tasks import Tasks
from storage.database import Database


@frozen(eq=False)
class DeviceParts:
    """What knows of everybody's devices."""

    states: DeviceStates
    log: ChangeLog
    lists: DeviceLists


@frozen(eq=False)
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
) -> Encryption:
    """Put everything together, and have it see who moves where."""
    server_name = settings.server.name
    whereabouts = Whereabouts(database)
    door.observers.append(whereabouts)
    letterbox = Letterbox(database, devices.states, transactions, clock, tasks, server_name)
    news = DeviceNews(database, rooms, devices.log, whereabouts)
    claims = KeyClaims(database, devices.states, clock)
    return Encryption(
        devices=devices,
        sections=EncryptionSections(devices.states, letterbox, news),
        letterbox=letterbox,
        news=news,
        uploads=KeyUploads(devices.lists, devices.states, clock),
        claims=claims,
        queries=KeyQueries(database, server_name, claims, NobodyElsewhere()),
        signing=CrossSigning(database, devices.lists, server_name, NoRemoteKeys()),
        backups=KeyBackups(database),
        dehydrated=DehydratedDevices(database, devices.lists, letterbox, hub, clock),
    )
