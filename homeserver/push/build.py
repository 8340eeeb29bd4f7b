"""Puts push together."""

from __future__ import annotations

from attrs import frozen

from config import Settings
from federation.outbound.web import Web
from homeserver.clock import Clock
from homeserver.ephemeral.receipts import ReceiptBoard
from homeserver.push.book import RuleBook, first_rules
from homeserver.push.delivery import Delivery
from homeserver.push.ledger import Ledger
from homeserver.push.listing import Notifications
from homeserver.push.people import People
from homeserver.push.ports import no_roles
from homeserver.push.pushers import Pushers
from homeserver.push.rules import TYPE
from homeserver.push.watch import Watch
from homeserver.rooms.accept import Door
from homeserver.rooms.registry import Rooms
from homeserver.streams.hub import Hub
from homeserver.tasks import Tasks
from homeserver.userdata.account_data import AccountData
from storage.database import Database


@frozen
class Push:
    """The services of `homeserver.push`."""

    book: RuleBook
    ledger: Ledger
    watch: Watch
    notifications: Notifications
    pushers: Pushers
    delivery: Delivery

    async def start(self) -> None:
        await self.watch.start()
        await self.delivery.start()

    async def close(self) -> None:
        await self.watch.close()

    def collaborators(self) -> dict[type, object]:
        """What handlers ask for, by type."""
        return {type(one): one for one in (self.book, self.ledger, self.watch, self.notifications, self.pushers)}


def build_push(
    settings: Settings,
    web: Web,
    account_data: AccountData,
    receipts: ReceiptBoard,
    door: Door,
    *,
    database: Database,
    hub: Hub,
    rooms: Rooms,
    clock: Clock,
    tasks: Tasks,
) -> Push:
    """Its listeners take their places, but for those of accounts and devices: `watch` and `pushers`."""
    account_data.from_birth[TYPE] = first_rules
    people = People()
    ledger = Ledger(database, clock.timers, tasks, people)
    watch = Watch(database, hub, rooms, door.events, people, ledger, door.identity.server_name, no_roles)
    account_data.listeners.append(watch.data_changed)
    receipts.listeners.append(ledger)
    door.observers.append(watch)
    notifications = Notifications(database, door.events, people, ledger)
    allows_plain = settings.web.allow_loopback or bool(settings.web.allowed_private_ranges)
    pushers = Pushers(database, hub, clock, allows_plain)
    delivery = Delivery(pushers, web, clock, tasks, ledger, notifications, rooms, door.events)
    watch.listeners.append(delivery)
    return Push(RuleBook(account_data), ledger, watch, notifications, pushers, delivery)
