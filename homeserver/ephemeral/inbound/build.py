"""Puts together who listens to what passes elsewhere."""

from __future__ import annotations

from config import Presence
from homeserver.clock import Clock
from homeserver.ephemeral.inbound.presence import PresenceThere
from homeserver.ephemeral.inbound.receipts import ReceiptsThere
from homeserver.ephemeral.inbound.typing import TypingThere
from homeserver.ephemeral.presence import PresenceBoard
from homeserver.ephemeral.typing import TypingBoard
from homeserver.rooms.accept import Door
from homeserver.rooms.serve.access import PeerAccess
from homeserver.rooms.serve.edus import Edus
from homeserver.tasks import Tasks
from homeserver.userdata.read_markers import ReadMarkers


def listen_to_others(
    edus: Edus,
    door: Door,
    access: PeerAccess,
    *,
    settings: Presence,
    clock: Clock,
    tasks: Tasks,
    typing: TypingBoard,
    presence: PresenceBoard,
    markers: ReadMarkers,
) -> None:
    """Have typing, receipts and, where that is on, presence of other servers taken."""
    receipts = ReceiptsThere(access, markers, clock, tasks)
    door.observers.append(receipts)
    edus.handlers["m.typing"] = TypingThere(access, typing)
    edus.handlers["m.receipt"] = receipts
    if settings.enabled and settings.federated:
        edus.handlers["m.presence"] = PresenceThere(presence)
