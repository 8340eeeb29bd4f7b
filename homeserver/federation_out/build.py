"""Puts together what goes out to other servers by itself.

sending = build_sender(settings, database=..., ...)      Delivery's `Outbox` is `sending.sender`
await sending.start()      after the database is open and before the listeners are
await sending.close()      before the background tasks are ended and the database closes
"""

from __future__ import annotations

from random import Random

from config import Settings
from federation.outbound.client import FederationClient
from federation.outbound.parcels import Courier
from federation.outbound.sender import Sender
from federation.outbound.transactions import Transactions
from federation.service import service
from homeserver.clock import Clock
from homeserver.encryption.build import Encryption
from homeserver.ephemeral.presence import PresenceBoard
from homeserver.ephemeral.receipts import ReceiptBoard
from homeserver.ephemeral.typing import TypingBoard
from homeserver.federation_out.devices import DeviceNewsOut
from homeserver.federation_out.ledger import OutboundLedger
from homeserver.federation_out.passing import PassingThings
from homeserver.observe.metrics import Metrics
from homeserver.rooms.accept import Door
from homeserver.rooms.registry import Rooms
from homeserver.streams.hub import Hub
from homeserver.tasks import Tasks
from storage.database import Database


@service
class Sending:
    """Everything that goes out by itself."""

    sender: Sender
    passing: PassingThings

    async def start(self) -> None:
        """Find out who is owed what and begin."""
        await self.sender.start()

    async def close(self) -> None:
        """Begin nothing more, and write down what was not delivered."""
        await self.sender.close()


def build_sender(
    settings: Settings,
    *,
    courier: Courier,
    database: Database,
    rooms: Rooms,
    hub: Hub,
    clock: Clock,
    tasks: Tasks,
    random: Random,
    typing: TypingBoard,
    receipts: ReceiptBoard,
    presence: PresenceBoard,
    door: Door,
    encryption: Encryption,
) -> Sending:
    """Build it, and have it listen to the boards. `courier` is `make_courier(client)`, or a simulation's own."""
    name = settings.server.name
    lists = encryption.devices.lists
    devices = DeviceNewsOut(name, rooms, hub, database, lists, clock.timers, tasks.spawn)
    sender = Sender(
        server_name=name,
        courier=courier,
        ledger=OutboundLedger(name, database, rooms, hub, lists),
        timers=clock.timers,
        now_ms=clock.now_ms,
        random=random,
        spawn=tasks.spawn,
        position=devices.floor,
    )
    devices.send_by(sender)
    lists.listeners.append(devices)
    door.observers.append(devices)
    encryption.letterbox.post = sender
    if encryption.remote is not None:
        encryption.remote.asked.is_given_up = sender.is_given_up
    passing = PassingThings(name, sender, rooms, clock.timers, tasks.spawn, settings.presence.federated)
    typing.listeners.append(passing)
    receipts.listeners.append(passing)
    presence.listeners.append(passing)
    return Sending(sender, passing)


def make_courier(client: FederationClient) -> Courier:
    """Deliver over HTTP."""
    return Transactions(client)


def register_figures(metrics: Metrics, sender: Sender) -> None:
    """What a scrape asks for."""
    metrics.gauge("peers_remembered", "Servers with something to tell, or failing.", lambda: sender.destination_count)
    metrics.gauge("peers_failing", "Servers that did not answer the last time.", lambda: sender.failing_count)
    metrics.gauge("peers_sending", "Transactions under way.", lambda: sender.sending)
    metrics.gauge("queued_pdus", "Places of events in the queues of all servers.", lambda: sender.queued_pdus)
    metrics.gauge("queued_pdu_bytes", "What these events take.", lambda: sender.queued_bytes)
