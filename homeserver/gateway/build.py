"""Puts the gateway together, on top of `/sync`'s parts and the route table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

from config.gateway import Gateway as Settings
from homeserver.gateway.calls import Calls
from homeserver.gateway.connection import Services
from homeserver.gateway.frames import Frames
from homeserver.gateway.lobby import Lobby
from homeserver.gateway.stream import Stream
from homeserver.gateway.teller import Teller
from homeserver.gateway.views import Views
from homeserver.guilds.book import GuildBook
from homeserver.http.authenticate import Authenticate
from homeserver.http.limits import RateLimiter
from homeserver.http.table import RouteTable
from homeserver.rooms.access import RoomAccess
from homeserver.sync.engine import Sync
from homeserver.tasks import Tasks


@frozen(eq=False)
class Gateway:
    """Made by `build_gateway`; answers once `open` was called."""

    lobby: Lobby
    calls: Calls

    def collaborators(self) -> Mapping[type[Any], object]:
        return {Lobby: self.lobby}

    def open(self, table: RouteTable) -> None:
        self.calls.open(table)

    async def close(self) -> None:
        await self.lobby.close()


def build_gateway(
    settings: Settings,
    sync: Sync,
    *,
    book: GuildBook,
    access: RoomAccess,
    authenticate: Authenticate,
    limits: RateLimiter,
    tasks: Tasks,
    reactor: Any,
) -> Gateway:
    """`reactor` keeps the time of connections."""
    calls = Calls(limits)
    views = Views(calls, access, sync.presence)
    calls.others.update({"room.subscribe": views.subscribe, "room.unsubscribe": views.unsubscribe})
    teller = Teller(sync.rooms, sync.events, book, sync.database)
    services = Services(
        sync.clock,
        sync.hub,
        sync.feeds,
        sync.rooms,
        authenticate,
        limits,
        sync.presence,
        tasks,
        Stream(sync, teller, Frames(sync.events)),
        calls,
    )
    return Gateway(Lobby(settings, services, reactor), calls)
