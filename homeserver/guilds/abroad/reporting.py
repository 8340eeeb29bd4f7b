"""What people here report in a guild that lives elsewhere is for those to see who moderate there, too."""

from __future__ import annotations

from urllib.parse import quote

import structlog

from federation.service import service
from homeserver.errors import MatrixError
from homeserver.guilds.abroad.errands import Errands
from homeserver.guilds.steward import guild_id_of
from homeserver.rooms.registry import Rooms
from homeserver.tasks import Tasks
from storage.reports import NewReport

log = structlog.get_logger("homeserver.guilds")


@service
class Reporting:
    """A listener of `homeserver.reports`."""

    rooms: Rooms
    errands: Errands
    tasks: Tasks

    def reported(self, report: NewReport) -> None:
        if report.room_id is not None:
            self.tasks.spawn("guild.report", self._pass_on(report, report.room_id))

    async def _pass_on(self, report: NewReport, room_id: str) -> None:
        room = await self.rooms.get(room_id)
        guild_id = None if room is None else guild_id_of(room)
        server = None if guild_id is None else await self.errands.home_of(guild_id, report.reporter)
        if guild_id is None or server is None:
            return
        params = {"room_id": room_id, "event_id": report.event_id, "reason": report.reason}
        try:
            action = f"POST guilds/{quote(guild_id, safe='')}/reports"
            await self.errands.run(server, guild_id, report.reporter, action, params)
        except MatrixError as error:
            log.warning("a report could not be passed on", guild=guild_id, why=error.error)
