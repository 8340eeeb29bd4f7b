"""Puts the gateway together, on top of `/sync`'s parts and the route table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from config.gateway import Gateway as Settings
from federation.service import service
from homeserver.delayed.clockwork import Clockwork
from homeserver.gateway.calls import Calls
from homeserver.gateway.connection import Services
from homeserver.gateway.frames import Frames
from homeserver.gateway.lobby import Lobby
from homeserver.gateway.stream import Stream
from homeserver.gateway.teller import Teller
from homeserver.gateway.views import Views
from homeserver.gateway.voice.booth import Roll
from homeserver.gateway.voice.desk import VoiceDesk
from homeserver.gateway.voice.memberships import Memberships as CallMemberships
from homeserver.guilds.book import GuildBook
from homeserver.http.authenticate import Authenticate
from homeserver.http.limits import RateLimiter
from homeserver.http.table import RouteTable
from homeserver.rooms.access import RoomAccess
from homeserver.sync.engine import Sync
from homeserver.tasks import Tasks


@service
class Gateway:
    """Made by `build_gateway`; answers once `open` was called."""

    lobby: Lobby
    calls: Calls
    voice: VoiceDesk

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
    clockwork: Clockwork,
    limits: RateLimiter,
    tasks: Tasks,
    reactor: Any,
) -> Gateway:
    """`reactor` keeps the time of connections."""
    calls = Calls(limits)
    roll = Roll(CallMemberships(sync.events, sync.clock))
    views = Views(calls, access, sync.presence, roll)
    teller = Teller(sync.rooms, sync.events, book, sync.database, roll)
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
    lobby = Lobby(settings, services, reactor)
    voice = VoiceDesk(calls, access, book, clockwork, limits, lobby, sync.clock, roll)
    lobby.rounds.append(voice.beat)
    lobby.returns.append(voice.show)
    calls.others.update(
        {
            "room.subscribe": views.subscribe,
            "room.unsubscribe": views.unsubscribe,
            "voice.join": voice.join,
            "voice.leave": voice.leave,
            "voice.state": voice.set_state,
            "voice.signal": voice.signal,
            "voice.moderate": voice.moderate,
        }
    )
    return Gateway(lobby, calls, voice)
