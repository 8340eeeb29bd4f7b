"""Puts together what is told of rooms beside their events."""

from __future__ import annotations

from config import Settings
from federation.service import service
from homeserver.clock import Clock
from homeserver.records.activity import Activity
from homeserver.records.deliveries import Deliveries
from homeserver.records.exports import Exports
from homeserver.records.marks import MessageMarks
from homeserver.relations.bundles import Bundles
from homeserver.rooms.accept import Door
from homeserver.rooms.history import History
from storage.database import Database


@service
class Records:
    """The services of `homeserver.records`."""

    deliveries: Deliveries
    activity: Activity
    marks: MessageMarks
    exports: Exports

    def collaborators(self) -> dict[type, object]:
        """What handlers ask for, by type."""
        return {type(one): one for one in (self.activity, self.marks, self.exports)}

    async def start(self) -> None:
        await self.activity.start()

    async def tidy(self) -> None:
        """What is due every minute, and before the database closes."""
        await self.deliveries.tidy()
        await self.activity.write()

    async def forget_old(self) -> None:
        """What is due every day."""
        await self.deliveries.forget_old()
        await self.activity.forget_old()


def build_records(
    settings: Settings,
    database: Database,
    clock: Clock,
    door: Door,
    history: History,
    bundles: Bundles,
    deliveries: Deliveries,
) -> Records:
    """Its observer takes its place."""
    base_url = (settings.server.public_baseurl or "").rstrip("/")
    activity = Activity(database, history.access.rooms, history.hub, clock)
    door.observers.append(activity)
    return Records(
        deliveries=deliveries,
        activity=activity,
        marks=MessageMarks(database, history, deliveries),
        exports=Exports(database, history, bundles, history.events, clock, base_url),
    )
