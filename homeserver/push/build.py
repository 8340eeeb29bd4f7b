"""Puts push together."""

from __future__ import annotations

from typing import Any

import structlog

from config import Settings
from federation.outbound.web import Web
from federation.service import service
from homeserver.about import About
from homeserver.clock import Clock
from homeserver.ephemeral.receipts import ReceiptBoard
from homeserver.mail.letters import Letters
from homeserver.mail.post import SmtpPost
from homeserver.push.activation import Activation
from homeserver.push.book import RuleBook, first_rules
from homeserver.push.consent import Consent
from homeserver.push.delivery import Delivery
from homeserver.push.digests import Digests
from homeserver.push.followers import Followers
from homeserver.push.gateways import Gateways
from homeserver.push.kinds import HTTP, WEB_PUSH
from homeserver.push.ledger import Ledger
from homeserver.push.listing import Notifications
from homeserver.push.missed import Misses
from homeserver.push.naming import Naming
from homeserver.push.people import People
from homeserver.push.ports import Carrier, RoleMentions
from homeserver.push.pushers import Pushers
from homeserver.push.rules import TYPE
from homeserver.push.vapid import Vapid
from homeserver.push.watch import Watch
from homeserver.push.web_push import WebPush
from homeserver.records.deliveries import Deliveries
from homeserver.rooms.accept import Door
from homeserver.rooms.registry import Rooms
from homeserver.streams.hub import Hub
from homeserver.tasks import Tasks
from homeserver.userdata.account_data import AccountData
from storage.database import Database

CAPABILITY = "org.matrix.msc4174.webpush"

log = structlog.get_logger("homeserver.push")


@service
class Push:
    """The services of `homeserver.push`."""

    book: RuleBook
    followers: Followers
    ledger: Ledger
    watch: Watch
    notifications: Notifications
    pushers: Pushers
    delivery: Delivery
    activation: Activation
    consent: Consent
    digests: Digests

    async def start(self) -> None:
        await self.watch.start()
        await self.pushers.start()
        await self.delivery.start()
        await self.digests.start()

    async def close(self) -> None:
        self.digests.close()
        await self.watch.close()

    def collaborators(self) -> dict[type, object]:
        """What handlers ask for, by type."""
        mine = (
            self.book, self.ledger, self.watch, self.notifications, self.pushers, self.activation, self.consent,
        )  # fmt: skip
        return {type(one): one for one in mine}


def build_push(
    settings: Settings,
    web: Web,
    account_data: AccountData,
    receipts: ReceiptBoard,
    door: Door,
    about: About,
    *,
    database: Database,
    hub: Hub,
    rooms: Rooms,
    clock: Clock,
    tasks: Tasks,
    roles: RoleMentions,
    deliveries: Deliveries,
    reactor: Any,
) -> Push:
    """Its listeners take their places, but for those of accounts and devices: `watch` and `pushers`."""
    about.unstable_features["org.matrix.msc4174"] = True
    account_data.from_birth[TYPE] = first_rules
    people = People()
    followers = Followers()
    ledger = Ledger(database, clock.timers, tasks, people)
    watch = Watch(database, hub, rooms, door.events, people, followers, ledger, door.identity.server_name, roles)
    account_data.listeners.append(watch.data_changed)
    receipts.listeners.append(ledger)
    door.observers.append(watch)
    notifications = Notifications(database, door.events, people, ledger)
    allows_plain = settings.web.allow_loopback or bool(settings.web.allowed_private_ranges)
    pushers = Pushers(database, hub, clock, allows_plain)
    vapid = Vapid(database, clock, about.contact())
    about.more_capabilities[CAPABILITY] = vapid.capability
    web_push = WebPush(web, vapid, allows_plain)
    carriers: dict[str, Carrier] = {HTTP: Gateways(web, allows_plain), **dict.fromkeys(WEB_PUSH, web_push)}
    naming = Naming(database, rooms, door.events)
    delivery = Delivery(pushers, carriers, clock, tasks, ledger, notifications, naming, deliveries)
    watch.listeners.append(delivery)
    activation = Activation(pushers, delivery, web_push, clock, tasks)
    post = SmtpPost(settings.email, reactor)
    letters = _letters(settings)
    consent = Consent(pushers, delivery, post, letters, database, clock, tasks)
    misses = Misses(database, notifications, naming, settings.email)
    digests = Digests(settings.email, pushers, misses, post, letters, database, clock, tasks)
    watch.listeners.append(digests)
    return Push(
        book=RuleBook(account_data),
        followers=followers,
        ledger=ledger,
        watch=watch,
        notifications=notifications,
        pushers=pushers,
        delivery=delivery,
        activation=activation,
        consent=consent,
        digests=digests,
    )


def _letters(settings: Settings) -> Letters | None:
    """None where something is missing that mail needs."""
    email, base_url = settings.email, settings.server.public_baseurl
    if email.smtp_host is None:
        return None
    if email.sender is None or base_url is None:
        log.warning("no mail is sent: email.sender and server.public_baseurl are needed, too")
        return None
    return Letters(email.sender, base_url, settings.server.name)
