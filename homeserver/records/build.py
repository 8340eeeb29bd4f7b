"""Puts together what is told of rooms beside their events."""

from __future__ import annotations

from attrs import frozen

from config import Settings
from homeserver.clock import Clock
from homeserver.records.deliveries import Deliveries
from homeserver.records.exports import Exports
from homeserver.records.marks import MessageMarks
from homeserver.relations.bundles import Bundles
from homeserver.rooms.history import History
from storage.database import Database


@frozen
class Records:
    """The services of `homeserver.records`."""

    marks: MessageMarks
    exports: Exports

    def collaborators(self) -> dict[type, object]:
        """What handlers ask for, by type."""
        return {type(one): one for one in (self.marks, self.exports)}


def build_records(
    settings: Settings, database: Database, clock: Clock, history: History, bundles: Bundles, deliveries: Deliveries
) -> Records:
    base_url = (settings.server.public_baseurl or "").rstrip("/")
    return Records(
        marks=MessageMarks(database, history, deliveries),
        exports=Exports(database, history, bundles, history.events, clock, base_url),
    )
